// quantize/rounding.h: from weights to codes, for a fixed scale and zero point, and how these are
// found.
#ifndef BALEEN_QUANTIZE_ROUNDING_H_
#define BALEEN_QUANTIZE_ROUNDING_H_

#include <cstddef>
#include <cstdint>

namespace baleen {

// Nearest even, for |value| < 2^22: adding 1.5 * 2^23 leaves no room for digits behind the point.
inline float RoundToEven(float value) {
  constexpr float kShift = 12582912.0f;
  return (value + kShift) - kShift;
}

// A code stands for (code - zero) * scale.
struct GroupScale {
  uint16_t scale_bits = 0;  // F16, positive
  float scale = 0;          // the same
  float inverse = 0;        // 1 / scale
  float zero = 0;
  float max_code = 0;

  // A number that is none, or beyond all codes, becomes the nearest code or 0.
  uint8_t Encode(float value) const {
    float code = value * inverse;
    code = code > -1e6f ? code : -1e6f;
    code = code < 1e6f ? code : 1e6f;
    code = RoundToEven(code) + zero;
    code = code > 0 ? code : 0;
    return static_cast<uint8_t>(code < max_code ? code : max_code);
  }
  float Decode(uint8_t code) const { return (static_cast<float>(code) - zero) * scale; }
};

struct ScaleOptions {
  size_t bits = 4;
  bool symmetric = true;
  // Looks for the scale with the smallest sum of squared errors below the one that reaches the
  // largest weight; else takes that.
  bool search = true;
};

// For weights w [n]. Scales are rounded to F16 before they are judged. (Weighing the errors by the
// size of the inputs was tried and lost: docs/quantize.md.) Symmetric: zero = 2^(bits - 1), and the
// scale reaches the largest magnitude on the side with fewer codes. Asymmetric: zero is at least 1,
// which every reader of version 1 files understands.
GroupScale FindScale(const float* w, size_t n, const ScaleOptions& options);

}  // namespace baleen

#endif  // BALEEN_QUANTIZE_ROUNDING_H_
