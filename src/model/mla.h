// model/mla.h: multi-head latent attention (arXiv:2405.04434, section 2.1).
#ifndef BALEEN_MODEL_MLA_H_
#define BALEEN_MODEL_MLA_H_

#include "model/forward.h"

namespace baleen {

// x [rows, hidden], already normed -> y [rows, hidden], without the residual. Writes the latent row
// of each token into the cache, then attends: each slice in its own form. A token sees itself and
// what stands before it in its sequence, always as the cache has it. With a tape, all slices must
// be of the direct form.
void MlaLayer(const ModelConfig& config, const AttentionWeights& weights, size_t layer,
              const Batch& batch, const CacheLayout& cache, const RopeAngles& angles,
              const float* x, float* y, kernels::KernelContext& ctx, LayerTape* tape);

}  // namespace baleen

#endif  // BALEEN_MODEL_MLA_H_
