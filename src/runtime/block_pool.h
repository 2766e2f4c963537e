// runtime/block_pool.h: the memory of the latent cache, in blocks of equal size.
//
// Invariant: a block is on the free list or with exactly one owner, never both.
// Source: paged caches after arXiv:2309.06180, with one latent row a token instead of K and V.
// Memory is taken from the system when a block is first used. Threads: one at a time.
#ifndef BALEEN_RUNTIME_BLOCK_POOL_H_
#define BALEEN_RUNTIME_BLOCK_POOL_H_

#include <cstddef>
#include <vector>

namespace baleen {

class BlockPool {
 public:
  // Error{kResourceExhausted} when the address space has no room.
  BlockPool(size_t block_bytes, size_t num_blocks);
  ~BlockPool();
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  size_t num_blocks() const { return num_blocks_; }
  size_t num_free() const { return free_.size(); }
  size_t block_bytes() const { return block_bytes_; }

  // A block whose contents are unspecified, or null when all are taken.
  std::byte* Take();
  void Return(std::byte* block);

 private:
  size_t block_bytes_;
  size_t num_blocks_;
  size_t mapped_bytes_;
  std::byte* memory_;
  std::vector<std::byte*> free_;
};

}  // namespace baleen

#endif  // BALEEN_RUNTIME_BLOCK_POOL_H_
