#include "base/random.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <set>

namespace baleen {
namespace {

// The vector that the Rust crate rand_xoshiro tests its xoshiro256++ with, made by the authors' C.
TEST(Random, IsXoshiro256PlusPlus) {
  Random random = Random::FromState({1, 2, 3, 4});
  const std::array<uint64_t, 10> expected = {41943041u,
                                             58720359u,
                                             3588806011781223u,
                                             3591011842654386u,
                                             9228616714210784205u,
                                             9973669472204895162u,
                                             14011001112246962877u,
                                             12406186145184390807u,
                                             15849039046786891736u,
                                             10450023813501588000u};
  for (const uint64_t value : expected) EXPECT_EQ(random.Next(), value);
}

TEST(Random, SameSeedSameNumbersOtherwiseOthers) {
  std::set<uint64_t> seen;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    for (uint64_t stream = 0; stream < 100; ++stream) {
      const uint64_t value = Random(seed, stream).Next();
      EXPECT_EQ(value, Random(seed, stream).Next());
      seen.insert(value);
    }
  }
  EXPECT_EQ(seen.size(), 10'000u);
}

TEST(Random, GoesOnFromASavedState) {
  Random random(7);
  random.Next();
  Random copy = Random::FromState(random.state());
  EXPECT_EQ(random.Next(), copy.Next());
}

// With n draws the mean of Uniform has the deviation 1 / sqrt(12 n): five of them are allowed.
TEST(Random, UniformStaysInRangeWithTheRightMeanAndVariance) {
  Random random(1);
  constexpr int kDraws = 1'000'000;
  double sum = 0;
  double sum_squares = 0;
  for (int i = 0; i < kDraws; ++i) {
    const float value = random.Uniform();
    ASSERT_GE(value, 0.0f);
    ASSERT_LT(value, 1.0f);
    sum += value;
    sum_squares += static_cast<double>(value) * value;
  }
  const double mean = sum / kDraws;
  EXPECT_NEAR(mean, 0.5, 5 / std::sqrt(12.0 * kDraws));
  EXPECT_NEAR(sum_squares / kDraws - mean * mean, 1 / 12.0, 5e-4);
}

TEST(Random, BelowReachesEveryValueEquallyOften) {
  Random random(2);
  constexpr int kDraws = 600'000;
  std::array<int, 6> counts{};
  for (int i = 0; i < kDraws; ++i) ++counts.at(random.Below(counts.size()));
  // Binomial: 100,000 expected, deviation 289.
  for (const int count : counts) EXPECT_NEAR(count, 100'000, 5 * 289);
  EXPECT_EQ(random.Below(1), 0u);
}

}  // namespace
}  // namespace baleen
