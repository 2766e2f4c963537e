// kernels/generic/chained_matmul.h: y = x w^T in F32 for many rows, each output one chain of
// multiply-adds (MatMulArgs::chained in kernels/table.h).
//
// The product is computed as the outer products of outer_product.h: an inner product of a few
// hundred numbers spends up to a third of its time on adding up the lanes of its sums. For that the
// rows of w are copied into strips, [k][rows of w]; the copy serves all rows of x. Blocks as in
// outer_matmul.h.
#ifndef BALEEN_KERNELS_GENERIC_CHAINED_MATMUL_H_
#define BALEEN_KERNELS_GENERIC_CHAINED_MATMUL_H_

#include <cstddef>

#include "kernels/generic/formats.h"
#include "kernels/generic/outer_matmul.h"
#include "kernels/table.h"

namespace baleen::kernels::generic {

// Rows of w whose strips are held at once, in the L2 cache beside a block of x.
inline constexpr size_t kChainedRows = 64;

// The left side of a tile of at most M rows that lie anywhere.
template <size_t M>
struct OuterLeftRows {
  const float* rows[M];
  BALEEN_INLINE const float* At(size_t m, size_t k) const { return rows[m] + k; }
};

// Columns [k, k + depth) of `rows` <= kRows rows of w, one behind the other, as [depth][kRows]; the
// places of rows that are not there are left alone.
template <size_t kRows>
BALEEN_INLINE void TransposeStrip(const float* w, size_t w_stride, size_t rows, size_t depth,
                                  float* strip) {
  if (rows == kRows) {
    for (size_t k = 0; k < depth; ++k) {
      for (size_t n = 0; n < kRows; ++n) strip[k * kRows + n] = w[n * w_stride + k];
    }
    return;
  }
  for (size_t k = 0; k < depth; ++k) {
    for (size_t n = 0; n < rows; ++n) strip[k * kRows + n] = w[n * w_stride + k];
  }
}

template <typename P>
void ChainedMatMul(const MatMulArgs& args) {
  using Product = WideOuter<P, F32Format<P>>;
  constexpr size_t kM = P::kOuterM, kCols = P::kOuterN * P::kLanes;
  static_assert(kChainedRows % kCols == 0);
  alignas(64) float strips[kChainedRows * kOuterBlockK];
  float ones[kM];
  for (float& one : ones) one = 1;
  const ActivationRows<P> x = {args.x.data, args.x.row_bytes, args.x_rows};
  const auto* w = reinterpret_cast<const float*>(args.w.data);
  const size_t K = args.w.cols, block = OuterDepth(K);
  for (size_t first = 0; first < args.w.rows; first += kChainedRows) {
    const size_t num_cols = args.w.rows - first < kChainedRows ? args.w.rows - first : kChainedRows;
    for (size_t k = 0; k < K; k += block) {
      const size_t depth = K - k < block ? K - k : block;
      for (size_t n = 0; n < num_cols; n += kCols) {
        TransposeStrip<kCols>(w + (first + n) * K + k, K,
                              num_cols - n < kCols ? num_cols - n : kCols, depth,
                              strips + n * kOuterBlockK);
      }
      for (size_t m = 0; m < args.num_rows; m += kOuterBlockM) {
        const size_t rows = args.num_rows - m < kOuterBlockM ? args.num_rows - m : kOuterBlockM;
        const auto left = [&](size_t row, size_t tile) BALEEN_INLINE_LAMBDA {
          OuterLeftRows<kM> result;
          for (size_t i = 0; i < tile; ++i) {
            result.rows[i] = reinterpret_cast<const float*>(x[m + row + i].data) + k;
          }
          return result;
        };
        for (size_t n = 0; n < num_cols; n += kCols) {
          StripProducts<Product>(left, strips + n * kOuterBlockK, rows, depth,
                                 num_cols - n < kCols ? num_cols - n : kCols,
                                 args.y + m * args.y_stride + first + n, args.y_stride,
                                 {k > 0 ? ones : nullptr});
        }
      }
    }
  }
}

}  // namespace baleen::kernels::generic

#endif  // BALEEN_KERNELS_GENERIC_CHAINED_MATMUL_H_
