// kernels/generic/matmul_transposed.h: y = x w with weights as stored (contract: kernels/table.h,
// order of summation: outer_product.h).
#ifndef BALEEN_KERNELS_GENERIC_MATMUL_TRANSPOSED_H_
#define BALEEN_KERNELS_GENERIC_MATMUL_TRANSPOSED_H_

#include "kernels/generic/formats.h"
#include "kernels/generic/outer_product.h"
#include "kernels/generic/tile_floats.h"
#include "kernels/table.h"
#include "tensor/blocks.h"

namespace baleen::kernels::generic {

// Block types: parts of the rows are decoded to F32, and the sums go on from part to part. A sum
// that is kept is multiplied by 1, so the chain of multiply-adds is the same as without parts.
template <typename P>
void MatMulTransposedBlocks(const MatMulTransposedArgs& args) {
  constexpr size_t kPartRows = 16, kPartX = 32;
  alignas(64) float part[kPartRows * kMaxBlockSize];
  float ones[kPartX];
  for (float& one : ones) one = 1;
  const Matrix& w = args.w;
  for (size_t n = 0; n < w.cols; n += kMaxBlockSize) {
    const size_t cols = w.cols - n < kMaxBlockSize ? w.cols - n : kMaxBlockSize;
    for (size_t k = 0; k < w.rows; k += kPartRows) {
      const size_t rows = w.rows - k < kPartRows ? w.rows - k : kPartRows;
      for (size_t i = 0; i < rows; ++i) {
        DecodeBlocks(w.dtype, w.row(k + i) + RowBytes(w.dtype, n), cols, part + i * cols);
      }
      const Matrix decoded = {.dtype = DType::kF32,
                              .data = reinterpret_cast<const std::byte*>(part),
                              .rows = rows,
                              .cols = cols};
      const StoredRows<P, F32Format<P>> decoded_rows(decoded);
      for (size_t m = 0; m < args.num_rows; m += kPartX) {
        const size_t x_rows = args.num_rows - m < kPartX ? args.num_rows - m : kPartX;
        OuterProducts<P, F32Format<P>>(
            OuterLeft{args.x + m * args.x_stride + k, args.x_stride}, decoded_rows, x_rows, rows,
            cols, args.y + m * args.y_stride + n, args.y_stride, {k == 0 ? nullptr : ones});
      }
    }
  }
}

template <typename P>
void MatMulTransposed(const MatMulTransposedArgs& args) {
  if (args.w.tiles.bits != 0) return TileTransposed<P>(args);
  if (IsBlockType(args.w.dtype)) return MatMulTransposedBlocks<P>(args);
  WithFormat<P>(args.w.dtype, [&](auto format) {
    using Format = decltype(format);
    const StoredRows<P, Format> rows(args.w);
    OuterProducts<P, Format>(OuterLeft{args.x, args.x_stride}, rows, args.num_rows, args.w.rows,
                             args.w.cols, args.y, args.y_stride, {nullptr});
  });
}

}  // namespace baleen::kernels::generic

#endif  // BALEEN_KERNELS_GENERIC_MATMUL_TRANSPOSED_H_
