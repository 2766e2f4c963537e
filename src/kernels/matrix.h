// kernels/matrix.h: the operands of products: weights as stored, activations as computed.
#ifndef BALEEN_KERNELS_MATRIX_H_
#define BALEEN_KERNELS_MATRIX_H_

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"
#include "tensor/tiles.h"

namespace baleen::kernels {

// FP8 weights carry one scale for each block of this many rows and columns.
inline constexpr size_t kF8Block = 128;

// Weights [rows, cols], row-major, as the file has them: F32, F16, BF16, F8_E4M3 or a block type
// (tensor/dtype.h; cols are whole blocks). Or repacked into tiles (tensor/tiles.h), which begin at
// a multiple of 64 bytes; `dtype` then still says what the file has. Does not own the data, which
// may otherwise be unaligned.
struct Matrix {
  DType dtype = DType::kF32;
  const std::byte* data = nullptr;  // of row 0
  size_t rows = 0;
  size_t cols = 0;

  // F8_E4M3 only: value = f8 * scales[(first_row + r) / 128, c / 128]; the scales belong to the
  // whole tensor, of which this matrix begins at first_row.
  const float* scales = nullptr;
  size_t first_row = 0;

  // Tiles only. column_order [cols] or null: column c of the tiles meets x[column_order[c]].
  TileLayout tiles = {};
  const int32_t* column_order = nullptr;

  bool empty() const { return rows == 0; }
  bool is_tiled() const { return tiles.bits != 0; }
  size_t size_bytes() const {
    return is_tiled() ? tiles.SizeBytes(rows) : rows * RowBytes(dtype, cols);
  }
  // Row r as the file has it; not for tiles.
  const std::byte* row(size_t r) const { return data + r * RowBytes(dtype, cols); }
  // The tile that begins with row r, a multiple of 16.
  const std::byte* tile(size_t r) const { return data + r / kTileRows * tiles.tile_bytes(); }
  const float* scale_row(size_t r) const {
    return scales + (first_row + r) / kF8Block * ((cols + kF8Block - 1) / kF8Block);
  }

  // Rows [begin, begin + count); of tiles, `begin` is a multiple of 16.
  Matrix Rows(size_t begin, size_t count) const {
    Matrix slice = *this;
    slice.data = is_tiled() ? tile(begin) : row(begin);
    slice.rows = count;
    slice.first_row = first_row + begin;
    return slice;
  }
};

// The form in which activations enter a product. It decides the arithmetic: kF32 multiplies in
// F32 (weights are widened exactly), kBF16 rounds activations to BF16 (nearest even) and sums
// products of BF16 in F32, kI8 rounds them to whole numbers (I8Row) and meets tiles only.
enum class ActivationType : uint8_t { kF32, kBF16, kI8 };

// Bytes of one activation of a type that has a size for one.
inline size_t ActivationSize(ActivationType type) { return type == ActivationType::kF32 ? 4 : 2; }

// How a row of kI8 lies in memory: whole numbers in [-127, 127], filled up with zeros to a multiple
// of 64; an F32 scale for each group of columns; then sums. x = number * scale, scale = max |x| /
// 127. Without parts the sums are, for each group, that of its numbers times -8 (as the zero point
// of symmetric codes of 4 bits asks) in 32 bits. With parts they are, for each part of a group, two
// of 16 bits: of its columns 4 i and 4 i + 1, and of 4 i + 2 and 4 i + 3, both times -8.
struct I8Row {
  size_t cols = 0;
  size_t group_cols = 0;  // 32, 64 or 128
  size_t part_cols = 0;   // 16 or 32, or 0: there are no parts

  [[gnu::always_inline]] size_t num_groups() const { return (cols + group_cols - 1) / group_cols; }
  [[gnu::always_inline]] size_t num_sums() const {
    return part_cols ? (cols + part_cols - 1) / part_cols : num_groups();
  }
  [[gnu::always_inline]] size_t scales_offset() const { return (cols + 63) / 64 * 64; }
  [[gnu::always_inline]] size_t sums_offset() const { return scales_offset() + num_groups() * 4; }
  [[gnu::always_inline]] size_t bytes() const {
    return (sums_offset() + num_sums() * 4 + 63) / 64 * 64;
  }
};

// Activations [rows, cols] in one of these forms. Does not own the data.
struct Activations {
  ActivationType type = ActivationType::kF32;
  const std::byte* data = nullptr;
  size_t rows = 0;
  size_t cols = 0;
  size_t row_bytes = 0;   // distance between rows
  size_t group_cols = 0;  // kI8 only, as I8Row
  size_t part_cols = 0;

  I8Row i8_row() const { return {.cols = cols, .group_cols = group_cols, .part_cols = part_cols}; }
  const std::byte* row(size_t r) const { return data + r * row_bytes; }
};

// A row of the latent cache: kv_lora_rank numbers, normalised, then the rotated rope key. F32 and
// BF16 rows are these numbers one behind the other. A row of kI8 has an F32 scale for each 128
// latent numbers, then these as whole numbers in [-127, 127], then the rope key in BF16:
// 656 bytes of 512 + 64 numbers.
struct LatentLayout {
  static constexpr size_t kScaleBlock = 128;

  DType dtype = DType::kF32;  // kF32, kBF16 or kI8
  size_t kv_lora_rank = 0;
  size_t qk_rope_head_dim = 0;

  // All in bytes from the row's beginning; methods are inlined everywhere, since kernels use them
  // in files that are compiled for wide instructions.
  [[gnu::always_inline]] size_t latent_offset() const {
    return dtype == DType::kI8 ? (kv_lora_rank + kScaleBlock - 1) / kScaleBlock * sizeof(float) : 0;
  }
  [[gnu::always_inline]] size_t rope_offset() const {
    if (dtype == DType::kI8) return (latent_offset() + kv_lora_rank + 1) / 2 * 2;
    return kv_lora_rank * (dtype == DType::kBF16 ? 2 : 4);
  }
  [[gnu::always_inline]] size_t row_bytes() const {
    const size_t rope_size = dtype == DType::kF32 ? 4 : 2;
    const size_t end = rope_offset() + qk_rope_head_dim * rope_size;
    return dtype == DType::kI8 ? (end + 3) / 4 * 4 : end;
  }
};

// Writes a row of kI8; row [kv_lora_rank + qk_rope_head_dim]. The scale is the largest magnitude
// / 127; numbers round to nearest even. A block with an infinite or undefined number becomes NaN.
void PackLatentI8(const LatentLayout& layout, const float* row, std::byte* out);

// Rows of the latent cache of one sequence and layer. Row t stands at blocks[t / block_tokens] +
// offset_bytes + (t % block_tokens) * row_bytes.
struct LatentRows {
  DType dtype = DType::kF32;  // kF32, kBF16 or kI8
  const std::byte* const* blocks = nullptr;
  size_t block_tokens = 0;
  size_t offset_bytes = 0;
  size_t row_bytes = 0;

  const std::byte* row(size_t t) const {
    return blocks[t / block_tokens] + offset_bytes + (t % block_tokens) * row_bytes;
  }
};

}  // namespace baleen::kernels

#endif  // BALEEN_KERNELS_MATRIX_H_
