#include "training/near_duplicates.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/random.h"

namespace baleen {
namespace {

std::vector<std::string> RandomWords(uint64_t seed, size_t count) {
  Random random(seed);
  std::vector<std::string> words;
  for (size_t i = 0; i < count; ++i) words.push_back(fmt::format("w{}", random.Below(1'000'000)));
  return words;
}

std::string Join(const std::vector<std::string>& words, const char* separator = " ") {
  std::string text;
  for (const std::string& word : words) text += word + separator;
  return text;
}

// `num_changed` words, far from each other, become others: each takes 5 shingles away and brings 5.
std::string Changed(std::vector<std::string> words, size_t num_changed) {
  for (size_t i = 0; i < num_changed; ++i)
    words[(i + 1) * words.size() / (num_changed + 1)] = "new";
  return Join(words);
}

TEST(NearDuplicatesTest, ExactCopiesAndOtherLayoutsAreSeen) {
  NearDuplicates duplicates;
  const std::vector<std::string> words = RandomWords(1, 300);
  EXPECT_FALSE(duplicates.Seen(Join(words)));
  EXPECT_TRUE(duplicates.Seen(Join(words)));
  EXPECT_TRUE(duplicates.Seen(Join(words, ",\n\t")));
  EXPECT_FALSE(duplicates.Seen(Join(RandomWords(2, 300))));
}

// 400 words have 396 shingles. 4 changes: Jaccard 376 / 416 = 0.90; 20: 296 / 496 = 0.60.
TEST(NearDuplicatesTest, DrawsTheLineAtEightTenths) {
  size_t num_alike = 0;
  size_t num_unlike = 0;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const std::vector<std::string> words = RandomWords(seed, 400);
    NearDuplicates duplicates;
    EXPECT_FALSE(duplicates.Seen(Join(words)));
    num_unlike += duplicates.Seen(Changed(words, 20));
    num_alike += duplicates.Seen(Changed(words, 4));
  }
  EXPECT_GE(num_alike, 49u);
  EXPECT_EQ(num_unlike, 0u);
}

// Their sets hold few shingles, so that nearly all bins are borrowed.
TEST(NearDuplicatesTest, ShortTextsAreAlikeOnlyIfTheyAreEqual) {
  size_t num_wrong = 0;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    std::vector<std::string> words = RandomWords(seed, 7);  // 3 shingles
    NearDuplicates duplicates;
    EXPECT_FALSE(duplicates.Seen(Join(words)));
    EXPECT_TRUE(duplicates.Seen(Join(words)));
    words.back() = "other";  // 2 of 4 are common
    num_wrong += duplicates.Seen(Join(words));
  }
  EXPECT_EQ(num_wrong, 0u);
  NearDuplicates duplicates;
  EXPECT_FALSE(duplicates.Seen("import os"));
  EXPECT_FALSE(duplicates.Seen("import sys"));
  EXPECT_FALSE(duplicates.Seen("x"));
  EXPECT_TRUE(duplicates.Seen("import os\n"));
}

TEST(NearDuplicatesTest, ManyDocumentsWithOneHeadStayApart) {
  NearDuplicates duplicates;
  const std::string head = Join(RandomWords(1, 60));
  for (uint64_t seed = 0; seed < 500; ++seed) {
    EXPECT_FALSE(duplicates.Seen(head + Join(RandomWords(100 + seed, 60)))) << seed;
  }
}

}  // namespace
}  // namespace baleen
