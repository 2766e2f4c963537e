#include "tokenizer/bpe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace baleen {
namespace {

using Pair = std::pair<int32_t, int32_t>;
struct Merge {
  int32_t rank;
  int32_t result;
};

// Bytes 'a' to 'd' as tokens 0 to 3, and a random table of merges of them and of what they make.
struct RandomVocabulary {
  explicit RandomVocabulary(uint32_t seed, int num_merges, bool is_shuffled) {
    std::mt19937 random(seed);
    std::vector<int32_t> ranks(static_cast<size_t>(num_merges));
    for (int i = 0; i < num_merges; ++i) ranks[static_cast<size_t>(i)] = i;
    if (is_shuffled) std::shuffle(ranks.begin(), ranks.end(), random);
    int32_t num_tokens = 4;
    while (merges.size() < ranks.size()) {
      const auto any = [&] {
        return static_cast<int32_t>(random() % static_cast<uint32_t>(num_tokens));
      };
      const Pair pair(any(), any());
      if (merges.contains(pair)) continue;
      const int32_t rank = ranks[merges.size()];
      merges[pair] = {rank, num_tokens++};
    }
  }

  Bpe MakeBpe() const {
    MergeTable table(1);  // grows
    for (const auto& [pair, merge] : merges) {
      EXPECT_TRUE(table.Add(pair.first, pair.second, merge.rank, merge.result));
    }
    std::array<int32_t, 256> byte_ids;
    byte_ids.fill(Bpe::kNoToken);
    for (int32_t i = 0; i < 4; ++i) byte_ids[static_cast<size_t>('a' + i)] = i;
    return Bpe(byte_ids, std::move(table));
  }

  // The definition, word for word: quadratic.
  std::vector<int32_t> Encode(const std::string& piece) const {
    std::vector<int32_t> ids;
    for (const char byte : piece) ids.push_back(byte - 'a');
    for (;;) {
      const Merge* best = nullptr;
      size_t best_at = 0;
      for (size_t i = 0; i + 1 < ids.size(); ++i) {
        const auto found = merges.find({ids[i], ids[i + 1]});
        if (found == merges.end() || (best && found->second.rank >= best->rank)) continue;
        best = &found->second;
        best_at = i;
      }
      if (!best) return ids;
      ids[best_at] = best->result;
      ids.erase(ids.begin() + static_cast<ptrdiff_t>(best_at) + 1);
    }
  }

  std::map<Pair, Merge> merges;
};

std::string RandomPiece(std::mt19937* random, size_t size) {
  std::string piece(size, 'a');
  const uint32_t num_letters = 1 + (*random)() % 4;
  for (char& byte : piece) byte = static_cast<char>('a' + (*random)() % num_letters);
  return piece;
}

TEST(BpeTest, MergesAsDefined) {
  std::mt19937 random(1);
  Bpe::Workspace workspace;
  for (uint32_t seed = 0; seed < 300; ++seed) {
    const RandomVocabulary vocabulary(seed, 2 + static_cast<int>(random() % 60), seed % 2 == 0);
    const Bpe bpe = vocabulary.MakeBpe();
    for (const size_t size : {0, 1, 2, 3, 15, 16, 17, 40, 255, 256, 257, 300, 700}) {
      const std::string piece = RandomPiece(&random, size);
      std::vector<int32_t> ids;
      bpe.Encode(piece, &workspace, &ids);
      ASSERT_EQ(ids, vocabulary.Encode(piece)) << "seed " << seed << ", piece " << piece;
    }
  }
}

// "b" at the end decides how the whole run of a's before it pairs up, because "ab" comes first: the
// windows of a long piece cannot be joined until one holds the whole run.
TEST(BpeTest, MergesThatDependOnFarAwayText) {
  RandomVocabulary vocabulary(0, 0, false);
  vocabulary.merges[{0, 1}] = {0, 4};  // ab
  vocabulary.merges[{0, 4}] = {1, 5};  // a ab
  vocabulary.merges[{0, 5}] = {2, 4};  // a aab, spelled as if it were ab again: the run unrolls
  vocabulary.merges[{0, 0}] = {3, 6};  // aa
  const Bpe bpe = vocabulary.MakeBpe();
  Bpe::Workspace workspace;
  for (const size_t size : {100, 255, 256, 257, 1000, 1999, 5000}) {
    for (const char* tail : {"", "b", "c"}) {
      const std::string piece = std::string(size, 'a') + tail;
      std::vector<int32_t> ids{42};
      bpe.Encode(piece, &workspace, &ids);
      std::vector<int32_t> expected = vocabulary.Encode(piece);
      expected.insert(expected.begin(), 42);
      ASSERT_EQ(ids, expected) << size << tail;
    }
  }
}

TEST(MergeTableTest, KeepsTheFirstOfTwo) {
  MergeTable table(4);
  EXPECT_TRUE(table.Add(1, 2, 0, 9));
  EXPECT_FALSE(table.Add(1, 2, 1, 10));
  EXPECT_TRUE(table.Add(2, 1, MergeTable::kMaxRank, 11));
  EXPECT_EQ(table.Rank(1, 2), 0);
  EXPECT_EQ(table.Result(0), 9);
  EXPECT_EQ(table.Rank(2, 1), MergeTable::kMaxRank);
  EXPECT_EQ(table.Result(MergeTable::kMaxRank), 11);
  EXPECT_EQ(table.Rank(1, 1), MergeTable::kNone);
  const int32_t last = (1 << 20) - 1;
  EXPECT_TRUE(table.Add(last, last, 5, 12));
  EXPECT_EQ(table.Rank(last, last), 5);
}

TEST(RankTreeTest, FindsTheLowestLeftmost) {
  std::mt19937 random(3);
  for (const size_t size : {1, 2, 15, 16, 17, 255, 256, 257, 4096, 5000}) {
    RankTree tree;
    tree.Reset(size);
    std::vector<int32_t> ranks(size);
    for (size_t i = 0; i < size; ++i) {
      ranks[i] = static_cast<int32_t>(random() % 50);
      tree.Fill(i, ranks[i]);
    }
    tree.Build();
    for (int step = 0; step < 2000; ++step) {
      const size_t i = random() % size;
      ranks[i] = random() % 8 == 0 ? static_cast<int32_t>(random() % 50) : RankTree::kNone;
      tree.Set(i, ranks[i]);
      const auto lowest = std::min_element(ranks.begin(), ranks.end());
      ASSERT_EQ(tree.Lowest().rank, *lowest) << size;
      if (*lowest != RankTree::kNone) {
        ASSERT_EQ(tree.Lowest().index, static_cast<size_t>(lowest - ranks.begin())) << size;
      }
    }
  }
}

}  // namespace
}  // namespace baleen
