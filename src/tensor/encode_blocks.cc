// EncodeBlocks: Q8_0 and Q4_0, in the order of operations of gguf-py/gguf/quants.py. Loops over the
// 32 values of a block have no branches, so that the compiler makes vectors of them.
#include <bit>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "tensor/blocks.h"

namespace baleen {

namespace {

constexpr size_t kBlock = 32;

// 1 / d, or 0 where that says nothing.
float Inverse(float d) {
  const float inverse = 1.0f / d;
  return std::isfinite(inverse) ? inverse : 0.0f;
}

void StoreScale(float d, std::byte* out) {
  const uint16_t bits = F32ToF16(d);
  std::memcpy(out, &bits, sizeof(bits));
}

// The bits of the largest magnitude. Of finite numbers the integers are in the same order.
int32_t LargestMagnitude(const float* x) {
  int32_t largest = 0;
  for (size_t i = 0; i < kBlock; ++i) {
    const int32_t magnitude = std::bit_cast<int32_t>(x[i]) & 0x7fffffff;
    largest = magnitude > largest ? magnitude : largest;
  }
  return largest;
}

// Halves away from zero. The fraction is exact and compared, not added to: 0.49999997f + 0.5f is 1.
int8_t RoundHalfAway(float x) {
  const int32_t whole = static_cast<int32_t>(x);
  const float fraction = x - static_cast<float>(whole);
  return static_cast<int8_t>(whole + (fraction >= 0.5f) - (fraction <= -0.5f));
}

void EncodeQ8_0(const float* x, std::byte* out) {
  const float d = std::bit_cast<float>(LargestMagnitude(x)) / 127;
  const float inverse = Inverse(d);
  int8_t q[kBlock];
  for (size_t i = 0; i < kBlock; ++i) q[i] = RoundHalfAway(x[i] * inverse);
  StoreScale(d, out);
  std::memcpy(out + 2, q, sizeof(q));
}

// The scale has the sign that puts the value of largest magnitude, the first of equals, at -8.
void EncodeQ4_0(const float* x, std::byte* out) {
  const int32_t largest = LargestMagnitude(x);
  size_t at = 0;
  while ((std::bit_cast<int32_t>(x[at]) & 0x7fffffff) != largest) ++at;
  const float d = x[at] / -8;
  const float inverse = Inverse(d);
  int32_t q[kBlock];
  for (size_t i = 0; i < kBlock; ++i) {
    const int32_t code = static_cast<int32_t>(x[i] * inverse + 8.5f);
    q[i] = code > 15 ? 15 : code;
  }
  StoreScale(d, out);
  for (size_t i = 0; i < kBlock / 2; ++i) {
    out[2 + i] = static_cast<std::byte>(q[i] | q[kBlock / 2 + i] << 4);
  }
}

}  // namespace

void EncodeBlocks(DType dtype, const float* values, size_t count, std::byte* out) {
  BALEEN_CHECK(dtype == DType::kQ8_0 || dtype == DType::kQ4_0);
  BALEEN_CHECK(count % kBlock == 0);
  const auto encode = dtype == DType::kQ8_0 ? EncodeQ8_0 : EncodeQ4_0;
  for (size_t i = 0; i < count; i += kBlock) {
    encode(values + i, out);
    out += DTypeSize(dtype);
  }
}

}  // namespace baleen
