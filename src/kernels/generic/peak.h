// kernels/generic/peak.h: loops in registers only, to measure what the arithmetic of a target can
// do.
#ifndef BALEEN_KERNELS_GENERIC_PEAK_H_
#define BALEEN_KERNELS_GENERIC_PEAK_H_

#include <cstddef>

#include "kernels/generic/inline.h"
#include "kernels/table.h"

namespace baleen::kernels::generic {

// Ten independent chains: two instructions a cycle with a latency of four or five.
inline constexpr size_t kPeakChains = 10;

// step(sum) is one instruction of interest; Opaque hides each sum from the optimiser.
template <typename P, typename Sum, typename Step>
BALEEN_INLINE void RunChains(Sum zero, size_t iterations, const Step& step) {
  Sum sums[kPeakChains];
  for (size_t i = 0; i < kPeakChains; ++i) sums[i] = zero;
  for (size_t n = 0; n < iterations; ++n) {
    for (size_t i = 0; i < kPeakChains; ++i) {
      sums[i] = P::Opaque(step(sums[i]));
    }
  }
}

template <typename P>
double PeakLoop(PeakKind kind, size_t iterations) {
  const double vectors = static_cast<double>(iterations * kPeakChains);
  switch (kind) {
    case PeakKind::kF32: {
      const auto x = P::Opaque(P::Set(1.0f));
      RunChains<P>(P::Zero(), iterations, [&](auto sum) { return P::Fma(x, x, sum); });
      return vectors * P::kLanes * 2;
    }
    case PeakKind::kBF16:
      return 0;
    case PeakKind::kI8: {
      const auto x = P::Opaque(P::ZeroI32());
      // Where the product is of two instructions x is hidden anew each time, or the first would be
      // taken out of the loop.
      RunChains<P>(P::ZeroI32(), iterations,
                   [&](auto sum) { return P::DotI8(P::kDotI8IsOne ? x : P::Opaque(x), x, sum); });
      return vectors * P::kLanes * 4 * 2;
    }
  }
  return 0;
}

// PeakKind::kBF16 by pairs.
template <typename P>
double PairPeakLoop(size_t iterations) {
  const auto ones = P::Opaque(P::Set(0x1.01p0f));  // the bits of two numbers in BF16
  const auto x = P::LoadPairs(&ones);
  RunChains<P>(P::Zero(), iterations, [&](auto sum) { return P::DotPairs(x, x, sum); });
  return static_cast<double>(iterations * kPeakChains) * P::kLanes * 2 * 2;
}

}  // namespace baleen::kernels::generic

#endif  // BALEEN_KERNELS_GENERIC_PEAK_H_
