#include "tensor/tiles.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "tensor/dtype.h"

namespace baleen {

namespace {

constexpr size_t kWordBytes = 4;
constexpr size_t kChunkCols = 32;

// [rows, count] -> [count][16].
template <typename T>
void Transpose(size_t count, size_t rows, const T* values, std::byte* out) {
  for (size_t r = 0; r < rows; ++r) {
    for (size_t i = 0; i < count; ++i) {
      std::memcpy(out + (i * kTileRows + r) * sizeof(T), &values[r * count + i], sizeof(T));
    }
  }
}

// Where the bits of a column lie in a plane of `width` bits, of which there are 4 / width steps of
// four columns in a half byte, and so on.
struct Place {
  size_t word, byte, shift;
};
Place PlaceOf(size_t width, size_t col) {
  const size_t bit = col / 4 * width;
  return {bit / 8, col % 4, bit % 8};
}

// Calls use(width, first) for each plane of codes of `bits` bits, the lowest first. Before it lie
// `first` words of each chunk, and as many bits of each code.
template <typename Use>
[[gnu::always_inline]] inline void ForEachPlane(size_t bits, const Use& use) {
  if (bits == 8) return use(size_t{8}, size_t{0});
  for (size_t width = 4, first = 0; width > 0; width /= 2) {
    if ((bits & width) == 0) continue;
    use(width, first);
    first += width;
  }
}

// Packs a chunk of a row: `cols` <= 32 columns to words from `out` on, four columns at a time.
[[gnu::always_inline]] inline void PackChunk(size_t bits, const uint8_t* codes, size_t cols,
                                             std::byte* out) {
  uint8_t padded[kChunkCols] = {};
  std::memcpy(padded, codes, cols);
  uint32_t words[8] = {};
  size_t num_words = 0;
  ForEachPlane(bits, [&](size_t width, size_t first) {
    const uint32_t mask = 0x01010101u * ((1u << width) - 1);
    for (size_t c = 0; c < cols; c += 4) {
      uint32_t four;
      std::memcpy(&four, padded + c, sizeof(four));
      const Place place = PlaceOf(width, c);
      words[first + place.word] |= ((four >> first) & mask) << place.shift;
      num_words = first + place.word + 1;
    }
  });
  for (size_t i = 0; i < num_words; ++i) {
    std::memcpy(out + i * kTileRows * kWordBytes, &words[i], kWordBytes);
  }
}

// The codes of columns [col, col + 4), a multiple of 4, a byte each.
uint32_t CodesAt(const TileLayout& layout, const std::byte* tile, size_t row, size_t col) {
  const std::byte* chunk = tile + layout.codes_offset() +
                           (col / kChunkCols * layout.bits * kTileRows + row) * kWordBytes;
  uint32_t codes = 0;
  ForEachPlane(layout.bits, [&](size_t width, size_t first) {
    const Place place = PlaceOf(width, col % kChunkCols);
    uint32_t word;
    std::memcpy(&word, chunk + (first + place.word) * kTileRows * kWordBytes, sizeof(word));
    codes |= ((word >> place.shift) & (0x01010101u * ((1u << width) - 1))) << first;
  });
  return codes;
}

template <typename T>
T Load(const std::byte* data) {
  T value;
  std::memcpy(&value, data, sizeof(value));
  return value;
}

}  // namespace

void TileRowBuffers::Resize(const TileLayout& layout, size_t rows) {
  const size_t num_groups = rows * layout.num_groups(), num_scales = rows * layout.num_scales();
  codes.resize(rows * layout.cols);
  scales.resize(num_scales);
  zeros.resize(layout.has_zeros ? num_groups : 0);
  mins.resize(layout.has_mins ? num_scales : 0);
  factors.resize(layout.super_cols ? num_groups : 0);
  min_factors.resize(layout.super_cols && layout.has_mins ? num_groups : 0);
}

TileRows TileRowBuffers::View(size_t rows) const {
  const auto data = [](const auto& part) { return part.empty() ? nullptr : part.data(); };
  return {.rows = rows,
          .codes = data(codes),
          .scales = data(scales),
          .zeros = data(zeros),
          .mins = data(mins),
          .factors = data(factors),
          .min_factors = data(min_factors)};
}

namespace {

// The codes of all rows. The number of bits is a constant, so that shifts and masks are.
template <size_t kBits>
void PackCodes(const TileLayout& layout, const TileRows& rows, std::byte* tile) {
  for (size_t r = 0; r < rows.rows; ++r) {
    const uint8_t* row = rows.codes + r * layout.cols;
    std::byte* const codes = tile + layout.codes_offset() + r * kWordBytes;
    const size_t whole = layout.cols / kChunkCols * kChunkCols;
    const auto out = [&](size_t c) {
      return codes + c / kChunkCols * kBits * kTileRows * kWordBytes;
    };
    for (size_t c = 0; c < whole; c += kChunkCols) PackChunk(kBits, row + c, kChunkCols, out(c));
    if (whole < layout.cols) PackChunk(kBits, row + whole, layout.cols - whole, out(whole));
  }
}

}  // namespace

void PackTile(const TileLayout& layout, const TileRows& rows, std::byte* tile) {
  BALEEN_CHECK(layout.IsValid() && rows.rows <= kTileRows);
  BALEEN_CHECK((rows.zeros != nullptr) == layout.has_zeros);
  BALEEN_CHECK((rows.mins != nullptr) == layout.has_mins);
  BALEEN_CHECK((rows.factors != nullptr) == (layout.super_cols != 0));
  std::memset(tile, 0, rows.rows == kTileRows ? layout.codes_offset() : layout.tile_bytes());
  const size_t num_scales = layout.num_scales(), num_groups = layout.num_groups();
  Transpose(num_scales, rows.rows, rows.scales, tile);
  if (rows.zeros) Transpose(num_groups, rows.rows, rows.zeros, tile + layout.zeros_offset());
  if (rows.mins) Transpose(num_scales, rows.rows, rows.mins, tile + layout.zeros_offset());
  if (rows.factors) Transpose(num_groups, rows.rows, rows.factors, tile + layout.factors_offset());
  if (rows.min_factors) {
    Transpose(num_groups, rows.rows, rows.min_factors, tile + layout.min_factors_offset());
  }
  switch (layout.bits) {
    case 2:
      return PackCodes<2>(layout, rows, tile);
    case 3:
      return PackCodes<3>(layout, rows, tile);
    case 4:
      return PackCodes<4>(layout, rows, tile);
    case 5:
      return PackCodes<5>(layout, rows, tile);
    case 6:
      return PackCodes<6>(layout, rows, tile);
    default:
      return PackCodes<8>(layout, rows, tile);
  }
}

namespace {

// What the columns of a row and group share.
struct Group {
  int zero = 0, factor = 1, min_factor = 0;
  float scale = 0, min = 0;

  Group(const TileLayout& layout, const std::byte* tile, size_t row, size_t col) {
    const size_t group = col / layout.group_cols * kTileRows + row;
    const size_t scales = col / layout.scale_cols() * kTileRows + row;
    scale = F16ToF32(Load<uint16_t>(tile + 2 * scales));
    if (layout.has_zeros) {
      zero = Load<uint16_t>(tile + layout.zeros_offset() + 2 * group);
    } else if (!layout.has_mins && !layout.has_table) {
      zero = 1 << (layout.bits - 1);
    }
    if (layout.super_cols) factor = Load<int8_t>(tile + layout.factors_offset() + group);
    if (!layout.has_mins) return;
    min = F16ToF32(Load<uint16_t>(tile + layout.zeros_offset() + 2 * scales));
    min_factor = layout.super_cols ? Load<int8_t>(tile + layout.min_factors_offset() + group) : 1;
  }

  int Number(const TileLayout& layout, uint32_t code) const {
    return factor * (layout.has_table ? kNonLinear[code] : static_cast<int>(code) - zero);
  }
};

}  // namespace

TileElement TileElementAt(const TileLayout& layout, const std::byte* tile, size_t row, size_t col) {
  const Group group(layout, tile, row, col);
  const uint32_t code = CodesAt(layout, tile, row, col / 4 * 4) >> (col % 4 * 8) & 0xff;
  return {.number = group.Number(layout, code),
          .scale = group.scale,
          .min_number = group.min_factor,
          .min = group.min};
}

void DecodeTileRow(const TileLayout& layout, const std::byte* tile, size_t row, float* out) {
  for (size_t begin = 0; begin < layout.cols; begin += layout.group_cols) {
    const Group group(layout, tile, row, begin);
    const float min = static_cast<float>(group.min_factor) * group.min;
    const size_t end = std::min(layout.cols, begin + layout.group_cols);
    for (size_t c = begin; c < end; c += 4) {
      uint32_t codes = CodesAt(layout, tile, row, c);
      for (size_t i = c; i < std::min(end, c + 4); ++i, codes >>= 8) {
        const float value = static_cast<float>(group.Number(layout, codes & 0xff)) * group.scale;
        out[i] = layout.has_mins ? value - min : value;
      }
    }
  }
}

float TileValue(const TileLayout& layout, const std::byte* tile, size_t row, size_t col) {
  const TileElement element = TileElementAt(layout, tile, row, col);
  const float value = static_cast<float>(element.number) * element.scale;
  return layout.has_mins ? value - static_cast<float>(element.min_number) * element.min : value;
}

}  // namespace baleen
