#include "tokenizer/rank_tree.h"

#include <algorithm>
#include <utility>

namespace baleen {

void RankTree::Reset(size_t size) {
  num_levels_ = 0;
  size_t num_nodes = 0;
  size_t num_blocks = std::max<size_t>(size, 1);
  do {
    level_begin_[num_levels_++] = num_nodes;
    num_blocks = (num_blocks + kFanOut - 1) / kFanOut;
    num_nodes += num_blocks * kFanOut;
  } while (num_blocks > 1);
  nodes_.assign(num_nodes, Node(kNone, 0));
}

void RankTree::Build() {
  for (size_t level = 0; level + 1 < num_levels_; ++level) {
    const size_t end = level_begin_[level + 1];
    size_t parent = end;
    for (size_t block = level_begin_[level]; block < end; block += kFanOut) {
      nodes_[parent++] = LeastOfBlock(block);
    }
  }
}

void RankTree::Set(size_t i, int32_t rank) {
  uint64_t node = Node(rank, i);
  uint64_t old = std::exchange(nodes_[i], node);
  for (size_t level = 0; level + 1 < num_levels_; ++level) {
    i /= kFanOut;
    uint64_t& parent = nodes_[level_begin_[level + 1] + i];
    const uint64_t old_parent = parent;
    if (node > old_parent) {
      if (old > old_parent) return;  // neither was nor is the least here
      node = LeastOfBlock(level_begin_[level] + i * kFanOut);
    }
    parent = node;
    old = old_parent;
  }
}

RankTree::Place RankTree::Lowest() const {
  const uint64_t node = LeastOfBlock(level_begin_[num_levels_ - 1]);
  return {static_cast<int32_t>(node >> 32), static_cast<size_t>(node & UINT32_MAX)};
}

uint64_t RankTree::LeastOfBlock(size_t begin) const {
  const uint64_t* block = &nodes_[begin];
  uint64_t least[4];  // four chains that do not wait for each other
  for (size_t i = 0; i < 4; ++i) {
    least[i] = std::min(std::min(block[i], block[i + 4]), std::min(block[i + 8], block[i + 12]));
  }
  return std::min(std::min(least[0], least[1]), std::min(least[2], least[3]));
}

}  // namespace baleen
