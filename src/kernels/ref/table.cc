#include "kernels/ref/backward.h"
#include "kernels/ref/ref.h"
#include "kernels/tables.h"

namespace baleen::kernels {

namespace {

double PeakLoop(PeakKind kind, size_t iterations) {
  if (kind != PeakKind::kF32) return 0;
  // Four chains hide the latency of a scalar addition; volatile keeps them from being computed
  // ahead of time.
  volatile float one = 1;
  const float x = one;
  float sums[4] = {};
  for (size_t n = 0; n < iterations; ++n) {
    for (float& sum : sums) sum = sum * x + x;
  }
  volatile float result = sums[0] + sums[1] + sums[2] + sums[3];
  static_cast<void>(result);
  return static_cast<double>(iterations) * 4 * 2;
}

}  // namespace

const KernelTable kScalarTable = {
    .name = "scalar",
    .bf16_products = false,
    .matmul = ref::MatMul<float>,
    .matmul_transposed = ref::MatMulTransposed<float>,
    .mla_absorbed = ref::MlaAbsorbed<float>,
    .mla_direct = ref::MlaDirect<float>,
    .rms_norm = ref::RmsNorm<float>,
    .swiglu = ref::SwiGlu<float>,
    .add_scaled = ref::AddScaled<float>,
    .decode_row = ref::DecodeRow,
    .pack = ref::Pack,
    .pack_i8 = ref::PackI8,
    .rotate_pairs = ref::RotatePairs<float>,
    .outer_matmul = ref::OuterMatMul<float>,
    .mla_backward = ref::MlaBackward<float>,
    .rms_norm_backward = ref::RmsNormBackward<float>,
    .swiglu_backward = ref::SwiGluBackward<float>,
    .cross_entropy = ref::CrossEntropy<float>,
    .pack_pairs = ref::PackPairs,
    .sum_squares = ref::SumSquares<double>,
    .adamw = ref::AdamW<float>,
    .peak_loop = PeakLoop,
};

}  // namespace baleen::kernels
