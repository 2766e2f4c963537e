#include "tokenizer/bpe_trainer.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/random.h"
#include "tokenizer/byte_level.h"

namespace baleen {
namespace {

constexpr int32_t kNumReserved = 3;

// As "left right" in byte-level spelling.
std::vector<std::string> Spelled(const TrainedBpe& bpe) {
  std::vector<std::string> merges;
  for (const auto& [left, right] : bpe.merges) {
    std::string& merge = merges.emplace_back();
    AppendByteLevel(bpe.tokens[static_cast<size_t>(left)], &merge);
    merge += ' ';
    AppendByteLevel(bpe.tokens[static_cast<size_t>(right)], &merge);
  }
  return merges;
}

TrainedBpe Train(const std::vector<std::string>& words, int32_t vocab_size, uint64_t min_count) {
  WordCounts counts;
  for (const std::string& word : words) counts.Add(word);
  return TrainBpe(std::move(counts), {vocab_size, 0, min_count}, [](size_t, size_t) {});
}

// What `tokenizers` made of the same documents (tools/golden/bpe_training.py).
struct GoldenCase {
  std::vector<std::string_view> documents;
  std::vector<std::string> merges;
  uint64_t min_count;
  int64_t vocab_size;
  std::vector<std::pair<int32_t, size_t>> num_merges;  // of each vocabulary size
};

template <typename Visit>
void ForEachGoldenCase(Visit visit) {
  const std::string path = BALEEN_SOURCE_DIR "/tests/golden/bpe_training.json";
  const JsonDocument file = JsonDocument::Parse(ReadFile(path, size_t{1} << 24), path);
  for (const auto [name, value] : simdjson::dom::object(file.object()["cases"])) {
    GoldenCase golden;
    for (const std::string_view text : value["documents"]) golden.documents.push_back(text);
    for (const std::string_view merge : value["merges"]) golden.merges.emplace_back(merge);
    golden.min_count = value["min_count"];
    golden.vocab_size = value["vocab_size"];
    for (const auto [size, count] : simdjson::dom::object(value["num_merges"])) {
      golden.num_merges.emplace_back(std::stoi(std::string(size)), uint64_t(count));
    }
    visit(name, golden);
  }
}

WordCounts Count(const std::vector<std::string_view>& documents) {
  WordCounts counts;
  for (const std::string_view text : documents) counts.AddText(PreTokenizer::kDeepseekV3, text);
  return counts;
}

TEST(BpeTrainerTest, MergesAreThoseOfTokenizers) {
  size_t num_cases = 0;
  ForEachGoldenCase([&](std::string_view name, const GoldenCase& golden) {
    for (const auto& [vocab_size, num_merges] : golden.num_merges) {
      SCOPED_TRACE(fmt::format("{}, {} tokens", name, vocab_size));
      const TrainedBpe bpe =
          TrainBpe(Count(golden.documents), {vocab_size, kNumReserved, golden.min_count},
                   [](size_t, size_t) {});
      const std::vector<std::string> expected(
          golden.merges.begin(), golden.merges.begin() + static_cast<ptrdiff_t>(num_merges));
      EXPECT_EQ(Spelled(bpe), expected);
      EXPECT_EQ(bpe.tokens.size(), kNumReserved + 256 + num_merges);
      ++num_cases;
    }
  });
  EXPECT_GE(num_cases, 14u);
}

TEST(BpeTrainerTest, AnotherDocumentGivesOtherMerges) {
  ForEachGoldenCase([&](std::string_view name, const GoldenCase& golden) {
    std::vector<std::string_view> documents = golden.documents;
    documents.insert(documents.end(), 50, "zq zq zq");
    const TrainedBpe bpe = TrainBpe(
        Count(documents), {static_cast<int32_t>(golden.vocab_size), kNumReserved, golden.min_count},
        [](size_t, size_t) {});
    EXPECT_NE(Spelled(bpe), golden.merges) << name;
  });
}

TEST(BpeTrainerTest, MostFrequentPairFirstThenLowerIds) {
  // ab: 3, bc: 2 (as often as cd, but of lower ids once "ab" is made: b is before c).
  const TrainedBpe bpe = Train({"ab", "ab", "ab", "cd", "cd", "bc", "bc"}, 300, 0);
  EXPECT_EQ(Spelled(bpe), (std::vector<std::string>{"a b", "b c", "c d"}));
}

TEST(BpeTrainerTest, RareAndMissingPairsEndTheTraining) {
  EXPECT_EQ(Spelled(Train({"ab", "ab", "cd"}, 300, 2)), (std::vector<std::string>{"a b"}));
  EXPECT_EQ(Train({"a", "b"}, 300, 0).tokens.size(), 256u);
  EXPECT_EQ(Train({}, 300, 0).tokens.size(), 256u);
  EXPECT_EQ(Train({"abcd", "abcd"}, 257, 0).tokens.size(), 257u);
}

TEST(BpeTrainerTest, BytesThatAreNoTextAreMergedToo) {
  const TrainedBpe bpe = Train({"\xFF\xFE", "\xFF\xFE", std::string("\0x", 2)}, 257, 0);
  EXPECT_EQ(bpe.tokens.back(), "\xFF\xFE");
}

// The queue has one entry a pair because no text is made by two merges; words of few letters would
// show it if it were otherwise.
TEST(BpeTrainerTest, EachTokenIsMadeOnce) {
  for (uint64_t seed = 0; seed < 500; ++seed) {
    Random random(seed);
    std::vector<std::string> words;
    const uint64_t num_letters = 1 + random.Below(3);
    for (uint64_t i = 1 + random.Below(12); i > 0; --i) {
      std::string word;
      for (uint64_t n = 2 + random.Below(24); n > 0; --n) {
        word += static_cast<char>('a' + random.Below(num_letters));
      }
      words.insert(words.end(), 1 + random.Below(5), word);
    }
    const TrainedBpe bpe = Train(words, 5000, 0);
    const std::set<std::string> texts(bpe.tokens.begin(), bpe.tokens.end());
    EXPECT_EQ(texts.size(), bpe.tokens.size()) << "seed " << seed;
    for (const std::string& word : words) EXPECT_TRUE(texts.contains(word)) << "seed " << seed;
  }
}

}  // namespace
}  // namespace baleen
