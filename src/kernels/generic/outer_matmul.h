// kernels/generic/outer_matmul.h: y (+)= x w over large operands, as the way back needs it
// (contract: kernels/table.h, order of summation: outer_product.h).
//
// K is cut into blocks of kOuterBlockK: a strip of w for one tile's columns, 16 kB, then stays in
// the L1 cache while all rows of x pass by it. Sums go on from block to block through y: what is
// kept is multiplied by 1, so the chain of multiply-adds is the same as without blocks.
#ifndef BALEEN_KERNELS_GENERIC_OUTER_MATMUL_H_
#define BALEEN_KERNELS_GENERIC_OUTER_MATMUL_H_

#include <cstddef>

#include "kernels/generic/outer_product.h"
#include "kernels/table.h"

namespace baleen::kernels::generic {

inline constexpr size_t kOuterBlockK = 128;

template <typename Product, typename Left>
void OuterMatMulOf(const Left& x, const OuterMatMulArgs& args) {
  using P = typename Product::P;
  constexpr size_t kStrip = P::kOuterN * P::kLanes;
  float ones[P::kOuterM];
  for (float& one : ones) one = 1;
  const auto* w = static_cast<const float*>(args.w);
  if (args.K == 0 && !args.accumulate) {
    for (size_t m = 0; m < args.M; ++m) {
      for (size_t n = 0; n < args.N; ++n) args.y[m * args.y_stride + n] = 0;
    }
  }
  for (size_t k = 0; k < args.K; k += kOuterBlockK) {
    const size_t depth = args.K - k < kOuterBlockK ? args.K - k : kOuterBlockK;
    const OuterStart start = {k > 0 || args.accumulate ? ones : nullptr};
    for (size_t n = 0; n < args.N; n += kStrip) {
      const size_t cols = args.N - n < kStrip ? args.N - n : kStrip;
      const FloatRows<P> strip = {w + k * args.w_stride + n, args.w_stride};
      size_t m = 0;
      for (; m + P::kOuterM <= args.M; m += P::kOuterM) {
        OuterRows<Product, P::kOuterM>(x.From(m, k), strip, depth, cols,
                                       args.y + m * args.y_stride + n, args.y_stride, start);
      }
      if (m < args.M) {
        OuterProductsOf<Product, P::kOuterM / 2>(x.From(m, k), strip, args.M - m, depth, cols,
                                                 args.y + m * args.y_stride + n, args.y_stride,
                                                 start);
      }
    }
  }
}

template <typename Product>
void OuterMatMulWith(const OuterMatMulArgs& args) {
  const auto* x = static_cast<const float*>(args.x);
  if (args.x_transposed) {
    OuterMatMulOf<Product>(OuterLeftTransposed{x, args.x_stride}, args);
  } else {
    OuterMatMulOf<Product>(OuterLeft{x, args.x_stride}, args);
  }
}

template <typename P>
void OuterMatMul(const OuterMatMulArgs& args) {
  if (args.type == ActivationType::kF32) return OuterMatMulWith<WideOuter<P, F32Format<P>>>(args);
  if constexpr (P::kHasBf16Dot) {
    OuterMatMulWith<PairOuter<P>>(args);
  } else {
    __builtin_trap();  // the contract asks for bf16_products
  }
}

}  // namespace baleen::kernels::generic

#endif  // BALEEN_KERNELS_GENERIC_OUTER_MATMUL_H_
