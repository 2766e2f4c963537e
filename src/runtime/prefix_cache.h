// runtime/prefix_cache.h: which blocks of the latent cache hold the beginnings of which texts.
//
// A tree: each node is one full block, the path to it the text before it. Nodes in use are pinned;
// the others are kept until their memory is wanted, and go least recently used first, ends before
// beginnings. Tokens are compared, not hashes: a text never gets another's rows.
// Roots are apart by a key, so that texts of different owners, or computed in different forms,
// never meet. Invariant: a node's block is in the pool only when the node is gone. Source: the
// radix tree of SGLang (arXiv:2312.07104), over blocks as in vLLM (arXiv:2309.06180). Threads: one
// at a time.
#ifndef BALEEN_RUNTIME_PREFIX_CACHE_H_
#define BALEEN_RUNTIME_PREFIX_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "runtime/block_pool.h"

namespace baleen {

class PrefixCache {
 public:
  class Node;

  PrefixCache(BlockPool& pool, size_t block_tokens);
  ~PrefixCache();
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  // The deepest node whose text `ids` begins with, or the key's root; pinned until Unpin. Appends
  // the blocks on the way to it.
  Node* Pin(const std::string& key, std::span<const int32_t> ids, std::vector<std::byte*>& blocks);

  // Adds a full block of `tokens` below a pinned node and moves the pin to it. Takes the block
  // over; if the same text is there already, returns the given block to the pool. `block` becomes
  // the one that counts.
  Node* Extend(Node* node, std::span<const int32_t> tokens, std::byte*& block);

  void Unpin(Node* node);

  // Gives the block of one node that nobody uses back to the pool; false if there is none.
  bool Reclaim();

  // Blocks that Reclaim could give back, one after the other.
  size_t num_idle() const { return num_idle_; }
  static size_t Depth(const Node* node);  // blocks on the way to it

 private:
  using UseOrder = std::pair<uint64_t, Node*>;

  void AddPins(Node* node);
  void Touch(Node* node);
  void UpdateReclaimable(Node* node);
  void DropRootIfEmpty(Node* root);

  BlockPool& pool_;
  size_t block_tokens_;
  std::map<std::string, std::unique_ptr<Node>> roots_;
  std::set<UseOrder> reclaimable_;  // nodes without pins and children
  uint64_t clock_ = 0;
  size_t num_idle_ = 0;
};

}  // namespace baleen

#endif  // BALEEN_RUNTIME_PREFIX_CACHE_H_
