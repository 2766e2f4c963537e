// tokenizer/rank_tree.h: the lowest of many ranks, leftmost of equals, while ranks change.
//
// A tree whose nodes hold the least of 16 children each: finding and changing read two cache lines
// at each of the few levels, and branches depend little on the ranks. On the windows that BPE
// merges it is three times faster than a binary heap, which also has to be fed stale entries.
#ifndef BALEEN_TOKENIZER_RANK_TREE_H_
#define BALEEN_TOKENIZER_RANK_TREE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace baleen {

class RankTree {
 public:
  // Above all ranks.
  static constexpr int32_t kNone = INT32_MAX;

  // Makes a tree of `size` ranks, all kNone. Requires size < 2^32.
  void Reset(size_t size);
  // Between Reset and Build only: sets a rank without telling the nodes above it.
  void Fill(size_t i, int32_t rank) { nodes_[i] = Node(rank, i); }
  void Build();

  // O(log size).
  void Set(size_t i, int32_t rank);

  struct Place {
    int32_t rank;
    size_t index;
  };
  // The first place that has the lowest rank. O(1).
  Place Lowest() const;

 private:
  static constexpr size_t kFanOut = 16;
  static constexpr size_t kMaxLevels = 8;  // 16^8 = 2^32

  // Rank above index: the least node is the lowest rank, leftmost of equals.
  static uint64_t Node(int32_t rank, size_t i) { return static_cast<uint64_t>(rank) << 32 | i; }
  uint64_t LeastOfBlock(size_t begin) const;

  // Level by level, the leaves first, each padded to a multiple of kFanOut. The last is one block.
  std::vector<uint64_t> nodes_;
  std::array<size_t, kMaxLevels> level_begin_ = {};
  size_t num_levels_ = 0;
};

}  // namespace baleen

#endif  // BALEEN_TOKENIZER_RANK_TREE_H_
