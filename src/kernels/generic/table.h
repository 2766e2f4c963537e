// kernels/generic/table.h: the table that a struct of primitives gives.
#ifndef BALEEN_KERNELS_GENERIC_TABLE_H_
#define BALEEN_KERNELS_GENERIC_TABLE_H_

#include "kernels/generic/elementwise.h"
#include "kernels/generic/matmul.h"
#include "kernels/generic/matmul_transposed.h"
#include "kernels/generic/mla_absorbed.h"
#include "kernels/generic/mla_direct.h"
#include "kernels/generic/peak.h"
#include "kernels/table.h"

namespace baleen::kernels::generic {

template <typename P>
constexpr KernelTable TableOf(const char* name) {
  return {
      .name = name,
      .bf16_products = P::kHasBf16Dot,
      .matmul = MatMul<P>,
      .matmul_transposed = MatMulTransposed<P>,
      .mla_absorbed = MlaAbsorbed<P>,
      .mla_direct = MlaDirect<P>,
      .rms_norm = RmsNorm<P>,
      .swiglu = SwiGlu<P>,
      .add_scaled = AddScaled<P>,
      .decode_row = DecodeRow<P>,
      .pack = Pack<P>,
      .rotate_pairs = RotatePairs<P>,
      .peak_loop = PeakLoop<P>,
  };
}

}  // namespace baleen::kernels::generic

#endif  // BALEEN_KERNELS_GENERIC_TABLE_H_
