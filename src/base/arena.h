// base/arena.h: scratch memory that grows to what a step needs and is then reused.
//
// Allocate hands out 64-byte aligned memory from large chunks; an ArenaScope gives back what was
// taken since it began. After the first step of a size, no call reaches the system allocator.
// Threads: one at a time.
#ifndef BALEEN_BASE_ARENA_H_
#define BALEEN_BASE_ARENA_H_

#include <cstddef>
#include <memory>
#include <type_traits>
#include <vector>

namespace baleen {

class Arena {
 public:
  static constexpr size_t kAlignment = 64;
  static constexpr size_t kMinChunkBytes = size_t{1} << 20;
  static constexpr size_t kMaxSpareBytes = size_t{32} << 20;  // chunks double up to this

  // Uninitialised memory for `count` values of T (trivial types only).
  template <typename T>
  T* Allocate(size_t count) {
    static_assert(std::is_trivially_copyable_v<T>);
    return reinterpret_cast<T*>(AllocateBytes(count * sizeof(T)));
  }

  // Bytes held from the system.
  size_t capacity_bytes() const;

 private:
  friend class ArenaScope;
  struct Free {
    void operator()(std::byte* data) const;
  };
  struct Chunk {
    std::unique_ptr<std::byte[], Free> data;
    size_t size;
  };

  std::byte* AllocateBytes(size_t bytes);

  std::vector<Chunk> chunks_;
  size_t chunk_idx_ = 0;  // the chunk that is being filled
  size_t used_ = 0;       // bytes used of it
};

class ArenaScope {
 public:
  explicit ArenaScope(Arena& arena)
      : arena_(arena), chunk_idx_(arena.chunk_idx_), used_(arena.used_) {}
  ~ArenaScope() {
    arena_.chunk_idx_ = chunk_idx_;
    arena_.used_ = used_;
  }
  ArenaScope(const ArenaScope&) = delete;
  ArenaScope& operator=(const ArenaScope&) = delete;

 private:
  Arena& arena_;
  size_t chunk_idx_;
  size_t used_;
};

}  // namespace baleen

#endif  // BALEEN_BASE_ARENA_H_
