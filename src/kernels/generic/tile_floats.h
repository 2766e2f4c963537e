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
#include "kernels/generic/tile_codes.h"
#include "kernels/table.h"

namespace baleen::kernels::generic {

// The codes of a block of columns of one vector of weight rows: the words of the first plane that
// hold them and those of the others, or 4 columns of 8 bits.
template <typename P, typename Form>
struct CodeBlock {
  // A word that has all there is of the block's codes is left as it is.
  static constexpr bool kIsWord = Form::kBits == 8 || (Form::kBits == 4 && !Form::kHasTable);
  static constexpr size_t kSteps = kIsWord ? 1 : Form::kBlockCols / 4;
  typename P::I32 steps[kSteps];

  // Block b of the vector's codes.
  BALEEN_INLINE CodeBlock(const std::byte* codes, size_t b,
                          typename Form::template Table<P> table) {
    if constexpr (kIsWord) {
      steps[0] = P::LoadI32(codes + b * kWordRowBytes);
      return;
    }
    constexpr size_t kBlocks = 32 / Form::kBlockCols;  // of a chunk
    const std::byte* chunk = codes + b / kBlocks * Form::kChunkBytes;
    const size_t first_step = b % kBlocks * (Form::kBlockCols / 4);
    ForEachConstant<kSteps>([&]<size_t kStep>() BALEEN_INLINE_LAMBDA {
      steps[kStep] = table.Of(
          JoinPlanes<P, Form, kStep>([&]<size_t kBase, size_t kWidth>() BALEEN_INLINE_LAMBDA {
            // The block's first step is to lie at bit 0.
            const size_t bit = first_step * kWidth;
            const auto word = P::LoadI32(chunk + (kBase + bit / 8) * kWordRowBytes);
            return kWidth >= 4 ? word : P::ShiftRightBy(word, bit % 8);
          }));
    });
  }

  // Those of column kColumn.
  template <size_t kColumn>
  BALEEN_INLINE typename P::I32 Codes() const {
    constexpr size_t kWidth = kIsWord ? Form::kBits : 8, kStep = kColumn / 4;
    return P::template Bits<static_cast<int>(kColumn % 4 * 8 + (kIsWord ? kStep * 4 : 0)),
                            static_cast<int>(kWidth)>(steps[kIsWord ? 0 : kStep]);
  }
};

// One vector of weight rows: what its lanes have in a group of columns, and its values.
template <typename P, typename Form>
struct TileValues {
  typename P::F32 scales, zeros, less;  // minus the minima

  template <size_t V>
  BALEEN_INLINE void Load(const TileLayout& layout, const TileVectors<P, V>& w, size_t v,
                          size_t group) {
    const size_t scale = group * layout.group_cols / layout.scale_cols() * kTileRows * 2;
    scales = P::LoadF16(w.scales[v] + scale);
    zeros = P::Set(layout.has_mins ? 0 : 1 << (Form::kSumBits - 1));
    less = P::Zero();
    if (layout.has_zeros) zeros = P::ToF32(P::LoadU16(w.zeros[v] + scale));
    if (layout.has_mins) less = P::Sub(less, P::LoadF16(w.zeros[v] + scale));
    if (layout.super_cols == 0) return;
    scales = P::Mul(scales, P::LoadI8(w.factors[v] + group * kTileRows));
    if (layout.has_mins) less = P::Mul(less, P::LoadI8(w.min_factors[v] + group * kTileRows));
  }

  // Column kColumn of a block. The product is exact: only where there are minima is it rounded.
  template <size_t kColumn>
  BALEEN_INLINE typename P::F32 At(const CodeBlock<P, Form>& block) const {
    const auto codes = P::ToF32(block.template Codes<kColumn>());
    return P::Fma(P::Sub(codes, zeros), scales, less);
  }
};

// Blocks of a matrix and the columns of the last one.
template <typename Form>
struct BlockCounts {
  static constexpr size_t kCols = Form::kBlockCols;
  size_t whole, rest;
  BALEEN_INLINE explicit BlockCounts(size_t cols) : whole(cols / kCols), rest(cols % kCols) {}
  BALEEN_INLINE size_t all() const { return whole + (rest != 0); }
};

// y(m, lanes of vectors first + v) for M rows of x.
template <typename P, typename Form, size_t M, size_t V>
void TileFloatProduct(const float* const (&x)[M], const Matrix& matrix, size_t first,
                      const Output& y) {
  constexpr size_t kCols = BlockCounts<Form>::kCols;
  const TileLayout& layout = matrix.tiles;
  const TileVectors<P, V> w(matrix, first);
  const BlockCounts<Form> blocks(layout.cols);
  typename P::F32 sums[M][V];
  for (size_t m = 0; m < M; ++m) {
    for (size_t v = 0; v < V; ++v) sums[m][v] = P::Zero();
  }
  const typename Form::template Table<P> table;
  for (size_t b = 0, group = 0; b < blocks.all(); ++group) {
    const size_t end = (group + 1) * layout.group_cols;
    // Once for each group: the compiler does not take the branches out of the loop.
    TileValues<P, Form> values[V];
    for (size_t v = 0; v < V; ++v) values[v].Load(layout, w, v, group);
    for (; b < blocks.all() && b * kCols < end; ++b) {
      for (size_t v = 0; v < V; ++v) {
        const CodeBlock<P, Form> block(w.codes[v], b, table);
        ForEachConstant<kCols>([&]<size_t kColumn>() BALEEN_INLINE_LAMBDA {
          if (b >= blocks.whole && kColumn >= blocks.rest) return;
          const auto value = values[v].template At<kColumn>(block);
          for (size_t m = 0; m < M; ++m) {
            sums[m][v] = P::Fma(P::Set(x[m][b * kCols + kColumn]), value, sums[m][v]);
          }
        });
      }
    }
  }
  WriteVectors<P, M, V>(sums, first * P::kLanes, matrix.rows, y);
}

template <typename P, typename Form, size_t M, size_t V>
void TileFloatRows(const ActivationRows<P>& x, size_t begin, size_t num_rows, const Matrix& w,
                   size_t first, const Output& y) {
  for (; begin + M <= num_rows; begin += M) {
    const float* rows[M];
    for (size_t m = 0; m < M; ++m) rows[m] = reinterpret_cast<const float*>(x[begin + m].data);
    TileFloatProduct<P, Form, M, V>(rows, w, first,
                                    {y.data + begin * y.m_stride, y.m_stride, y.n_stride});
  }
  if constexpr (M > 1) {
    // An odd vector is too little work for tiles of all sizes.
    constexpr size_t kNext = V > 1 ? M / 2 : 1;
    if (begin < num_rows) TileFloatRows<P, Form, kNext, V>(x, begin, num_rows, w, first, y);
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
  WithCodes(w.tiles, [&](auto form) BALEEN_INLINE_LAMBDA {
    using Form = decltype(form);
    for (; first + kV <= num_vectors; first += kV) {
      TileFloatRows<P, Form, kM, kV>(x, 0, num_rows, w, first, y);
    }
    if constexpr (TileVectors<P, kV>::kInTile % kV != 0) {
      if (first < num_vectors) TileFloatRows<P, Form, kM, 1>(x, 0, num_rows, w, first, y);
    }
  });
}

// The columns of block `b` of y = x w, for M rows of x: each column has one vector of running sums
// over the rows of w, folded at the end.
template <typename P, typename Form, size_t M>
void TileTransposedBlock(const float* const (&x)[M], const Matrix& w, size_t b, const Output& y) {
  constexpr size_t kCols = BlockCounts<Form>::kCols, kLanes = P::kLanes;
  const TileLayout& layout = w.tiles;
  const size_t group = b * kCols / layout.group_cols;
  const typename Form::template Table<P> table;
  typename P::F32 sums[M][kCols];
  for (size_t m = 0; m < M; ++m) {
    for (size_t c = 0; c < kCols; ++c) sums[m][c] = P::Zero();
  }
  for (size_t k = 0; k < w.rows; k += kLanes) {
    const TileVectors<P, 1> rows(w, k / kLanes);
    TileValues<P, Form> values;
    values.Load(layout, rows, 0, group);
    const CodeBlock<P, Form> block(rows.codes[0], b, table);
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

template <typename P, typename Form, size_t M>
void TileTransposedRows(const float* x, size_t x_stride, size_t num_rows, const Matrix& w,
                        const Output& y) {
  size_t begin = 0;
  for (; begin + M <= num_rows; begin += M) {
    const float* rows[M];
    for (size_t m = 0; m < M; ++m) rows[m] = x + (begin + m) * x_stride;
    for (size_t b = 0; b < BlockCounts<Form>(w.cols).all(); ++b) {
      TileTransposedBlock<P, Form, M>(rows, w, b, {y.data + begin * y.m_stride, y.m_stride, 1});
    }
  }
  if constexpr (M > 1) {
    if (begin < num_rows) {
      TileTransposedRows<P, Form, M / 2>(x + begin * x_stride, x_stride, num_rows - begin, w,
                                         {y.data + begin * y.m_stride, y.m_stride, 1});
    }
  }
}

// y = x w, contract as MatMulTransposedArgs.
template <typename P>
void TileTransposed(const MatMulTransposedArgs& args) {
  constexpr size_t kM = P::kLanes / 8;  // times 8 columns: 16 sums, or 8
  const Output y = {args.y, args.y_stride, 1};
  WithCodes(args.w.tiles, [&](auto form) BALEEN_INLINE_LAMBDA {
    using Form = decltype(form);
    TileTransposedRows<P, Form, kM * 8 / Form::kBlockCols>(args.x, args.x_stride, args.num_rows,
                                                           args.w, y);
  });
}

}  // namespace baleen::kernels::generic

#endif  // BALEEN_KERNELS_GENERIC_TILE_FLOATS_H_
