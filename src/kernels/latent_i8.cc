#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/matrix.h"

namespace baleen::kernels {

namespace {

// To nearest even, for |x| < 2^22: behind so large a number there are no fractions.
int RoundToInt(float x) {
  constexpr float kLarge = 0x1.8p23f;
  return std::bit_cast<int32_t>(x + kLarge) - std::bit_cast<int32_t>(kLarge);
}

// One block of latents; returns its scale.
float PackBlock(const float* x, size_t n, std::byte* out) {
  uint32_t largest = 0;  // of the bits without sign, which are in the order of the magnitudes
  for (size_t i = 0; i < n; ++i) {
    const uint32_t bits = std::bit_cast<uint32_t>(x[i]) & 0x7fffffffu;
    largest = bits > largest ? bits : largest;
  }
  const float magnitude = std::bit_cast<float>(largest);
  if (!std::isfinite(magnitude)) {
    std::memset(out, 0, n);
    return std::nanf("");
  }
  // Below this, 127 / magnitude would overflow: such a block is zero.
  const bool is_zero = magnitude < 0x1p-120f;
  const float inverse = is_zero ? 0.0f : 127.0f / magnitude;
  for (size_t i = 0; i < n; ++i) {
    out[i] = static_cast<std::byte>(static_cast<int8_t>(RoundToInt(x[i] * inverse)));
  }
  return is_zero ? 0.0f : magnitude / 127.0f;
}

}  // namespace

void PackLatentI8(const LatentLayout& layout, const float* row, std::byte* out) {
  constexpr size_t kBlock = LatentLayout::kScaleBlock;
  for (size_t i = 0; i < layout.kv_lora_rank; i += kBlock) {
    const size_t left = layout.kv_lora_rank - i;
    const float scale =
        PackBlock(row + i, left < kBlock ? left : kBlock, out + layout.latent_offset() + i);
    std::memcpy(out + i / kBlock * sizeof(scale), &scale, sizeof(scale));
  }
  for (size_t i = 0; i < layout.qk_rope_head_dim; ++i) {
    const uint16_t bits = F32ToBf16(row[layout.kv_lora_rank + i]);
    std::memcpy(out + layout.rope_offset() + i * sizeof(bits), &bits, sizeof(bits));
  }
}

}  // namespace baleen::kernels
