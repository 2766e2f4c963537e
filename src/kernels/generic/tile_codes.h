// kernels/generic/tile_codes.h: the codes of tiles (tensor/tiles.h) in vectors, for the products of
// tiles.h and tile_floats.h. A vector is kLanes rows of weights, a tile or half of one; in each
// lane it has the codes of four columns, a step, one in each byte. A chunk is 32 columns, 8 steps.
// And the way of such vectors' sums to their outputs.
#ifndef BALEEN_KERNELS_GENERIC_TILE_CODES_H_
#define BALEEN_KERNELS_GENERIC_TILE_CODES_H_

#include <cstddef>
#include <cstdint>

#include "kernels/generic/formats.h"
#include "kernels/generic/inline.h"
#include "kernels/generic/inner_product.h"
#include "kernels/matrix.h"

namespace baleen::kernels::generic {

// Calls use.template operator()<i>() for i in [0, N).
template <size_t N, size_t i = 0, typename Use>
BALEEN_INLINE void ForEachConstant(const Use& use) {
  if constexpr (i < N) {
    use.template operator()<i>();
    ForEachConstant<N, i + 1>(use);
  }
}

// A word of all rows of a tile.
inline constexpr size_t kWordRowBytes = kTileRows * 4;

// kNonLinear + 128: codes of 8 bits.
inline constexpr uint8_t kNonLinearCodes[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                                129, 141, 153, 166, 181, 197, 217, 241};

// The codes of a row before and after they are looked up in a table; without one nothing happens.
template <typename P, bool kHasTable>
struct CodeTable {
  BALEEN_INLINE typename P::I32 Of(typename P::I32 codes) const { return codes; }
};
template <typename P>
struct CodeTable<P, true> {
  typename P::I32 table = P::RepeatTable(kNonLinearCodes);
  BALEEN_INLINE typename P::I32 Of(typename P::I32 codes) const { return P::Lookup(table, codes); }
};

// What of a layout decides which instructions a product takes.
enum class CodeTail { kZero, kMins, kTable };
template <size_t bits, CodeTail tail = CodeTail::kZero, size_t part_cols = 0>
struct CodeForm {
  static constexpr size_t kBits = bits;
  static constexpr bool kHasMins = tail == CodeTail::kMins;
  static constexpr bool kHasTable = tail == CodeTail::kTable;
  static constexpr size_t kPartCols = part_cols;  // that share a factor; 0: there are none
  // Of a code that meets activations.
  static constexpr size_t kSumBits = kHasTable ? 8 : kBits;
  static constexpr size_t kChunkBytes = kBits * kWordRowBytes;
  // Other forms have whole chunks.
  static constexpr bool kMayEndEarly =
      (kBits == 4 || kBits == 8) && tail == CodeTail::kZero && kPartCols == 0;
  static constexpr size_t kWordCols = 32 / kBits;
  // Columns that tile_floats.h takes at once: those of the first plane's words.
  static constexpr size_t kBlockCols = kBits == 8 ? 4 : 8;

  template <typename P>
  using Table = CodeTable<P, kHasTable>;
};

// Calls use(form) with the form of a valid layout whose groups have factors.
template <typename Use>
BALEEN_INLINE void WithFactoredForm(const TileLayout& layout, const Use& use) {
  using enum CodeTail;
  if (layout.has_table) return use(CodeForm<4, kTable, 32>());
  if (layout.bits == 2) return use(CodeForm<2, kMins, 16>());
  if (layout.bits == 3) return use(CodeForm<3, kZero, 16>());
  if (layout.bits == 4) return use(CodeForm<4, kMins, 32>());
  return layout.bits == 5 ? use(CodeForm<5, kMins, 32>()) : use(CodeForm<6, kZero, 16>());
}

// The same where they have none.
template <typename Use>
BALEEN_INLINE void WithPlainForm(const TileLayout& layout, const Use& use) {
  using enum CodeTail;
  if (layout.has_table) return use(CodeForm<4, kTable>());
  if (layout.has_mins) {
    return layout.bits == 4 ? use(CodeForm<4, kMins>()) : use(CodeForm<5, kMins>());
  }
  if (layout.bits == 5) return use(CodeForm<5>());
  return layout.bits == 4 ? use(CodeForm<4>()) : use(CodeForm<8>());
}

// Either of these, but one form for all that have the same codes.
template <typename Use>
BALEEN_INLINE void WithCodes(const TileLayout& layout, const Use& use) {
  if (layout.has_table) return use(CodeForm<4, CodeTail::kTable>());
  switch (layout.bits) {
    case 2:
      return use(CodeForm<2>());
    case 3:
      return use(CodeForm<3>());
    case 4:
      return use(CodeForm<4>());
    case 5:
      return use(CodeForm<5>());
    case 6:
      return use(CodeForm<6>());
    default:
      return use(CodeForm<8>());
  }
}

// The codes of step kStep of a chunk, or with a table the numbers of its places. For each plane
// load.template operator()<base, width>() gives the word that has them at bit kStep * width % 8;
// the plane's words begin with word `base` of the chunk.
template <typename P, typename Form, size_t kStep, typename Load>
BALEEN_INLINE typename P::I32 JoinPlanes(const Load& load) {
  constexpr size_t kBits = Form::kBits;
  if constexpr (kBits == 8) {
    return load.template operator()<0, 8>();
  } else {
    const auto plane = [&]<size_t kWidth>() BALEEN_INLINE_LAMBDA {
      // The planes that come before have as many words of a chunk as bits of a code.
      constexpr size_t kBase = kBits & (8 - 2 * kWidth);
      return P::template CodeBits<static_cast<int>(kStep * kWidth % 8), static_cast<int>(kWidth),
                                  static_cast<int>(kBase)>(
          load.template operator()<kBase, kWidth>());
    };
    constexpr size_t kFirst = (kBits & 4) != 0 ? 4 : 2;
    auto codes = plane.template operator()<kFirst>();
    if constexpr (kFirst == 4 && (kBits & 2) != 0) {
      codes = P::Or(codes, plane.template operator()<2>());
    }
    if constexpr ((kBits & 1) != 0) codes = P::Or(codes, plane.template operator()<1>());
    return codes;
  }
}

// Where the parts of vectors of weight rows lie.
template <typename P, size_t V>
struct TileVectors {
  static constexpr size_t kInTile = kTileRows / P::kLanes;
  const std::byte* scales[V];
  const std::byte* zeros[V];  // or mins
  const std::byte* factors[V];
  const std::byte* min_factors[V];
  const std::byte* codes[V];

  // Vectors [first, first + V) of w.
  BALEEN_INLINE TileVectors(const Matrix& w, size_t first) {
    const size_t tile_bytes = w.tiles.tile_bytes();
    for (size_t v = 0; v < V; ++v) {
      const std::byte* tile = w.data + (first + v) / kInTile * tile_bytes;
      const size_t lane = (first + v) % kInTile * P::kLanes;
      scales[v] = tile + 2 * lane;
      zeros[v] = tile + w.tiles.zeros_offset() + 2 * lane;
      factors[v] = tile + w.tiles.factors_offset() + lane;
      min_factors[v] = tile + w.tiles.min_factors_offset() + lane;
      codes[v] = tile + w.tiles.codes_offset() + 4 * lane;
    }
  }
};

// Writes sums[m][v], lane by lane the outputs (m, first + v * kLanes + lane), those below
// `num_outputs`.
template <typename P, size_t M, size_t V>
BALEEN_INLINE void WriteVectors(const typename P::F32 (&sums)[M][V], size_t first,
                                size_t num_outputs, const Output& y) {
  constexpr size_t kLanes = P::kLanes;
  for (size_t v = 0; v < V; ++v) {
    const size_t n = first + v * kLanes;
    if (n >= num_outputs) return;
    const size_t count = num_outputs - n < kLanes ? num_outputs - n : kLanes;
    for (size_t m = 0; m < M; ++m) {
      float* to = y.data + m * y.m_stride + n * y.n_stride;
      if (y.n_stride != 1) {
        float lanes[kLanes];
        P::Store(lanes, sums[m][v]);
        for (size_t i = 0; i < count; ++i) to[i * y.n_stride] = lanes[i];
      } else if (count == kLanes) {
        P::Store(to, sums[m][v]);
      } else {
        P::Store(to, sums[m][v], count);
      }
    }
  }
}

}  // namespace baleen::kernels::generic

#endif  // BALEEN_KERNELS_GENERIC_TILE_CODES_H_
