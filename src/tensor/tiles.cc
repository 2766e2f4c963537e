#include "tensor/tiles.h"

#include <cstring>

#include "base/check.h"
#include "tensor/dtype.h"

namespace baleen {

namespace {

// [rows, num_groups] -> [num_groups][16].
void PackPerGroup(size_t num_groups, size_t rows, const uint16_t* values, std::byte* out) {
  for (size_t r = 0; r < rows; ++r) {
    for (size_t g = 0; g < num_groups; ++g) {
      std::memcpy(out + (g * kTileRows + r) * 2, &values[r * num_groups + g], 2);
    }
  }
}

// The four bytes of a row and block: `codes` are its 4 or 8 columns.
uint32_t PackBlock(size_t bits, const uint8_t* codes) {
  uint32_t low, high;
  std::memcpy(&low, codes, sizeof(low));
  if (bits == 8) return low;
  std::memcpy(&high, codes + sizeof(low), sizeof(high));
  return low | high << 4;
}

uint16_t LoadU16(const std::byte* data) {
  uint16_t value;
  std::memcpy(&value, data, sizeof(value));
  return value;
}

}  // namespace

void PackTile(const TileLayout& layout, const TileRows& rows, std::byte* tile) {
  BALEEN_CHECK(layout.IsValid() && rows.rows <= kTileRows);
  BALEEN_CHECK((rows.zeros != nullptr) == layout.has_zeros);
  std::memset(tile, 0, rows.rows == kTileRows ? layout.codes_offset() : layout.tile_bytes());
  PackPerGroup(layout.num_groups(), rows.rows, rows.scales, tile);
  if (layout.has_zeros) {
    PackPerGroup(layout.num_groups(), rows.rows, rows.zeros, tile + layout.zeros_offset());
  }
  const size_t block_cols = layout.block_cols(), whole = layout.cols / block_cols;
  std::byte* const codes = tile + layout.codes_offset();
  for (size_t r = 0; r < rows.rows; ++r) {
    const uint8_t* row = rows.codes + r * layout.cols;
    const auto put = [&](size_t block, const uint8_t* columns) {
      const uint32_t packed = PackBlock(layout.bits, columns);
      std::memcpy(codes + (block * kTileRows + r) * sizeof(packed), &packed, sizeof(packed));
    };
    for (size_t b = 0; b < whole; ++b) put(b, row + b * block_cols);
    if (whole < layout.num_blocks()) {
      uint8_t last[8] = {};
      std::memcpy(last, row + whole * block_cols, layout.cols - whole * block_cols);
      put(whole, last);
    }
  }
}

namespace {

// Where the scale or zero of an element lies in its part of the tile.
size_t GroupOffset(const TileLayout& layout, size_t row, size_t col) {
  return (col / layout.group_cols * kTileRows + row) * 2;
}

}  // namespace

int TileNumber(const TileLayout& layout, const std::byte* tile, size_t row, size_t col) {
  const int zero = layout.has_zeros
                       ? LoadU16(tile + layout.zeros_offset() + GroupOffset(layout, row, col))
                       : 1 << (layout.bits - 1);
  const size_t block = col / layout.block_cols(), place = col % layout.block_cols();
  const std::byte* word = tile + layout.codes_offset() + (block * kTileRows + row) * 4;
  int code = std::to_integer<int>(word[place % 4]);
  if (layout.bits == 4) code = place < 4 ? code & 15 : code >> 4;
  return code - zero;
}

float TileScale(const TileLayout& layout, const std::byte* tile, size_t row, size_t col) {
  return F16ToF32(LoadU16(tile + GroupOffset(layout, row, col)));
}

float TileValue(const TileLayout& layout, const std::byte* tile, size_t row, size_t col) {
  return static_cast<float>(TileNumber(layout, tile, row, col)) * TileScale(layout, tile, row, col);
}

}  // namespace baleen
