// kernels/generic/matmul_transposed.h: y = x w with weights as stored (contract: kernels/table.h,
// order of summation: outer_product.h).
#ifndef BALEEN_KERNELS_GENERIC_MATMUL_TRANSPOSED_H_
#define BALEEN_KERNELS_GENERIC_MATMUL_TRANSPOSED_H_

#include "kernels/generic/formats.h"
#include "kernels/generic/outer_product.h"
#include "kernels/table.h"

namespace baleen::kernels::generic {

template <typename P>
void MatMulTransposed(const MatMulTransposedArgs& args) {
  WithFormat<P>(args.w.dtype, [&](auto format) {
    using Format = decltype(format);
    const StoredRows<P, Format> rows(args.w);
    OuterProducts<P, Format>({args.x, args.x_stride}, rows, args.num_rows, args.w.rows, args.w.cols,
                             args.y, args.y_stride, {nullptr});
  });
}

}  // namespace baleen::kernels::generic

#endif  // BALEEN_KERNELS_GENERIC_MATMUL_TRANSPOSED_H_
