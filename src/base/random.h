// base/random.h: reproducible random numbers.
//
// xoshiro256++ (Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2021), its
// state filled from the seed by splitmix64 as they advise. The same seed gives the same numbers on
// every machine and build: no function of the C library takes part. Not for secrets.
// Threads: one at a time; give each thread or each request a generator of its own.
#ifndef BALEEN_BASE_RANDOM_H_
#define BALEEN_BASE_RANDOM_H_

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace baleen {

class Random {
 public:
  using State = std::array<uint64_t, 4>;

  // Every seed is good, 0 included. Generators with the same seed and different `stream` are
  // unrelated: one for each tensor, request or thread.
  explicit Random(uint64_t seed, uint64_t stream = 0) {
    uint64_t mix = SplitMix64(seed) ^ SplitMix64(stream ^ kStreamSalt);
    for (uint64_t& word : state_) {
      word = SplitMix64(mix);
      mix += kGoldenGamma;
    }
  }

  // Goes on from a saved state, which must not be all zero.
  static Random FromState(const State& state) {
    Random random(0);
    random.state_ = state;
    return random;
  }
  const State& state() const { return state_; }

  // All 64 bits are good.
  uint64_t Next() {
    const uint64_t result = std::rotl(state_[0] + state_[3], 23) + state_[0];
    const uint64_t shifted = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= shifted;
    state_[3] = std::rotl(state_[3], 45);
    return result;
  }

  // In [0, 1), a multiple of 2^-24: every value is exact in a float.
  float Uniform() { return static_cast<float>(Next() >> 40) * 0x1p-24f; }

  // In [0, 1), a multiple of 2^-53. For choices among many small probabilities.
  double UniformDouble() { return static_cast<double>(Next() >> 11) * 0x1p-53; }

  // In [0, bound), without bias; bound >= 1. (Rejection of the uneven first values.)
  uint64_t Below(uint64_t bound) {
    const uint64_t uneven = (uint64_t{0} - bound) % bound;  // 2^64 mod bound
    uint64_t value = Next();
    while (value < uneven) value = Next();
    return value % bound;
  }

 private:
  static constexpr uint64_t kGoldenGamma = 0x9e3779b97f4a7c15u;
  static constexpr uint64_t kStreamSalt = 0x6a09e667f3bcc909u;  // fraction of sqrt(2)

  // One step of splitmix64 from the state `x`.
  static uint64_t SplitMix64(uint64_t x) {
    x += kGoldenGamma;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
  }

  State state_;
};

}  // namespace baleen

#endif  // BALEEN_BASE_RANDOM_H_
