#include "tensor/block_tiles.h"

#include <cstring>

#include "base/check.h"
#include "tensor/block_fields.h"

namespace baleen {

namespace {

// Where the parts of one block go; null what its layout does not have.
struct Parts {
  uint8_t* codes;
  uint16_t *scale, *min;
  int8_t *factors, *min_factors;
};

// Two halves of each of kN bytes, one behind the other. They are copied first: what is written
// might else be what is read next, for all that the compiler knows, and nothing would be
// vectorized.
template <size_t kN>
void UnpackHalves(const Block& b, size_t from, uint8_t* codes) {
  uint8_t bytes[kN], halves[2 * kN];
  b.Copy(from, bytes);
  for (size_t i = 0; i < kN; ++i) {
    halves[i] = bytes[i] & 15;
    halves[kN + i] = bytes[i] >> 4;
  }
  std::memcpy(codes, halves, sizeof(halves));
}

// Blocks of 32 with codes of four or five bits; byte offsets of their fields, 0: not there.
struct FieldsOf32 {
  size_t min, high, low;
};
void UnpackBlock32(const Block& b, const FieldsOf32& at, const Parts& out) {
  *out.scale = b.F16Bits(0);
  // m is added, a min is taken off.
  if (at.min != 0) *out.min = b.F16Bits(at.min) ^ 0x8000;
  UnpackHalves<16>(b, at.low, out.codes);
  if (at.high == 0) return;
  for (size_t i = 0; i < 32; ++i) {
    out.codes[i] |= static_cast<uint8_t>(b.Bit(at.high + i / 8, i % 8) << 4);
  }
}

void UnpackQ8_0(const Block& b, const Parts& out) {
  *out.scale = b.F16Bits(0);
  for (size_t i = 0; i < 32; ++i) out.codes[i] = static_cast<uint8_t>(b.U8(2 + i) ^ 0x80);
}

// Blocks of 256: their elements lie as blocks.cc says.

void UnpackQ2_K(const Block& b, const Parts& out) {
  constexpr size_t kScales = 0, kQs = 16, kD = 80, kDMin = 82;
  *out.scale = b.F16Bits(kD);
  *out.min = b.F16Bits(kDMin);
  for (size_t j = 0; j < 16; ++j) {
    out.factors[j] = static_cast<int8_t>(b.Low(kScales + j));
    out.min_factors[j] = static_cast<int8_t>(b.High(kScales + j));
  }
  for (size_t e = 0; e < 256; ++e) {
    out.codes[e] = static_cast<uint8_t>(b.Pair(kQs + e / 128 * 32 + e % 32, e / 32 % 4));
  }
}

void UnpackQ3_K(const Block& b, const Parts& out) {
  constexpr size_t kHighMask = 0, kQs = 32, kScales = 96, kD = 108;
  *out.scale = b.F16Bits(kD);
  for (size_t j = 0; j < 16; ++j) {
    out.factors[j] = static_cast<int8_t>(
        (b.Nibble(kScales + j % 8, j / 8) | b.Pair(kScales + 8 + j % 4, j / 4) << 4) - 32);
  }
  for (size_t e = 0; e < 256; ++e) {
    out.codes[e] = static_cast<uint8_t>(b.Pair(kQs + e / 128 * 32 + e % 32, e / 32 % 4) |
                                        b.Bit(kHighMask + e % 32, e / 32) << 2);
  }
}

void UnpackSubBlocks(const Block& b, const Parts& out) {
  constexpr size_t kD = 0, kDMin = 2, kScales = 4;
  *out.scale = b.F16Bits(kD);
  *out.min = b.F16Bits(kDMin);
  for (size_t j = 0; j < 8; ++j) {
    const SubBlock sub = SubBlockOf(b, kScales, j);
    out.factors[j] = static_cast<int8_t>(sub.scale);
    out.min_factors[j] = static_cast<int8_t>(sub.min);
  }
}

void UnpackQ4_K(const Block& b, const Parts& out) {
  constexpr size_t kQs = 16;
  UnpackSubBlocks(b, out);
  for (size_t j = 0; j < 4; ++j) UnpackHalves<32>(b, kQs + 32 * j, out.codes + 64 * j);
}

void UnpackQ5_K(const Block& b, const Parts& out) {
  constexpr size_t kQh = 16, kQs = 48;
  UnpackSubBlocks(b, out);
  for (size_t j = 0; j < 4; ++j) UnpackHalves<32>(b, kQs + 32 * j, out.codes + 64 * j);
  for (size_t e = 0; e < 256; ++e) {
    out.codes[e] |= static_cast<uint8_t>(b.Bit(kQh + e % 32, e / 32) << 4);
  }
}

void UnpackQ6_K(const Block& b, const Parts& out) {
  constexpr size_t kQl = 0, kQh = 128, kScales = 192, kD = 208;
  *out.scale = b.F16Bits(kD);
  for (size_t j = 0; j < 16; ++j) out.factors[j] = static_cast<int8_t>(b.I8(kScales + j));
  for (size_t half = 0; half < 2; ++half) {
    UnpackHalves<64>(b, kQl + 64 * half, out.codes + 128 * half);
  }
  for (size_t e = 0; e < 256; ++e) {
    out.codes[e] |= static_cast<uint8_t>(b.Pair(kQh + 32 * (e / 128) + e % 32, e / 32 % 4) << 4);
  }
}

void UnpackIQ4_XS(const Block& b, const Parts& out) {
  constexpr size_t kD = 0, kScalesHigh = 2, kScalesLow = 4, kQs = 8;
  *out.scale = b.F16Bits(kD);
  for (size_t j = 0; j < 8; ++j) {
    out.factors[j] = static_cast<int8_t>(
        (b.Nibble(kScalesLow + j / 2, j) | b.Pair(kScalesHigh + j / 4, j % 4) << 4) - 32);
    UnpackHalves<16>(b, kQs + 16 * j, out.codes + 32 * j);
  }
}

void UnpackBlock(DType dtype, const Block& b, const Parts& out) {
  switch (dtype) {
    case DType::kQ4_0:
    case DType::kIQ4_NL:
      return UnpackBlock32(b, {.min = 0, .high = 0, .low = 2}, out);
    case DType::kQ4_1:
      return UnpackBlock32(b, {.min = 2, .high = 0, .low = 4}, out);
    case DType::kQ5_0:
      return UnpackBlock32(b, {.min = 0, .high = 2, .low = 6}, out);
    case DType::kQ5_1:
      return UnpackBlock32(b, {.min = 2, .high = 4, .low = 8}, out);
    case DType::kQ8_0:
      return UnpackQ8_0(b, out);
    case DType::kQ2_K:
      return UnpackQ2_K(b, out);
    case DType::kQ3_K:
      return UnpackQ3_K(b, out);
    case DType::kQ4_K:
      return UnpackQ4_K(b, out);
    case DType::kQ5_K:
      return UnpackQ5_K(b, out);
    case DType::kQ6_K:
      return UnpackQ6_K(b, out);
    case DType::kIQ4_XS:
      return UnpackIQ4_XS(b, out);
    default:
      BALEEN_CHECK(!"not a block type");
  }
}

}  // namespace

TileLayout TileLayoutOf(DType dtype, size_t cols) {
  const bool is_super = BlockSize(dtype) == 256;
  TileLayout layout = {
      .cols = cols, .bits = 4, .group_cols = 32, .super_cols = is_super ? size_t{256} : size_t{0}};
  switch (dtype) {
    case DType::kQ8_0:
      layout.bits = 8;
      break;
    case DType::kQ2_K:
      layout.bits = 2;
      break;
    case DType::kQ3_K:
      layout.bits = 3;
      break;
    case DType::kQ5_0:
    case DType::kQ5_1:
    case DType::kQ5_K:
      layout.bits = 5;
      break;
    case DType::kQ6_K:
      layout.bits = 6;
      break;
    default:
      break;
  }
  if (is_super && layout.bits != 4 && layout.bits != 5) layout.group_cols = 16;
  layout.has_mins = dtype == DType::kQ4_1 || dtype == DType::kQ5_1 || dtype == DType::kQ2_K ||
                    dtype == DType::kQ4_K || dtype == DType::kQ5_K;
  layout.has_table = dtype == DType::kIQ4_NL || dtype == DType::kIQ4_XS;
  return layout;
}

void UnpackRow(DType dtype, const std::byte* data, size_t cols, size_t row, TileRowBuffers& out) {
  const size_t size = BlockSize(dtype), bytes = DTypeSize(dtype), num_blocks = cols / size;
  BALEEN_CHECK(IsBlockType(dtype) && cols % size == 0);
  const size_t groups = out.factors.size() / out.scales.size();  // of a block
  const auto at = [](auto& part, size_t i) { return part.empty() ? nullptr : part.data() + i; };
  for (size_t i = 0; i < num_blocks; ++i) {
    const size_t block = row * num_blocks + i;
    UnpackBlock(dtype, Block(data + i * bytes),
                {.codes = out.codes.data() + block * size,
                 .scale = out.scales.data() + block,
                 .min = at(out.mins, block),
                 .factors = at(out.factors, block * groups),
                 .min_factors = at(out.min_factors, block * groups)});
  }
}

}  // namespace baleen
