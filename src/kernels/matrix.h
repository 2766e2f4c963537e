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
// products of BF16 in F32.
enum class ActivationType : uint8_t { kF32, kBF16 };
inline constexpr size_t kNumActivationTypes = 2;

inline size_t ActivationSize(ActivationType type) { return type == ActivationType::kF32 ? 4 : 2; }

// Activations [rows, cols] in one of these forms. Does not own the data.
struct Activations {
  ActivationType type = ActivationType::kF32;
  const std::byte* data = nullptr;
  size_t rows = 0;
  size_t cols = 0;
  size_t row_bytes = 0;  // distance between rows

  const std::byte* row(size_t r) const { return data + r * row_bytes; }
};

// Rows of the latent cache of one sequence and layer: kv_lora_rank numbers, normalised, then the
// rotated rope key. Row t stands at blocks[t / block_tokens] + offset_bytes +
// (t % block_tokens) * row_bytes.
struct LatentRows {
  DType dtype = DType::kF32;  // kF32 or kBF16
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
