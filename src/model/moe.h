// model/moe.h: the feed-forward half of a layer: dense, or a mixture of experts
// (arXiv:2401.06066, arXiv:2412.19437 section 2.1.2).
#ifndef BALEEN_MODEL_MOE_H_
#define BALEEN_MODEL_MOE_H_

#include "model/forward.h"

namespace baleen {

// Chooses num_experts_per_tok experts for one token. scores [n_routed_experts]: the router's
// logits, changed; bias [n_routed_experts] or null. Writes experts (largest selection score first,
// ties to the lower number) and their weights.
void Route(const ModelConfig& config, float* scores, const float* bias, int32_t* experts,
           float* weights);

// x, y [rows, hidden]; y is overwritten, without the residual. The router multiplies in F32
// whatever the precision: a rounded score flips experts.
void MoeLayer(const ModelConfig& config, const MoeWeights& weights, size_t layer, const float* x,
              size_t rows, float* y, kernels::KernelContext& ctx, ForwardObserver* observer,
              LayerTape* tape);

void MlpLayer(const MlpWeights& weights, const float* x, size_t rows, size_t hidden, float* y,
              kernels::KernelContext& ctx, LayerTape* tape);

}  // namespace baleen

#endif  // BALEEN_MODEL_MOE_H_
