// tensor/tiles.h: quantized weights in the order in which products read them.
//
// Files keep a quantized row together; a product wants many rows at once, so that one load feeds
// one instruction that multiplies 16 rows by the same activations. A matrix is therefore cut into
// tiles of 16 rows, one behind the other; a row number that is no multiple of 16 is filled up with
// rows of zeros. A tile is a multiple of 64 bytes:
//
//   scales  F16 [num_groups][16]
//   zeros   U16 [num_groups][16]            only with has_zeros
//   codes   [num_blocks][16] x 4 bytes      a block is 8 columns of 4 bits or 4 columns of 8 bits
//
// each part filled up with zeros to a multiple of 64 bytes. In a block, the 4 bytes of a row are,
// with 8 bits, its columns 0 to 3; with 4 bits, byte j holds column j in its low half and column
// j + 4 in its high half. Columns are filled up to whole blocks.
//
//   value of (row, column) = (code - zero) * scale, exact in F32 (a code has at most 8 bits, a
//   scale 11), with zero = 2^(bits - 1) without has_zeros.
//
// So Q4_0, Q8_0 and what GPTQ makes in 4 or 8 bits, with F16 scales, lose nothing, and take the
// bytes that they take in their files.
#ifndef BALEEN_TENSOR_TILES_H_
#define BALEEN_TENSOR_TILES_H_

#include <cstddef>
#include <cstdint>

namespace baleen {

inline constexpr size_t kTileRows = 16;
inline constexpr size_t kTileAlignment = 64;
// Columns of activations that share a scale, unless the groups of the weights are narrower.
inline constexpr size_t kActivationGroup = 128;

// Kernels use the methods in files that are compiled for wide instructions, and no copy of them may
// be left there for others to share.
#define BALEEN_TILES_INLINE [[gnu::always_inline]]

struct TileLayout {
  size_t cols = 0;
  size_t bits = 0;        // 4 or 8; 0: no tiles
  size_t group_cols = 0;  // that share a scale; see IsValid
  bool has_zeros = false;

  // Groups of 32, 64 or a multiple of 128 columns, the last one may be shorter; or one group of all
  // columns, however many.
  bool IsValid() const {
    return (bits == 4 || bits == 8) && cols > 0 && group_cols > 0 &&
           (group_cols == 32 || group_cols == 64 || group_cols % kActivationGroup == 0 ||
            group_cols >= cols);
  }

  BALEEN_TILES_INLINE size_t num_groups() const { return (cols + group_cols - 1) / group_cols; }
  BALEEN_TILES_INLINE size_t block_cols() const { return 32 / bits; }
  BALEEN_TILES_INLINE size_t num_blocks() const { return (cols + block_cols() - 1) / block_cols(); }
  BALEEN_TILES_INLINE size_t zeros_offset() const { return Align(num_groups() * kTileRows * 2); }
  BALEEN_TILES_INLINE size_t codes_offset() const {
    return has_zeros ? 2 * zeros_offset() : zeros_offset();
  }
  BALEEN_TILES_INLINE size_t tile_bytes() const {
    return codes_offset() + num_blocks() * kTileRows * 4;
  }
  // Of a matrix of `rows` rows.
  BALEEN_TILES_INLINE size_t SizeBytes(size_t rows) const {
    return (rows + kTileRows - 1) / kTileRows * tile_bytes();
  }
  // Columns that a product sums before it scales: those that share a scale on both sides.
  BALEEN_TILES_INLINE size_t segment_cols() const {
    return group_cols == 32 || group_cols == 64 ? group_cols : kActivationGroup;
  }

  bool operator==(const TileLayout&) const = default;

 private:
  BALEEN_TILES_INLINE static size_t Align(size_t bytes) {
    return (bytes + kTileAlignment - 1) / kTileAlignment * kTileAlignment;
  }
};

#undef BALEEN_TILES_INLINE

// What a tile is made of, row by row. `rows` < 16 rows leave the rest to be filled up.
struct TileRows {
  size_t rows = 0;
  const uint8_t* codes = nullptr;    // [rows, cols], each below 2^bits
  const uint16_t* scales = nullptr;  // [rows, num_groups], bits of F16
  const uint16_t* zeros = nullptr;   // [rows, num_groups], up to 256; with has_zeros only
};

// Writes layout.tile_bytes() to `tile`. Threads: any.
void PackTile(const TileLayout& layout, const TileRows& rows, std::byte* tile);

// One element of a tile, row < 16: code - zero, the scale, and their product.
int TileNumber(const TileLayout& layout, const std::byte* tile, size_t row, size_t col);
float TileScale(const TileLayout& layout, const std::byte* tile, size_t row, size_t col);
float TileValue(const TileLayout& layout, const std::byte* tile, size_t row, size_t col);

}  // namespace baleen

#endif  // BALEEN_TENSOR_TILES_H_
