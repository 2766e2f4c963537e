// tensor/tiles.h: quantized weights in the order in which products read them.
//
// Files keep a quantized row together; a product wants many rows at once, so that one load feeds
// one instruction that multiplies 16 rows by the same activations. A matrix is therefore cut into
// tiles of 16 rows, one behind the other; a row number that is no multiple of 16 is filled up with
// rows of zeros. A tile is a multiple of 64 bytes:
//
//   scales       F16 [num_scales][16]
//   zeros        U16 [num_groups][16]       only with has_zeros
//   mins         F16 [num_scales][16]       only with has_mins
//   factors      I8 [num_groups][16]        only with super_cols
//   min_factors  I8 [num_groups][16]        only with super_cols and has_mins
//   codes        [16] x 4 bytes again and again
//
// each part filled up with zeros to a multiple of 64 bytes.
//
//   value of (row, column) = number * scale - min
//   number = factor * (code - zero), or factor * kNonLinear[code] with has_table
//   zero = 2^(bits - 1), or that of the group with has_zeros, or 0 with has_mins
//   min = min of the scale's columns * min_factor, or 0
//
// where factors are 1 without super_cols. All but the last subtraction is exact in F32: a code has
// at most 8 bits, a scale 11; with factors (8 bits) codes have at most 6, or the table's 8 where
// factors have 6. So Q4_0, what GPTQ makes with F16 scales, and all block types of GGUF that
// tensor/blocks.h has, lose nothing, and take about the bytes that they take in their files.
//
// Codes: with 8 bits, each 64 bytes are 4 columns, a byte each. Else codes are cut into planes of
// 4, 2 and 1 bits, highest plane last, as their number of bits has them (6 bits: a plane of the low
// 4 and one of the high 2), and 32 columns are one behind the other all words of the first plane,
// then of the next. A word of a plane has of its row, with 4 bits, in byte j column j (low half)
// and 4 + j; with 2 bits, columns j, 4 + j, 8 + j and 12 + j; with 1 bit eight columns. Columns are
// filled up to whole words.
#ifndef BALEEN_TENSOR_TILES_H_
#define BALEEN_TENSOR_TILES_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace baleen {

inline constexpr size_t kTileRows = 16;
inline constexpr size_t kTileAlignment = 64;
// Columns of activations that share a scale, unless the groups of the weights are narrower.
inline constexpr size_t kActivationGroup = 128;
// The sixteen values of codes with a table: those of IQ4_NL and IQ4_XS, denser around zero.
inline constexpr int8_t kNonLinear[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                          1,    13,   25,  38,  53,  69,  89,  113};

// Kernels use the methods in files that are compiled for wide instructions, and no copy of them may
// be left there for others to share.
#define BALEEN_TILES_INLINE [[gnu::always_inline]]

struct TileLayout {
  size_t cols = 0;
  size_t bits = 0;        // of a code: 2, 3, 4, 5, 6 or 8; 0: no tiles
  size_t group_cols = 0;  // that share a scale, or a factor; see IsValid
  bool has_zeros = false;
  bool has_mins = false;
  bool has_table = false;
  size_t super_cols = 0;  // that share a scale where groups have factors; 0: there are none

  // Without factors: codes of 4 or 8 bits in groups of 32, 64 or a multiple of 128 columns, the
  // last one may be shorter, or in one group of all columns, however many; codes of 5 bits, or of 4
  // or 5 with mins, or with a table, in whole groups of 32. With factors: codes of 2 bits with
  // mins, 3 and 6 without, in groups of 16, of 4 with mins or a table and 5 with mins in groups
  // of 32.
  bool IsValid() const {
    if (cols == 0 || group_cols == 0 || (has_table && bits != 4)) return false;
    if (has_zeros + has_mins + has_table > 1) return false;
    return super_cols == 0 ? IsValidWithoutFactors() : IsValidWithFactors();
  }

  BALEEN_TILES_INLINE size_t num_groups() const { return (cols + group_cols - 1) / group_cols; }
  BALEEN_TILES_INLINE size_t scale_cols() const { return super_cols ? super_cols : group_cols; }
  BALEEN_TILES_INLINE size_t num_scales() const { return (cols + scale_cols() - 1) / scale_cols(); }
  // Words of all 16 rows.
  BALEEN_TILES_INLINE size_t num_words() const {
    if (bits == 4) return (cols + 7) / 8;
    return bits == 8 ? (cols + 3) / 4 : cols / 32 * bits;
  }
  // Of zeros or mins, whichever there are.
  BALEEN_TILES_INLINE size_t zeros_offset() const { return Align(num_scales() * kTileRows * 2); }
  BALEEN_TILES_INLINE size_t factors_offset() const {
    return has_zeros || has_mins ? 2 * zeros_offset() : zeros_offset();
  }
  BALEEN_TILES_INLINE size_t min_factors_offset() const {
    return factors_offset() + (super_cols ? Align(num_groups() * kTileRows) : 0);
  }
  BALEEN_TILES_INLINE size_t codes_offset() const {
    return min_factors_offset() + (super_cols && has_mins ? Align(num_groups() * kTileRows) : 0);
  }
  BALEEN_TILES_INLINE size_t tile_bytes() const {
    return codes_offset() + num_words() * kTileRows * 4;
  }
  // Of a matrix of `rows` rows.
  BALEEN_TILES_INLINE size_t SizeBytes(size_t rows) const {
    return (rows + kTileRows - 1) / kTileRows * tile_bytes();
  }
  // Columns that a product sums before it scales: those that share a scale on both sides.
  BALEEN_TILES_INLINE size_t segment_cols() const {
    return super_cols == 0 && (group_cols == 32 || group_cols == 64) ? group_cols
                                                                     : kActivationGroup;
  }
  // Columns of activations of which a product needs a sum of their own, within a segment; 0: none.
  BALEEN_TILES_INLINE size_t part_cols() const { return super_cols ? group_cols : 0; }

  bool operator==(const TileLayout&) const = default;

 private:
  bool IsValidWithoutFactors() const {
    if (bits == 5 || has_mins || has_table) {
      return (bits == 4 || bits == 5) && !has_zeros && group_cols == 32 && cols % 32 == 0;
    }
    return (bits == 4 || bits == 8) && (group_cols == 32 || group_cols == 64 ||
                                        group_cols % kActivationGroup == 0 || group_cols >= cols);
  }
  // Where 16 bits hold the sums of products (kernels/avx2/primitives.h): 6 bits with mins and 5
  // without would not fit.
  bool IsValidWithFactors() const {
    if (has_zeros || super_cols % kActivationGroup != 0 || cols % super_cols != 0) return false;
    switch (bits) {
      case 2:
        return has_mins && group_cols == 16;
      case 3:
      case 6:
        return !has_mins && group_cols == 16;
      case 4:
        return has_mins != has_table && group_cols == 32;
      case 5:
        return has_mins && group_cols == 32;
      default:
        return false;
    }
  }
  BALEEN_TILES_INLINE static size_t Align(size_t bytes) {
    return (bytes + kTileAlignment - 1) / kTileAlignment * kTileAlignment;
  }
};

#undef BALEEN_TILES_INLINE

// What a tile is made of, row by row; null what the layout does not have. `rows` < 16 rows leave
// the rest to be filled up.
struct TileRows {
  size_t rows = 0;
  const uint8_t* codes = nullptr;       // [rows, cols], each below 2^bits
  const uint16_t* scales = nullptr;     // [rows, num_scales], bits of F16
  const uint16_t* zeros = nullptr;      // [rows, num_groups], up to 256
  const uint16_t* mins = nullptr;       // [rows, num_scales], bits of F16
  const int8_t* factors = nullptr;      // [rows, num_groups]; with a table within [-32, 31]
  const int8_t* min_factors = nullptr;  // [rows, num_groups]
};

// Memory for that of one row or more; what the layout does not have is empty.
struct TileRowBuffers {
  std::vector<uint8_t> codes;
  std::vector<uint16_t> scales, zeros, mins;
  std::vector<int8_t> factors, min_factors;

  void Resize(const TileLayout& layout, size_t rows);
  TileRows View(size_t rows) const;
};

// Writes layout.tile_bytes() to `tile`. Threads: any.
void PackTile(const TileLayout& layout, const TileRows& rows, std::byte* tile);

// What a value in a tile is made of, as above: number * scale - min_number * min.
struct TileElement {
  int number = 0;
  float scale = 0;
  int min_number = 0;
  float min = 0;
};
// Row < 16.
TileElement TileElementAt(const TileLayout& layout, const std::byte* tile, size_t row, size_t col);
float TileValue(const TileLayout& layout, const std::byte* tile, size_t row, size_t col);
// All values of a row: out[cols].
void DecodeTileRow(const TileLayout& layout, const std::byte* tile, size_t row, float* out);

}  // namespace baleen

#endif  // BALEEN_TENSOR_TILES_H_
