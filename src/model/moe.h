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

// Which rows visit which expert: a slot is one visit, ordered by expert, then by row.
struct Dispatch {
  std::vector<size_t> offsets;  // [n_routed_experts + 1]: the slots of each expert
  int32_t* rows = nullptr;      // [slots]
  float* weights = nullptr;     // [slots]

  std::span<const int32_t> RowsOf(size_t expert) const {
    return {rows + offsets[expert], offsets[expert + 1] - offsets[expert]};
  }
};

// Routes each row of x [rows, hidden]. The result is in the memory of `tape`, else of the context.
Dispatch DispatchRows(const ModelConfig& config, const MoeWeights& weights, size_t layer,
                      kernels::Operand& x, kernels::KernelContext& ctx,
                      ForwardObserver* observer = nullptr, LayerTape* tape = nullptr);

// x, y [rows, hidden]; y is overwritten, without the residual. The router multiplies in F32
// whatever the precision: a rounded score flips experts.
// `store` has the experts' bytes, or is null: they are in the mapped weights. With a store there
// may be no tape.
void MoeLayer(const ModelConfig& config, const MoeWeights& weights, ExpertStore* store,
              size_t layer, const float* x, size_t rows, float* y, kernels::KernelContext& ctx,
              ForwardObserver* observer, LayerTape* tape);

void MlpLayer(const MlpWeights& weights, const float* x, size_t rows, size_t hidden, float* y,
              kernels::KernelContext& ctx, LayerTape* tape);

}  // namespace baleen

#endif  // BALEEN_MODEL_MOE_H_
