#include "base/arena.h"

#include <gtest/gtest.h>

#include <cstring>

namespace baleen {
namespace {

TEST(ArenaTest, AScopeGivesBackWhatItTook) {
  Arena arena;
  float* first = arena.Allocate<float>(10);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(first) % Arena::kAlignment, 0u);
  float* inner;
  {
    ArenaScope scope(arena);
    inner = arena.Allocate<float>(1000);
    std::memset(inner, 1, 4000);
  }
  EXPECT_EQ(arena.Allocate<float>(1000), inner);
  EXPECT_GT(inner, first);
}

TEST(ArenaTest, GrowsOnceAndIsThenReused) {
  Arena arena;
  const auto step = [&] {
    ArenaScope scope(arena);
    for (int i = 0; i < 50; ++i) std::memset(arena.Allocate<char>(300000), i, 300000);
  };
  step();
  const size_t capacity = arena.capacity_bytes();
  EXPECT_GE(capacity, 50u * 300000);
  for (int i = 0; i < 10; ++i) step();
  EXPECT_EQ(arena.capacity_bytes(), capacity);
}

TEST(ArenaTest, TakesWhatIsLargerThanAChunk) {
  Arena arena;
  const size_t large = 4 * Arena::kMinChunkBytes;
  std::memset(arena.Allocate<char>(large), 1, large);
  std::memset(arena.Allocate<char>(8), 2, 8);
  EXPECT_GE(arena.capacity_bytes(), large);
}

}  // namespace
}  // namespace baleen
