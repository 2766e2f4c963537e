// training/router_gradient.h: the way back of a router's choice, for one token (model/moe.h,
// Route).
//
// The chosen set is a constant; so is the bias, which takes part in the choice only.
#ifndef BALEEN_TRAINING_ROUTER_GRADIENT_H_
#define BALEEN_TRAINING_ROUTER_GRADIENT_H_

#include <cstddef>
#include <cstdint>

#include "model/config.h"

namespace baleen {

// V is float but in tests.
template <typename V>
struct RouterGradientArgs {
  const V* scores = nullptr;         // [n_routed_experts]: softmax or sigmoid of the logits
  const int32_t* experts = nullptr;  // [num_experts_per_tok], the chosen ones
  const V* weights = nullptr;        // their weights, as outputs were multiplied by
  const V* grad_weights = nullptr;   // of the loss by these weights
  // Of a balance loss by the shares scores / sum of scores, [n_routed_experts]; null: none.
  const V* grad_shares = nullptr;
};

// grad_logits [n_routed_experts], overwritten.
template <typename V>
void RouterGradient(const ModelConfig& config, const RouterGradientArgs<V>& args, V* grad_logits) {
  const size_t num_experts = config.n_routed_experts, k = config.num_experts_per_tok;
  V* grad_scores = grad_logits;
  for (size_t e = 0; e < num_experts; ++e) grad_scores[e] = 0;
  if (args.grad_shares != nullptr) {
    V sum = 0, dot = 0;
    for (size_t e = 0; e < num_experts; ++e) {
      sum += args.scores[e];
      dot += args.scores[e] * args.grad_shares[e];
    }
    for (size_t e = 0; e < num_experts; ++e) {
      grad_scores[e] = (args.grad_shares[e] - dot / sum) / sum;
    }
  }

  // V2 scales or normalises; V3 normalises and scales.
  const bool normalise = config.norm_topk_prob && k > 1;
  const bool scale = !normalise || config.topk_method == TopkMethod::kNoauxTc;
  const V factor = scale ? static_cast<V>(config.routed_scaling_factor) : V{1};
  V sum = normalise ? static_cast<V>(1e-20) : V{1}, dot = 0;
  for (size_t i = 0; normalise && i < k; ++i) {
    sum += args.scores[args.experts[i]];
    dot += args.weights[i] * args.grad_weights[i];
  }
  for (size_t i = 0; i < k; ++i) {
    grad_scores[args.experts[i]] += (factor * args.grad_weights[i] - dot) / sum;
  }

  if (config.scoring_func == ScoringFunc::kSigmoid) {
    for (size_t e = 0; e < num_experts; ++e) {
      grad_logits[e] = grad_scores[e] * args.scores[e] * (1 - args.scores[e]);
    }
    return;
  }
  V mean = 0;
  for (size_t e = 0; e < num_experts; ++e) mean += args.scores[e] * grad_scores[e];
  for (size_t e = 0; e < num_experts; ++e) {
    grad_logits[e] = args.scores[e] * (grad_scores[e] - mean);
  }
}

}  // namespace baleen

#endif  // BALEEN_TRAINING_ROUTER_GRADIENT_H_
