#include "kernels/ref/ref.h"
#include "kernels/tables.h"

namespace baleen::kernels {

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
    .rotate_pairs = ref::RotatePairs<float>,
};

}  // namespace baleen::kernels
