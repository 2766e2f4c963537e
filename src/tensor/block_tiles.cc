#include "tensor/block_tiles.h"

#include <algorithm>
#include <cstring>
#include <iterator>

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

// Blocks of 32 with codes of four or five bits, by the offsets of their fields in bytes; 0: the
// field is not there.
template <size_t kMin, size_t kHigh, size_t kLow>
void UnpackBlock32(const Block& b, const Parts& out) {
  *out.scale = b.F16Bits(0);
  // m is added, a min is taken off.
  if constexpr (kMin != 0) *out.min = b.F16Bits(kMin) ^ 0x8000;
  UnpackHalves<16>(b, kLow, out.codes);
  if constexpr (kHigh != 0) {
    for (size_t i = 0; i < 32; ++i) {
      out.codes[i] |= static_cast<uint8_t>(b.Bit(kHigh + i / 8, i % 8) << 4);
    }
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

// What is particular to a block type.
struct BlockForm {
  DType dtype;
  size_t bits;        // of a code
  size_t group_cols;  // that share a scale, or a factor
  bool has_mins, has_table;
  void (*unpack)(const Block&, const Parts&);
};
constexpr BlockForm kForms[] = {
    {DType::kQ4_0, 4, 32, false, false, UnpackBlock32<0, 0, 2>},
    {DType::kQ4_1, 4, 32, true, false, UnpackBlock32<2, 0, 4>},
    {DType::kQ5_0, 5, 32, false, false, UnpackBlock32<0, 2, 6>},
    {DType::kQ5_1, 5, 32, true, false, UnpackBlock32<2, 4, 8>},
    {DType::kQ8_0, 8, 32, false, false, UnpackQ8_0},
    {DType::kQ2_K, 2, 16, true, false, UnpackQ2_K},
    {DType::kQ3_K, 3, 16, false, false, UnpackQ3_K},
    {DType::kQ4_K, 4, 32, true, false, UnpackQ4_K},
    {DType::kQ5_K, 5, 32, true, false, UnpackQ5_K},
    {DType::kQ6_K, 6, 16, false, false, UnpackQ6_K},
    {DType::kIQ4_NL, 4, 32, false, true, UnpackBlock32<0, 0, 2>},
    {DType::kIQ4_XS, 4, 32, false, true, UnpackIQ4_XS},
};

const BlockForm& FormOf(DType dtype) {
  const auto* form = std::ranges::find(kForms, dtype, &BlockForm::dtype);
  BALEEN_CHECK(form != std::end(kForms));
  return *form;
}

}  // namespace

TileLayout TileLayoutOf(DType dtype, size_t cols) {
  const BlockForm& form = FormOf(dtype);
  return {.cols = cols,
          .bits = form.bits,
          .group_cols = form.group_cols,
          .has_mins = form.has_mins,
          .has_table = form.has_table,
          .super_cols = BlockSize(dtype) == 256 ? size_t{256} : size_t{0}};
}

void UnpackRow(DType dtype, const std::byte* data, size_t cols, size_t row, TileRowBuffers& out) {
  const size_t size = BlockSize(dtype), bytes = DTypeSize(dtype), num_blocks = cols / size;
  BALEEN_CHECK(cols % size == 0);
  const auto unpack = FormOf(dtype).unpack;
  const size_t groups = out.factors.size() / out.scales.size();  // of a block
  const auto at = [](auto& part, size_t i) { return part.empty() ? nullptr : part.data() + i; };
  for (size_t i = 0; i < num_blocks; ++i) {
    const size_t block = row * num_blocks + i;
    unpack(Block(data + i * bytes), {.codes = out.codes.data() + block * size,
                                     .scale = out.scales.data() + block,
                                     .min = at(out.mins, block),
                                     .factors = at(out.factors, block * groups),
                                     .min_factors = at(out.min_factors, block * groups)});
  }
}

}  // namespace baleen
