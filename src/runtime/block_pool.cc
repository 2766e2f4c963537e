#include "runtime/block_pool.h"

#include <sys/mman.h>

#include "base/check.h"
#include "base/error.h"

namespace baleen {

BlockPool::BlockPool(size_t block_bytes, size_t num_blocks)
    : block_bytes_((block_bytes + 63) / 64 * 64),
      num_blocks_(num_blocks),
      mapped_bytes_(block_bytes_ * num_blocks) {
  // Address space only: the system gives pages as blocks are written.
  void* memory = ::mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    Throw(ErrorCode::kResourceExhausted, "no room for a latent cache of {} MB; lower --context",
          mapped_bytes_ >> 20);
  }
  ::madvise(memory, mapped_bytes_, MADV_HUGEPAGE);
  memory_ = static_cast<std::byte*>(memory);
  free_.reserve(num_blocks);
  for (size_t i = num_blocks; i > 0; --i) free_.push_back(memory_ + (i - 1) * block_bytes_);
}

BlockPool::~BlockPool() { ::munmap(memory_, mapped_bytes_); }

std::byte* BlockPool::Take() {
  if (free_.empty()) return nullptr;
  std::byte* block = free_.back();
  free_.pop_back();
  return block;
}

void BlockPool::Return(std::byte* block) {
  BALEEN_CHECK(free_.size() < num_blocks_);
  free_.push_back(block);
}

}  // namespace baleen
