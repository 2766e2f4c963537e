// kernels/generic/tile_floats.h: products of F32 activations with the exact values of tiles
// (contract and order of summation: kernels/table.h).
//
// For what must not round activations to 8 bits: the absorbed up-projections of attention, and
// models in --precision f32. Lanes are rows of weights, as in tiles.h.
#ifndef BALEEN_KERNELS_GENERIC_TILE_FLOATS_H_
#define BALEEN_KERNELS_GENERIC_TILE_FLOATS_H_

#include <cstddef>

#include "kernels/generic/formats.h"
#include "kernels/generic/inline.h"
#include "kernels/generic/tiles.h"
#include "kernels/table.h"

namespace baleen::kernels::generic {

// One vector of weight rows: what its lanes have in a group of columns, and its values.
template <typename P, size_t kBits>
struct TileValues {
  typename P::F32 scales, zeros;

  template <size_t V>
  BALEEN_INLINE TileValues(const TileLayout& layout, const TileVectors<P, V>& w, size_t v,
                           size_t group)
      : scales(P::LoadF16(w.scales[v] + group * kTileRows * 2)),
        zeros(layout.has_zeros ? P::ToF32(P::LoadU16(w.zeros[v] + group * kTileRows * 2))
                               : P::Set(1 << (kBits - 1))) {}

  // Column kColumn of a block.
  template <size_t kColumn>
  BALEEN_INLINE typename P::F32 At(typename P::I32 block) const {
    constexpr int kShift = kColumn % 4 * 8 + kColumn / 4 * 4;
    return P::Mul(P::Sub(P::ToF32(P::template Bits<kShift, kBits>(block)), zeros), scales);
  }
};

// Calls use.template operator()<i>() for i in [0, N).
template <size_t N, size_t i = 0, typename Use>
BALEEN_INLINE void ForEachConstant(const Use& use) {
  if constexpr (i < N) {
    use.template operator()<i>();
    ForEachConstant<N, i + 1>(use);
  }
}

// Blocks of a matrix and the columns of the last one.
template <size_t kBits>
struct BlockCounts {
  static constexpr size_t kCols = 32 / kBits;
  size_t whole, rest;
  BALEEN_INLINE explicit BlockCounts(size_t cols) : whole(cols / kCols), rest(cols % kCols) {}
};

// y(m, lanes of vectors first + v) for M rows of x.
template <typename P, size_t kBits, size_t M, size_t V>
void TileFloatProduct(const float* const (&x)[M], const Matrix& matrix, size_t first,
                      const Output& y) {
  constexpr size_t kCols = BlockCounts<kBits>::kCols;
  const TileLayout& layout = matrix.tiles;
  const TileVectors<P, V> w(matrix, first);
  const BlockCounts<kBits> blocks(layout.cols);
  typename P::F32 sums[M][V];
  for (size_t m = 0; m < M; ++m) {
    for (size_t v = 0; v < V; ++v) sums[m][v] = P::Zero();
  }
  const size_t num_blocks = layout.num_blocks();
  for (size_t b = 0, group = 0; b < num_blocks; ++group) {
    const size_t end = (group + 1) * layout.group_cols;
    for (; b < num_blocks && b * kCols < end; ++b) {
      for (size_t v = 0; v < V; ++v) {
        const TileValues<P, kBits> values(layout, w, v, group);
        const auto block = P::LoadI32(w.codes[v] + b * kBlockBytes);
        ForEachConstant<kCols>([&]<size_t kColumn>() BALEEN_INLINE_LAMBDA {
          if (b >= blocks.whole && kColumn >= blocks.rest) return;
          const auto value = values.template At<kColumn>(block);
          for (size_t m = 0; m < M; ++m) {
            sums[m][v] = P::Fma(P::Set(x[m][b * kCols + kColumn]), value, sums[m][v]);
          }
        });
      }
    }
  }
  WriteVectors<P, M, V>(sums, first * P::kLanes, matrix.rows, y);
}

template <typename P, size_t kBits, size_t M, size_t V>
void TileFloatRows(const ActivationRows<P>& x, size_t begin, size_t num_rows, const Matrix& w,
                   size_t first, const Output& y) {
  for (; begin + M <= num_rows; begin += M) {
    const float* rows[M];
    for (size_t m = 0; m < M; ++m) rows[m] = reinterpret_cast<const float*>(x[begin + m].data);
    TileFloatProduct<P, kBits, M, V>(rows, w, first,
                                     {y.data + begin * y.m_stride, y.m_stride, y.n_stride});
  }
  if constexpr (M > 1) {
    if (begin < num_rows) TileFloatRows<P, kBits, M / 2, V>(x, begin, num_rows, w, first, y);
  }
}

// y[m, n] = x[m] . w[n] for the exact values of tiles.
template <typename P>
void TileFloatProducts(const ActivationRows<P>& x, size_t num_rows, const Matrix& w,
                       const Output& y) {
  // Two vectors and eight rows: 16 sums, and as many chains in flight; AVX2 has registers for half.
  constexpr size_t kV = 2, kM = P::kLanes / 2;
  const size_t num_vectors = (w.rows + kTileRows - 1) / kTileRows * (kTileRows / P::kLanes);
  size_t first = 0;
  for (; first + kV <= num_vectors; first += kV) {
    w.tiles.bits == 4 ? TileFloatRows<P, 4, kM, kV>(x, 0, num_rows, w, first, y)
                      : TileFloatRows<P, 8, kM, kV>(x, 0, num_rows, w, first, y);
  }
  for (; first < num_vectors; ++first) {
    w.tiles.bits == 4 ? TileFloatRows<P, 4, kM, 1>(x, 0, num_rows, w, first, y)
                      : TileFloatRows<P, 8, kM, 1>(x, 0, num_rows, w, first, y);
  }
}

// The columns of block `b` of y = x w, for M rows of x: each column has one vector of running sums
// over the rows of w, folded at the end.
template <typename P, size_t kBits, size_t M>
void TileTransposedBlock(const float* const (&x)[M], const Matrix& w, size_t b, const Output& y) {
  constexpr size_t kCols = BlockCounts<kBits>::kCols, kLanes = P::kLanes;
  const TileLayout& layout = w.tiles;
  const size_t group = b * kCols / layout.group_cols;
  typename P::F32 sums[M][kCols];
  for (size_t m = 0; m < M; ++m) {
    for (size_t c = 0; c < kCols; ++c) sums[m][c] = P::Zero();
  }
  for (size_t k = 0; k < w.rows; k += kLanes) {
    const TileVectors<P, 1> rows(w, k / kLanes);
    const TileValues<P, kBits> values(layout, rows, 0, group);
    const auto block = P::LoadI32(rows.codes[0] + b * kBlockBytes);
    typename P::F32 xs[M];
    for (size_t m = 0; m < M; ++m) xs[m] = P::LoadF32(x[m] + k);
    ForEachConstant<kCols>([&]<size_t kColumn>() BALEEN_INLINE_LAMBDA {
      const auto value = values.template At<kColumn>(block);
      for (size_t m = 0; m < M; ++m) sums[m][kColumn] = P::Fma(xs[m], value, sums[m][kColumn]);
    });
  }
  const size_t left = layout.cols - b * kCols;
  for (size_t m = 0; m < M; ++m) {
    for (size_t c = 0; c < kCols; c += 4) {
      const typename P::F32 four[4] = {sums[m][c], sums[m][c + 1], sums[m][c + 2], sums[m][c + 3]};
      float folded[4];
      P::ReduceAdd4(four, folded);
      float* to = y.data + m * y.m_stride + b * kCols + c;
      for (size_t i = 0; i < 4 && c + i < left; ++i) to[i] = folded[i];
    }
  }
}

template <typename P, size_t kBits, size_t M>
void TileTransposedRows(const float* x, size_t x_stride, size_t num_rows, const Matrix& w,
                        const Output& y) {
  size_t begin = 0;
  for (; begin + M <= num_rows; begin += M) {
    const float* rows[M];
    for (size_t m = 0; m < M; ++m) rows[m] = x + (begin + m) * x_stride;
    for (size_t b = 0; b < w.tiles.num_blocks(); ++b) {
      TileTransposedBlock<P, kBits, M>(rows, w, b, {y.data + begin * y.m_stride, y.m_stride, 1});
    }
  }
  if constexpr (M > 1) {
    if (begin < num_rows) {
      TileTransposedRows<P, kBits, M / 2>(x + begin * x_stride, x_stride, num_rows - begin, w,
                                          {y.data + begin * y.m_stride, y.m_stride, 1});
    }
  }
}

// y = x w, contract as MatMulTransposedArgs.
template <typename P>
void TileTransposed(const MatMulTransposedArgs& args) {
  constexpr size_t kM = P::kLanes / 8;  // times 8 columns: 16 sums, or 8
  const Output y = {args.y, args.y_stride, 1};
  args.w.tiles.bits == 4
      ? TileTransposedRows<P, 4, kM>(args.x, args.x_stride, args.num_rows, args.w, y)
      : TileTransposedRows<P, 8, 2 * kM>(args.x, args.x_stride, args.num_rows, args.w, y);
}

}  // namespace baleen::kernels::generic

#endif  // BALEEN_KERNELS_GENERIC_TILE_FLOATS_H_
