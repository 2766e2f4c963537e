#include "tokenizer/pre_tokenizer.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/pre_tokenizer_patterns.h"

namespace baleen {
namespace {

// The pieces, with | between them.
std::string Pieces(PreTokenizer pre_tokenizer, std::string_view text) {
  std::vector<uint32_t> ends{7};  // is to be replaced
  SplitIntoPieces(pre_tokenizer, text, &ends);
  std::string joined;
  size_t begin = 0;
  for (const size_t end : ends) {
    EXPECT_LT(begin, end);
    if (begin > 0) joined += '|';
    joined += text.substr(begin, end - begin);
    begin = end;
  }
  EXPECT_EQ(begin, text.size());
  return joined;
}

// Worked out by hand from the patterns; the differential test has the breadth.
TEST(PreTokenizerTest, DeepseekV3) {
  const auto split = [](std::string_view text) { return Pieces(PreTokenizer::kDeepseekV3, text); };
  EXPECT_EQ(split(""), "");
  EXPECT_EQ(split("Hello world"), "Hello| world");
  EXPECT_EQ(split("it's .Net"), "it|'s| .|Net");
  EXPECT_EQ(split("12345"), "123|45");
  EXPECT_EQ(split("a   b"), "a|  | b");
  EXPECT_EQ(split("a  \n b  "), "a|  \n| b|  ");
  EXPECT_EQ(split("a 1"), "a| |1");  // the end of a piece is the end of text for \s+(?!\S)
  EXPECT_EQ(split("x =\r\n\r\ny"), "x| =\r\n\r\n|y");
  EXPECT_EQ(split("日本語です。はい"), "日本語です|。|はい");
  EXPECT_EQ(split(" 中文"), " |中文");
  EXPECT_EQ(split("スーパー・マン"), "スーパー|・|マン");
  EXPECT_EQ(split("\x01\x02 x"), "\x01\x02| x");
}

TEST(PreTokenizerTest, DeepseekLlm) {
  const auto split = [](std::string_view text) { return Pieces(PreTokenizer::kDeepseekLlm, text); };
  EXPECT_EQ(split("Hello world, 12"), "Hello| world|,| |1|2");
  EXPECT_EQ(split("a\n\nb"), "a|\n|\n|b");
  EXPECT_EQ(split("a  b"), "a| | b");
  EXPECT_EQ(split("中文 한글"), "中文| |한글");
  EXPECT_EQ(split("x  "), "x|  ");
}

// The examples of spec/formats.md section 9.3.
TEST(PreTokenizerTest, Kimi) {
  const auto split = [](std::string_view text) { return Pieces(PreTokenizer::kKimi, text); };
  EXPECT_EQ(split("1〇〇〇"), "1〇〇|〇");
  EXPECT_EQ(split(" ⺀x"), " ⺀|x");
  EXPECT_EQ(split("中⺀"), "中⺀");
  EXPECT_EQ(split("x々y"), "x|々|y");
  EXPECT_EQ(split(" 中文"), " |中文");
  EXPECT_EQ(split("中文字。日本語です"), "中文字|。|日本語|です");
  EXPECT_EQ(split("getUserName"), "get|User|Name");
  EXPECT_EQ(split("iPhone HTMLParser"), "i|Phone| HTMLParser");
  EXPECT_EQ(split("don't 1's DON\u2019T"), "don't| |1|'s| DON|\u2019T");
  EXPECT_EQ(split("we'LL it'\u017F a'l"), "we'LL| it'\u017F| a|'l");
}

TEST(PreTokenizerTest, KimiIsCutAt25000OfAKindAndAt400000) {
  const auto num_pieces = [](PreTokenizer pre_tokenizer, const std::string& text) {
    std::vector<uint32_t> ends;
    SplitIntoPieces(pre_tokenizer, text, &ends);
    return ends.size();
  };
  EXPECT_EQ(num_pieces(PreTokenizer::kKimi, std::string(25001, 'x')), 1u);
  EXPECT_EQ(num_pieces(PreTokenizer::kKimiChunked, std::string(25000, 'x')), 1u);
  EXPECT_EQ(num_pieces(PreTokenizer::kKimiChunked, std::string(25001, 'x')), 2u);
  EXPECT_EQ(num_pieces(PreTokenizer::kKimiChunked, std::string(50000, 'x') + " y"), 3u);
  std::string words;
  for (int i = 0; i < 40000; ++i) words += "word12345 ";  // 400,000 characters
  EXPECT_EQ(Pieces(PreTokenizer::kKimiChunked, words + "a"),
            Pieces(PreTokenizer::kKimiChunked, words) + "|a");
  EXPECT_EQ(Pieces(PreTokenizer::kKimi, words + "a").size(), (words + "a").size() + 40000 * 3);
}

TEST(PreTokenizerTest, BrokenUtf8IsCutWithoutLoss) {
  const std::string broken = "ab\xFF\xC3 \xE4\xB8 12\xF0\x9F\x98";
  for (const auto pre_tokenizer : {PreTokenizer::kDeepseekLlm, PreTokenizer::kDeepseekV3,
                                   PreTokenizer::kKimi, PreTokenizer::kKimiChunked}) {
    Pieces(pre_tokenizer, broken);
  }
}

TEST(RecognizePreTokenizerTest, RefusesWhatDiffersByOneCharacter) {
  using Kind = PreTokenizerStep::Kind;
  std::vector<PreTokenizerStep> steps{
      {Kind::kSplit, R"(\p{N}{1,3})"},
      {Kind::kSplit, "[一-龥぀-ゟ゠-ヿ]+"},
      {Kind::kSplit,
       "[!\"#$%&'()*+,\\-./"
       ":;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
       "?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"},
      {Kind::kByteLevel, ""}};
  EXPECT_EQ(RecognizePreTokenizer(steps), PreTokenizer::kDeepseekV3);
  for (size_t i = 0; i < 3; ++i) {
    std::vector<PreTokenizerStep> other = steps;
    other[i].pattern.pop_back();
    EXPECT_EQ(RecognizePreTokenizer(other), std::nullopt);
  }
  steps.pop_back();
  EXPECT_EQ(RecognizePreTokenizer(steps), std::nullopt);
  EXPECT_EQ(RecognizePreTokenizer({}), std::nullopt);
}

}  // namespace
}  // namespace baleen
