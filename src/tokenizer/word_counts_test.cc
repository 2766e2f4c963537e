#include "tokenizer/word_counts.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <string_view>

namespace baleen {
namespace {

std::map<std::string, uint64_t> ToMap(const WordCounts& counts) {
  std::map<std::string, uint64_t> map;
  for (const WordCounts::Entry& entry : counts.entries()) {
    EXPECT_TRUE(map.emplace(entry.word(), entry.count).second) << entry.word() << " comes twice";
  }
  return map;
}

TEST(WordCountsTest, CountsThePiecesOfTexts) {
  WordCounts counts;
  counts.AddText(PreTokenizer::kDeepseekV3, "the cat the cat");
  counts.AddText(PreTokenizer::kDeepseekV3, " cat");
  EXPECT_EQ(ToMap(counts), (std::map<std::string, uint64_t>{{"the", 1}, {" cat", 3}, {" the", 1}}));
  EXPECT_EQ(counts.num_words(), 5u);
  EXPECT_EQ(counts.num_dropped(), 0u);
}

TEST(WordCountsTest, HoldsManyWordsOfAllLengths) {
  WordCounts counts;
  for (int round = 0; round < 2; ++round) {
    for (size_t i = 0; i < 20000; ++i) counts.Add(fmt::format("{}{}", i, std::string(i % 97, 'x')));
  }
  const std::string long_word(3'000'000, 'y');
  counts.Add(long_word);
  const auto map = ToMap(counts);
  EXPECT_EQ(map.size(), 20001u);
  EXPECT_EQ(map.at("19999" + std::string(19999 % 97, 'x')), 2u);
  EXPECT_EQ(map.at(long_word), 1u);
}

TEST(WordCountsTest, DropsTheRarestWhenMemoryIsUsedUp) {
  WordCounts counts(WordCounts::kMinMaxBytes);
  for (size_t i = 0; i < 50000; ++i) {
    counts.Add(fmt::format("rare {}", i));
    if (i % 10 == 0) counts.Add("frequent");
  }
  const auto map = ToMap(counts);
  EXPECT_EQ(map.at("frequent"), 5000u);
  EXPECT_LT(map.size() * sizeof(WordCounts::Entry), WordCounts::kMinMaxBytes);
  uint64_t kept = 0;
  for (const auto& [word, count] : map) kept += count;
  EXPECT_EQ(kept + counts.num_dropped(), counts.num_words());
  EXPECT_GT(counts.num_dropped(), 0u);
}

TEST(WordCountsTest, AWordLargerThanTheMemoryIsTaken) {
  WordCounts counts(WordCounts::kMinMaxBytes);
  const std::string word(10 * WordCounts::kMinMaxBytes, 'w');
  counts.Add(word);
  counts.Add(word);
  counts.Add("a");
  EXPECT_EQ(ToMap(counts).at("a"), 1u);
}

TEST(WordCountsTest, SafeCutsChangeNoPiece) {
  const PreTokenizer v3 = PreTokenizer::kDeepseekV3;
  const std::string text =
      "def f(x):\n    return 1\n\n\nx = f(2)\n}\n\t\n)]\r\n\r\n\xE3\x80\x80word\n\xCC\x81y 12\n345"
      "\n\xE4\xB8\xAD\n\xFF\n";
  const auto pieces = [&](std::initializer_list<std::string_view> parts) {
    WordCounts counts;
    for (const std::string_view part : parts) counts.AddText(v3, part);
    return ToMap(counts);
  };
  const auto whole = pieces({text});
  size_t num_cuts = 0;
  size_t num_unsafe = 0;  // where a cut does change the pieces
  for (size_t pos = 1; pos < text.size(); ++pos) {
    const auto parts = pieces({text.substr(0, pos), text.substr(pos)});
    num_unsafe += parts != whole;
    if (!IsSafeCut(v3, text, pos)) continue;
    ++num_cuts;
    EXPECT_EQ(parts, whole) << pos;
  }
  EXPECT_EQ(num_cuts, 7u);
  EXPECT_GT(num_unsafe, 10u);
}

}  // namespace
}  // namespace baleen
