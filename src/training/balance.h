// training/balance.h: what keeps experts evenly busy, and how busy they are.
//
// kBias: no loss pulls at the model; after each step the bias of an overloaded expert falls and
// that of an idle one rises (arXiv:2408.15664), with V3's small sequence-wise loss beside it. kAux:
// V2's three losses. All losses are over one sequence, summed over layers, averaged over sequences;
// counts are constants, only shares of scores have gradients (arXiv:2405.04434 section 2.2.3,
// arXiv:2412.19437 section 2.1.2).
#ifndef BALEEN_TRAINING_BALANCE_H_
#define BALEEN_TRAINING_BALANCE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "model/config.h"

namespace baleen {

enum class Balance { kNone, kBias, kAux };

struct BalanceOptions {
  Balance method = Balance::kNone;
  double bias_update_speed = 1e-3;
  double sequence_alpha = 1e-4;    // kBias
  double expert_alpha = 1e-3;      // kAux
  double device_alpha = 0;         // kAux; devices are the config's groups
  double communication_alpha = 0;  // kAux

  bool has_loss() const {
    return (method == Balance::kBias && sequence_alpha > 0) ||
           (method == Balance::kAux &&
            (expert_alpha > 0 || device_alpha > 0 || communication_alpha > 0));
  }
};

// Of the tokens of one sequence in one layer: scores [tokens, n_routed_experts] (softmax or
// sigmoid), experts [tokens, num_experts_per_tok]. Returns the loss and writes its gradient by the
// share of each expert, which is the same for every token: grad_shares [n_routed_experts].
double SequenceBalanceLoss(const ModelConfig& config, const BalanceOptions& options,
                           const float* scores, const int32_t* experts, size_t tokens,
                           float* grad_shares);

// `speed` while less than 1 - decay_share of all steps are done, then falling along a line to 0
// after the last. `step` counts from 1.
double BiasSpeed(double speed, double decay_share, uint64_t step, uint64_t total_steps);

// One step of the bias: up or down by `speed`, unchanged where the load is the mean.
void UpdateBias(std::span<const uint64_t> load, double speed, std::span<float> bias);

// How evenly one layer's tokens are spread.
struct LoadStatistics {
  double max_vio = 0;       // (largest load - mean) / mean
  double entropy = 0;       // of the loads, as a share of the largest possible
  size_t dead_experts = 0;  // with less than a tenth of the mean
};
LoadStatistics Summarize(std::span<const uint64_t> load);
// Means over the layers that saw tokens, and the sum of their dead experts.
LoadStatistics Summarize(const std::vector<std::vector<uint64_t>>& layers);

}  // namespace baleen

#endif  // BALEEN_TRAINING_BALANCE_H_
