#include "quantize/rounding.h"

#include <algorithm>
#include <cmath>

#include "tensor/dtype.h"

namespace baleen {

namespace {

constexpr int kGridSteps = 50;          // of the search
constexpr float kSmallestShare = 0.5f;  // of the largest weight that a scale reaches

GroupScale MakeScale(float scale, float zero, size_t bits) {
  constexpr uint16_t kSmallest = 1, kLargest = 0x7bff;  // of F16
  uint16_t scale_bits = F32ToF16(scale);
  if (scale_bits < kSmallest) scale_bits = kSmallest;
  if (scale_bits > kLargest) scale_bits = kLargest;
  const float stored = F16ToF32(scale_bits);
  return {.scale_bits = scale_bits,
          .scale = stored,
          .inverse = 1 / stored,
          .zero = zero,
          .max_code = static_cast<float>((1u << bits) - 1)};
}

// Sum of (decoded - w)^2. Lanes are summed apart, so that the compiler can put them
// into one register.
float SquaredError(const GroupScale& s, const float* w, size_t n) {
  constexpr size_t kLanes = 8;
  float sums[kLanes] = {};
  const float low = -s.zero, high = s.max_code - s.zero;
  const auto error = [&](size_t i) {
    float code = RoundToEven(w[i] * s.inverse);
    code = code > low ? code : low;
    code = code < high ? code : high;
    const float e = code * s.scale - w[i];
    return e * e;
  };
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) sums[lane] += error(i + lane);
  }
  for (; i < n; ++i) sums[0] += error(i);
  float sum = 0;
  for (float lane : sums) sum += lane;
  return sum;
}

}  // namespace

GroupScale FindScale(const float* w, size_t n, const ScaleOptions& options) {
  float min = 0, max = 0;
  for (size_t i = 0; i < n; ++i) {
    min = std::min(min, w[i]);
    max = std::max(max, w[i]);
  }
  const float steps = static_cast<float>((1u << options.bits) - 1);
  const float middle = (steps + 1) / 2;
  const auto scale_for = [&](float share) {
    if (options.symmetric) {
      return MakeScale(2 * share * std::max(-min, max) / steps, middle, options.bits);
    }
    GroupScale s = MakeScale(share * (max - min) / steps, 0, options.bits);
    s.zero = std::clamp(RoundToEven(-share * min * s.inverse), 1.0f, steps);
    return s;
  };
  GroupScale best = scale_for(1);
  if (!options.search || min == max) return best;

  float best_error = SquaredError(best, w, n);
  for (int step = 1; step <= kGridSteps; ++step) {
    const float share = 1 - (1 - kSmallestShare) * static_cast<float>(step) / kGridSteps;
    const GroupScale candidate = scale_for(share);
    const float error = SquaredError(candidate, w, n);
    if (error < best_error) {
      best_error = error;
      best = candidate;
    }
  }
  return best;
}

}  // namespace baleen
