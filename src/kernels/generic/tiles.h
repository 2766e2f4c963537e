// kernels/generic/tiles.h: products with tiles (tensor/tiles.h; contract: kernels/table.h). The
// ladder of steps and their measured gains: docs/kernels/quantized.md.
//
// The lanes of a vector are rows of weights, so nothing is summed across lanes: four bytes of
// activations are repeated in every lane and meet 64 bytes of codes. Codes are unpacked in
// registers. Sums of whole numbers are exact, so tiles of any shape give the same bits; the sum of
// each segment (128 columns, or a narrower group) is scaled into a float, segments ascending.
#ifndef BALEEN_KERNELS_GENERIC_TILES_H_
#define BALEEN_KERNELS_GENERIC_TILES_H_

#include <cstddef>
#include <cstdint>

#include "kernels/generic/formats.h"
#include "kernels/generic/inline.h"
#include "kernels/generic/inner_product.h"
#include "kernels/table.h"

namespace baleen::kernels::generic {

// Where the parts of vectors of weight rows lie. A vector is kLanes rows, a tile or half of one.
template <typename P, size_t V>
struct TileVectors {
  static constexpr size_t kInTile = kTileRows / P::kLanes;
  const std::byte* scales[V];
  const std::byte* zeros[V];
  const std::byte* codes[V];

  // Vectors [first, first + V) of w.
  BALEEN_INLINE TileVectors(const Matrix& w, size_t first) {
    const size_t tile_bytes = w.tiles.tile_bytes();
    for (size_t v = 0; v < V; ++v) {
      const std::byte* tile = w.data + (first + v) / kInTile * tile_bytes;
      const size_t lane = (first + v) % kInTile * P::kLanes;
      scales[v] = tile + 2 * lane;
      zeros[v] = tile + w.tiles.zeros_offset() + 2 * lane;
      codes[v] = tile + w.tiles.codes_offset() + 4 * lane;
    }
  }
};

inline constexpr size_t kBlockBytes = kTileRows * 4;

// sums[m][v] += codes of blocks [block, block + num_blocks) times x, which covers 32 columns at
// most.
template <typename P, size_t kBits, size_t M, size_t V>
BALEEN_INLINE void DotBlocks(const std::byte* const (&x)[M], const TileVectors<P, V>& w,
                             size_t block, size_t num_blocks, typename P::I32 (&sums)[M][V]) {
  constexpr size_t kBlockCols = 32 / kBits;
  const auto dot = [&](const typename P::I32(&codes)[V], size_t col) BALEEN_INLINE_LAMBDA {
    for (size_t m = 0; m < M; ++m) {
      const auto xs = P::RepeatI32(x[m] + col);
      for (size_t v = 0; v < V; ++v) {
        sums[m][v] = P::template DotCodes<kBits>(codes[v], xs, sums[m][v]);
      }
    }
  };
  for (size_t b = block; b < block + num_blocks; ++b) {
    typename P::I32 raw[V], codes[V];
    for (size_t v = 0; v < V; ++v) {
      raw[v] = P::LoadI32(w.codes[v] + b * kBlockBytes);
      if (P::kCodeAhead > 0 && v % TileVectors<P, V>::kInTile == 0) {
        PrefetchAt(w.codes[v], b * kBlockBytes + P::kCodeAhead);
      }
    }
    if constexpr (kBits == 8) {
      dot(raw, b * kBlockCols);
    } else {
      for (size_t v = 0; v < V; ++v) codes[v] = P::LowHalves(raw[v]);
      dot(codes, b * kBlockCols);
      for (size_t v = 0; v < V; ++v) codes[v] = P::HighHalves(raw[v]);
      dot(codes, b * kBlockCols + 4);
    }
  }
}

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

// What a segment's sum begins with: minus the zero points times the sum of x, of which x keeps -8
// times; DotCodes may have taken a part of the zero point off already.
template <typename P, size_t kBits>
BALEEN_INLINE typename P::I32 ZeroPoint(typename P::I32 zero_sum) {
  if constexpr (kBits == 4) return zero_sum;
  return P::template kCodeZero<kBits> == 128 ? P::ZeroI32() : P::template ShiftLeft<4>(zero_sum);
}
template <typename P, size_t kBits>
BALEEN_INLINE typename P::I32 ZeroPoints(typename P::I32 zeros, typename P::I32 zero_sum) {
  const auto left = P::AddI32(zeros, P::SetI32(-P::template kCodeZero<kBits>));
  return P::template ShiftRight<3>(P::MulI32(left, zero_sum));
}

// M rows of x against V vectors of weight rows, from vector `first` on.
template <typename P, size_t kBits, size_t M, size_t V>
void TileProduct(const std::byte* const (&x)[M], const I8Row& x_layout, const Matrix& matrix,
                 size_t first, const Output& y) {
  using I32 = typename P::I32;
  const TileLayout& layout = matrix.tiles;
  const TileVectors<P, V> w(matrix, first);
  constexpr size_t kBlockCols = 32 / kBits, kChunkBlocks = 32 / kBlockCols;
  const size_t segment_cols = x_layout.group_cols, num_segments = x_layout.num_groups();
  const size_t segment_blocks = segment_cols / kBlockCols, num_blocks = layout.num_blocks();
  const size_t segments_in_group = (layout.group_cols + segment_cols - 1) / segment_cols;
  const size_t scales_offset = x_layout.scales_offset(), sums_offset = x_layout.sums_offset();

  typename P::F32 sums[M][V];
  for (size_t m = 0; m < M; ++m) {
    for (size_t v = 0; v < V; ++v) sums[m][v] = P::Zero();
  }
  for (size_t s = 0; s < num_segments; ++s) {
    const size_t group = s / segments_in_group * kTileRows * 2;
    I32 totals[M][V];
    for (size_t v = 0; v < V; ++v) {
      for (size_t m = 0; m < M; ++m) {
        const I32 zero_sum = P::RepeatI32(x[m] + sums_offset + 4 * s);
        totals[m][v] = layout.has_zeros
                           ? ZeroPoints<P, kBits>(P::LoadU16(w.zeros[v] + group), zero_sum)
                           : ZeroPoint<P, kBits>(zero_sum);
      }
    }
    const size_t end =
        (s + 1) * segment_blocks < num_blocks ? (s + 1) * segment_blocks : num_blocks;
    for (size_t b = s * segment_blocks; b < end; b += kChunkBlocks) {
      I32 parts[M][V];
      for (size_t m = 0; m < M; ++m) {
        for (size_t v = 0; v < V; ++v) parts[m][v] = P::template OpenSum<kBits>(totals[m][v]);
      }
      if (b + kChunkBlocks <= end) {
        DotBlocks<P, kBits, M, V>(x, w, b, kChunkBlocks, parts);
      } else {
        DotBlocks<P, kBits, M, V>(x, w, b, end - b, parts);
      }
      for (size_t m = 0; m < M; ++m) {
        for (size_t v = 0; v < V; ++v) {
          totals[m][v] = P::template CloseSum<kBits>(parts[m][v], totals[m][v]);
        }
      }
    }
    for (size_t v = 0; v < V; ++v) {
      const auto scales = P::LoadF16(w.scales[v] + group);
      for (size_t m = 0; m < M; ++m) {
        float x_scale;
        __builtin_memcpy(&x_scale, x[m] + scales_offset + 4 * s, sizeof(x_scale));
        sums[m][v] = P::Fma(P::ToF32(totals[m][v]), P::Mul(scales, P::Set(x_scale)), sums[m][v]);
      }
    }
  }
  WriteVectors<P, M, V>(sums, first * P::kLanes, matrix.rows, y);
}

// `rows` <= M rows of x from `begin` on.
template <typename P, size_t kBits, size_t M, size_t V>
BALEEN_INLINE void TileProductOf(const ActivationRows<P>& x, size_t begin, size_t rows,
                                 const I8Row& x_layout, const Matrix& w, size_t first,
                                 const Output& y) {
  if (rows == M) {
    const std::byte* tile[M];
    for (size_t m = 0; m < M; ++m) tile[m] = x[begin + m].data;
    TileProduct<P, kBits, M, V>(tile, x_layout, w, first,
                                {y.data + begin * y.m_stride, y.m_stride, y.n_stride});
  } else if constexpr (M > 1) {
    TileProductOf<P, kBits, M - 1, V>(x, begin, rows, x_layout, w, first, y);
  }
}

// All rows of x against vectors [first, num_vectors) of w, V at a time, then half as many.
template <typename P, size_t kBits, size_t M, size_t V>
void TileColumns(const ActivationRows<P>& x, size_t num_rows, const I8Row& x_layout,
                 const Matrix& w, size_t first, size_t num_vectors, const Output& y) {
  for (; first + V <= num_vectors; first += V) {
    for (size_t m = 0; m < num_rows;) {
      const size_t rows = TileRows<M>(num_rows - m);
      TileProductOf<P, kBits, M, V>(x, m, rows, x_layout, w, first, y);
      m += rows;
    }
  }
  if constexpr (V > 1) {
    if (first < num_vectors) {
      TileColumns<P, kBits, M, V / 2>(x, num_rows, x_layout, w, first, num_vectors, y);
    }
  }
}

template <typename P, size_t kBits>
void TileProductsAs(const ActivationRows<P>& x, size_t group_cols, size_t num_rows, const Matrix& w,
                    const Output& y) {
  constexpr CodeShape kFew = P::kFewCodes, kSome = P::kSomeCodes, kMany = P::kManyCodes;
  const I8Row x_layout = {.cols = w.cols, .group_cols = group_cols};
  const size_t num_vectors = (w.rows + P::kLanes - 1) / P::kLanes;
  if (num_rows <= kFew.M) {
    return TileColumns<P, kBits, kFew.M, kFew.V>(x, num_rows, x_layout, w, 0, num_vectors, y);
  }
  if (num_rows <= kSome.M) {
    return TileColumns<P, kBits, kSome.M, kSome.V>(x, num_rows, x_layout, w, 0, num_vectors, y);
  }
  const size_t fitting = kActivationBlockBytes / x_layout.bytes() / kMany.M * kMany.M;
  const size_t block = fitting > kMany.M ? fitting : kMany.M;
  for (size_t m = 0; m < num_rows; m += block) {
    const size_t rows = num_rows - m < block ? num_rows - m : block;
    TileColumns<P, kBits, kMany.M, kMany.V>(x.From(m), rows, x_layout, w, 0, num_vectors,
                                            {y.data + m * y.m_stride, y.m_stride, y.n_stride});
  }
}

template <typename P>
void TileProducts(const ActivationRows<P>& x, size_t group_cols, size_t num_rows, const Matrix& w,
                  const Output& y) {
  return w.tiles.bits == 4 ? TileProductsAs<P, 4>(x, group_cols, num_rows, w, y)
                           : TileProductsAs<P, 8>(x, group_cols, num_rows, w, y);
}

}  // namespace baleen::kernels::generic

#endif  // BALEEN_KERNELS_GENERIC_TILES_H_
