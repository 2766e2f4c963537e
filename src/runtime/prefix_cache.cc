#include "runtime/prefix_cache.h"

#include <algorithm>

#include "base/check.h"

namespace baleen {

class PrefixCache::Node {
 public:
  Node* parent = nullptr;
  size_t depth = 0;
  std::byte* block = nullptr;  // null: a root
  std::vector<int32_t> tokens;
  std::map<std::vector<int32_t>, std::unique_ptr<Node>> children;
  size_t pins = 0;  // of this node and all below it
  uint64_t last_use = 0;
  bool reclaimable = false;  // in reclaimable_
  std::string key;           // of a root
};

PrefixCache::PrefixCache(BlockPool& pool, size_t block_tokens)
    : pool_(pool), block_tokens_(block_tokens) {}
PrefixCache::~PrefixCache() = default;

size_t PrefixCache::Depth(const Node* node) { return node->depth; }

// A node is reclaimable when it has neither pins nor children.
void PrefixCache::UpdateReclaimable(Node* node) {
  const bool wanted = node->block != nullptr && node->pins == 0 && node->children.empty();
  if (wanted == node->reclaimable) return;
  node->reclaimable = wanted;
  if (wanted) {
    reclaimable_.insert({node->last_use, node});
  } else {
    reclaimable_.erase({node->last_use, node});
  }
}

void PrefixCache::Touch(Node* node) {
  BALEEN_CHECK(!node->reclaimable);
  node->last_use = ++clock_;
}

PrefixCache::Node* PrefixCache::Pin(const std::string& key, std::span<const int32_t> ids,
                                    std::vector<std::byte*>& blocks) {
  std::unique_ptr<Node>& root = roots_[key];
  if (!root) {
    root = std::make_unique<Node>();
    root->key = key;
  }
  Node* node = root.get();
  while (ids.size() >= block_tokens_) {
    const auto found =
        node->children.find(std::vector<int32_t>(ids.begin(), ids.begin() + block_tokens_));
    if (found == node->children.end()) break;
    node = found->second.get();
    blocks.push_back(node->block);
    ids = ids.subspan(block_tokens_);
  }
  AddPins(node);
  return node;
}

void PrefixCache::AddPins(Node* node) {
  for (Node* n = node; n != nullptr; n = n->parent) {
    if (n->pins++ == 0 && n->block != nullptr) --num_idle_;
    UpdateReclaimable(n);
    Touch(n);
  }
}

PrefixCache::Node* PrefixCache::Extend(Node* node, std::span<const int32_t> tokens,
                                       std::byte*& block) {
  BALEEN_CHECK(tokens.size() == block_tokens_ && node->pins > 0);
  std::vector<int32_t> key(tokens.begin(), tokens.end());
  std::unique_ptr<Node>& child = node->children[key];
  if (child) {
    pool_.Return(block);
    block = child->block;
    if (child->pins == 0) --num_idle_;
  } else {
    child = std::make_unique<Node>();
    child->parent = node;
    child->depth = node->depth + 1;
    child->block = block;
    child->tokens = std::move(key);
  }
  ++child->pins;  // the way to it is pinned by what moves down
  UpdateReclaimable(child.get());
  Touch(child.get());
  return child.get();
}

void PrefixCache::Unpin(Node* node) {
  Node* root = nullptr;
  for (Node* n = node; n != nullptr; n = n->parent) {
    BALEEN_CHECK(n->pins > 0);
    if (--n->pins == 0 && n->block != nullptr) ++num_idle_;
    UpdateReclaimable(n);
    root = n;
  }
  DropRootIfEmpty(root);
}

bool PrefixCache::Reclaim() {
  if (reclaimable_.empty()) return false;
  Node* node = reclaimable_.begin()->second;
  reclaimable_.erase(reclaimable_.begin());
  Node* parent = node->parent;
  pool_.Return(node->block);
  --num_idle_;
  parent->children.erase(std::vector<int32_t>(node->tokens));
  UpdateReclaimable(parent);
  if (parent->block == nullptr) DropRootIfEmpty(parent);
  return true;
}

void PrefixCache::DropRootIfEmpty(Node* root) {
  if (root->block == nullptr && root->pins == 0 && root->children.empty()) {
    roots_.erase(std::string(root->key));
  }
}

}  // namespace baleen
