#include "base/arena.h"

#include <algorithm>
#include <new>

#include "base/machine.h"

namespace baleen {

void Arena::Free::operator()(std::byte* data) const {
  ::operator delete[](data, std::align_val_t{kAlignment});
}

size_t Arena::capacity_bytes() const {
  size_t total = 0;
  for (const Chunk& chunk : chunks_) total += chunk.size;
  return total;
}

std::byte* Arena::AllocateBytes(size_t bytes) {
  bytes = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  while (chunk_idx_ < chunks_.size() && used_ + bytes > chunks_[chunk_idx_].size) {
    ++chunk_idx_;
    used_ = 0;
  }
  if (chunk_idx_ == chunks_.size()) {
    const size_t previous = chunks_.empty() ? 0 : chunks_.back().size;
    const size_t size = std::max({bytes, kMinChunkBytes, std::min(2 * previous, kMaxSpareBytes)});
    auto* data = static_cast<std::byte*>(::operator new[](size, std::align_val_t{kAlignment}));
    AdviseHugePages(data, size);
    chunks_.push_back({std::unique_ptr<std::byte[], Free>(data), size});
    used_ = 0;
  }
  std::byte* result = chunks_[chunk_idx_].data.get() + used_;
  used_ += bytes;
  return result;
}

}  // namespace baleen
