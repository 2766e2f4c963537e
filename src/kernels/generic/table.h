// kernels/generic/table.h: the table that a struct of primitives gives.
#ifndef BALEEN_KERNELS_GENERIC_TABLE_H_
#define BALEEN_KERNELS_GENERIC_TABLE_H_

#include "kernels/generic/backward.h"
#include "kernels/generic/elementwise.h"
#include "kernels/generic/matmul.h"
#include "kernels/generic/matmul_transposed.h"
#include "kernels/generic/mla_absorbed.h"
#include "kernels/generic/mla_backward.h"
#include "kernels/generic/mla_direct.h"
#include "kernels/generic/outer_matmul.h"
#include "kernels/generic/peak.h"
#include "kernels/table.h"

namespace baleen::kernels::generic {

template <typename P, void (*kTileMatMul)(const MatMulArgs&)>
constexpr KernelTable TableOf(const char* name) {
  return {
      .name = name,
      .bf16_products = false,
      .matmul = MatMul<P, kTileMatMul>,
      .matmul_transposed = MatMulTransposed<P>,
      .mla_absorbed = MlaAbsorbed<P>,
      .mla_direct = MlaDirect<P>,
      .rms_norm = RmsNorm<P>,
      .swiglu = SwiGlu<P>,
      .add_scaled = AddScaled<P>,
      .decode_row = DecodeRow<P>,
      .pack = Pack<P>,
      .pack_i8 = PackI8<P>,
      .rotate_pairs = RotatePairs<P>,
      .outer_matmul = OuterMatMul<P>,
      .mla_backward = MlaBackward<P>,
      .rms_norm_backward = RmsNormBackward<P>,
      .swiglu_backward = SwiGluBackward<P>,
      .cross_entropy = CrossEntropy<P>,
      .pack_pairs = PackPairs<P>,
      .sum_squares = SumSquares<P>,
      .adamw = AdamW<P>,
      .peak_loop = PeakLoop<P>,
  };
}

}  // namespace baleen::kernels::generic

#endif  // BALEEN_KERNELS_GENERIC_TABLE_H_
