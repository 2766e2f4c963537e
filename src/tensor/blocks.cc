#include "tensor/blocks.h"

#include "base/check.h"
#include "tensor/block_fields.h"
#include "tensor/tiles.h"

namespace baleen {

namespace {

// Blocks of 32. In those of four and five bits, byte i of qs holds elements i and 16 + i.

void DecodeQ4_0(const Block& b, float* out) {
  const float d = b.F16(0);
  for (size_t i = 0; i < 32; ++i) {
    out[i] = d * static_cast<float>(b.Nibble(2 + i % 16, i / 16) - 8);
  }
}

void DecodeQ4_1(const Block& b, float* out) {
  const float d = b.F16(0), m = b.F16(2);
  for (size_t i = 0; i < 32; ++i) {
    out[i] = d * static_cast<float>(b.Nibble(4 + i % 16, i / 16)) + m;
  }
}

void DecodeQ5_0(const Block& b, float* out) {
  const float d = b.F16(0);
  for (size_t i = 0; i < 32; ++i) {
    const int q = b.Nibble(6 + i % 16, i / 16) | b.Bit(2 + i / 8, i % 8) << 4;
    out[i] = d * static_cast<float>(q - 16);
  }
}

void DecodeQ5_1(const Block& b, float* out) {
  const float d = b.F16(0), m = b.F16(2);
  for (size_t i = 0; i < 32; ++i) {
    const int q = b.Nibble(8 + i % 16, i / 16) | b.Bit(4 + i / 8, i % 8) << 4;
    out[i] = d * static_cast<float>(q) + m;
  }
}

void DecodeQ8_0(const Block& b, float* out) {
  const float d = b.F16(0);
  for (size_t i = 0; i < 32; ++i) out[i] = static_cast<float>(b.I8(2 + i)) * d;
}

void DecodeIQ4_NL(const Block& b, float* out) {
  const float d = b.F16(0);
  for (size_t i = 0; i < 32; ++i) {
    out[i] = d * static_cast<float>(kNonLinear[b.Nibble(2 + i % 16, i / 16)]);
  }
}

// Blocks of 256. Element e lies in half e / 128, at byte e % 32 of that half's 32 bytes, at place
// e / 32 % 4 among the four pairs of bits of the byte.

void DecodeQ2_K(const Block& b, float* out) {
  constexpr size_t kScales = 0, kQs = 16, kD = 80, kDMin = 82;
  const float d = b.F16(kD), dmin = b.F16(kDMin);
  for (size_t e = 0; e < 256; ++e) {
    const int q = b.Pair(kQs + e / 128 * 32 + e % 32, e / 32 % 4);
    const float scale = d * static_cast<float>(b.Low(kScales + e / 16));
    const float min = dmin * static_cast<float>(b.High(kScales + e / 16));
    out[e] = scale * static_cast<float>(q) - min;
  }
}

void DecodeQ3_K(const Block& b, float* out) {
  constexpr size_t kHighMask = 0, kQs = 32, kScales = 96, kD = 108;
  const float d = b.F16(kD);
  for (size_t e = 0; e < 256; ++e) {
    const size_t j = e / 16;
    const int scale =
        (b.Nibble(kScales + j % 8, j / 8) | b.Pair(kScales + 8 + j % 4, j / 4) << 4) - 32;
    // A set bit of the mask means that nothing is taken off.
    const int q = b.Pair(kQs + e / 128 * 32 + e % 32, e / 32 % 4) -
                  (b.Bit(kHighMask + e % 32, e / 32) != 0 ? 0 : 4);
    out[e] = d * static_cast<float>(scale) * static_cast<float>(q);
  }
}

void DecodeQ4_K(const Block& b, float* out) {
  constexpr size_t kD = 0, kDMin = 2, kScales = 4, kQs = 16;
  for (size_t j = 0; j < 8; ++j) {
    const SubBlock sub = SubBlockOf(b, kScales, j);
    const float scale = b.F16(kD) * static_cast<float>(sub.scale);
    const float min = b.F16(kDMin) * static_cast<float>(sub.min);
    for (size_t l = 0; l < 32; ++l) {
      out[32 * j + l] = scale * static_cast<float>(b.Nibble(kQs + j / 2 * 32 + l, j)) - min;
    }
  }
}

void DecodeQ5_K(const Block& b, float* out) {
  constexpr size_t kD = 0, kDMin = 2, kScales = 4, kQh = 16, kQs = 48;
  for (size_t j = 0; j < 8; ++j) {
    const SubBlock sub = SubBlockOf(b, kScales, j);
    const float scale = b.F16(kD) * static_cast<float>(sub.scale);
    const float min = b.F16(kDMin) * static_cast<float>(sub.min);
    for (size_t l = 0; l < 32; ++l) {
      const int q = b.Nibble(kQs + j / 2 * 32 + l, j) | b.Bit(kQh + l, j) << 4;
      out[32 * j + l] = scale * static_cast<float>(q) - min;
    }
  }
}

void DecodeQ6_K(const Block& b, float* out) {
  constexpr size_t kQl = 0, kQh = 128, kScales = 192, kD = 208;
  const float d = b.F16(kD);
  for (size_t e = 0; e < 256; ++e) {
    const size_t half = e / 128, place = e / 32 % 4, l = e % 32;
    const int q = (b.Nibble(kQl + 64 * half + 32 * (place % 2) + l, place / 2) |
                   b.Pair(kQh + 32 * half + l, place) << 4) -
                  32;
    out[e] = d * static_cast<float>(b.I8(kScales + e / 16)) * static_cast<float>(q);
  }
}

void DecodeIQ4_XS(const Block& b, float* out) {
  constexpr size_t kD = 0, kScalesHigh = 2, kScalesLow = 4, kQs = 8;
  for (size_t j = 0; j < 8; ++j) {
    const int scale =
        (b.Nibble(kScalesLow + j / 2, j) | b.Pair(kScalesHigh + j / 4, j % 4) << 4) - 32;
    const float d = b.F16(kD) * static_cast<float>(scale);
    for (size_t i = 0; i < 32; ++i) {
      out[32 * j + i] = d * static_cast<float>(kNonLinear[b.Nibble(kQs + 16 * j + i % 16, i / 16)]);
    }
  }
}

using Decoder = void (*)(const Block&, float*);

Decoder DecoderOf(DType dtype) {
  switch (dtype) {
    case DType::kQ4_0:
      return DecodeQ4_0;
    case DType::kQ4_1:
      return DecodeQ4_1;
    case DType::kQ5_0:
      return DecodeQ5_0;
    case DType::kQ5_1:
      return DecodeQ5_1;
    case DType::kQ8_0:
      return DecodeQ8_0;
    case DType::kQ2_K:
      return DecodeQ2_K;
    case DType::kQ3_K:
      return DecodeQ3_K;
    case DType::kQ4_K:
      return DecodeQ4_K;
    case DType::kQ5_K:
      return DecodeQ5_K;
    case DType::kQ6_K:
      return DecodeQ6_K;
    case DType::kIQ4_NL:
      return DecodeIQ4_NL;
    case DType::kIQ4_XS:
      return DecodeIQ4_XS;
    default:
      BALEEN_CHECK(!"not a block type");
  }
}

}  // namespace

void DecodeBlocks(DType dtype, const std::byte* data, size_t count, float* out) {
  const size_t size = BlockSize(dtype), bytes = DTypeSize(dtype);
  BALEEN_CHECK(count % size == 0);
  const Decoder decode = DecoderOf(dtype);
  for (size_t i = 0; i < count; i += size, data += bytes) decode(Block(data), out + i);
}

}  // namespace baleen
