#include "training/fim.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "tokenizer/tokenizer_writer.h"

namespace baleen {
namespace {

std::string MakeTokenizerJson() {
  WordCounts words;
  words.AddText(PreTokenizer::kDeepseekV3, "def f(x):\n    return x\n");
  return TokenizerJson(
      TrainBpe(std::move(words), {280, kNumControlTokensInFront}, [](size_t, size_t) {}));
}

std::unique_ptr<Tokenizer> MakeTokenizer() {
  return Tokenizer::FromJson(MakeTokenizerJson(), "trained");
}

constexpr std::string_view kText =
    "def f(x):\n\n    return x + 1\n# Zo\xC3\xAB \xE4\xB8\xAD\xE6\x96\x87\nlast";

TEST(FimTest, PrefixSuffixMiddle) {
  const auto tokenizer = MakeTokenizer();
  const FimEncoder fim(*tokenizer, 0);
  std::set<std::string> middles;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Random random(seed);
    std::vector<int32_t> ids;
    fim.Append(kText, &random, &ids);
    const std::string text = tokenizer->Decode(ids, false);
    const std::string begin = "<｜fim▁begin｜>", hole = "<｜fim▁hole｜>", end = "<｜fim▁end｜>";
    const size_t hole_at = text.find(hole), end_at = text.find(end);
    ASSERT_TRUE(text.starts_with(begin) && hole_at < end_at && end_at < text.size());
    const std::string prefix = text.substr(begin.size(), hole_at - begin.size());
    const std::string suffix = text.substr(hole_at + hole.size(), end_at - hole_at - hole.size());
    const std::string middle = text.substr(end_at + end.size());
    EXPECT_EQ(prefix + middle + suffix, kText);  // so no character was cut
    middles.insert(middle);
    EXPECT_EQ(std::count(ids.begin(), ids.end(), *tokenizer->TokenId(begin)), 1);
  }
  EXPECT_GT(middles.size(), 100u);
}

TEST(FimTest, LinesAreWholeAndNotBlank) {
  std::set<std::string> lines;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    Random random(seed);
    const auto [begin, end] = ChooseLine(kText, &random);
    lines.emplace(kText.substr(begin, end - begin));
  }
  EXPECT_EQ(lines, (std::set<std::string>{"def f(x):\n", "    return x + 1\n",
                                          "# Zo\xC3\xAB \xE4\xB8\xAD\xE6\x96\x87\n", "last"}));
  Random random(1);
  const auto [begin, end] = ChooseLine("\n \n", &random);
  EXPECT_TRUE(begin <= end && end <= 3);
}

TEST(FimTest, NamesInTheTextAreNoTokens) {
  const auto tokenizer = MakeTokenizer();
  Random random(1);
  std::vector<int32_t> ids;
  FimEncoder(*tokenizer, 1).Append("a <｜fim▁hole｜> b", &random, &ids);
  const int32_t hole = *tokenizer->TokenId("<｜fim▁hole｜>");
  EXPECT_EQ(std::count(ids.begin(), ids.end(), hole), 1);
}

TEST(FimTest, AVocabularyWithoutTheTokensIsRefused) {
  std::string json = MakeTokenizerJson();
  const std::string name = "<｜fim▁end｜>";
  json.replace(json.find(name), name.size(), "<｜end▁of▁turn｜>");
  const auto tokenizer = Tokenizer::FromJson(json, "without");
  try {
    FimEncoder(*tokenizer, 0);
    FAIL() << "was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(std::string(error.what()).find(name), std::string::npos);
  }
}

}  // namespace
}  // namespace baleen
