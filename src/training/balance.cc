#include "training/balance.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace baleen {

namespace {

// Shares of the scores' sum, averaged over tokens.
std::vector<double> MeanShares(const float* scores, size_t tokens, size_t num_experts) {
  std::vector<double> shares(num_experts, 0.0);
  for (size_t t = 0; t < tokens; ++t) {
    const float* row = scores + t * num_experts;
    const double sum = std::accumulate(row, row + num_experts, 0.0);
    for (size_t e = 0; e < num_experts; ++e) {
      shares[e] += row[e] / sum / static_cast<double>(tokens);
    }
  }
  return shares;
}

// For each group, how many tokens have at least one expert in it.
std::vector<double> TokensOfGroups(const ModelConfig& config, const int32_t* experts,
                                   size_t tokens) {
  const size_t size = config.n_routed_experts / config.n_group, k = config.num_experts_per_tok;
  std::vector<double> count(config.n_group, 0.0);
  std::vector<bool> seen(config.n_group);
  for (size_t t = 0; t < tokens; ++t) {
    std::fill(seen.begin(), seen.end(), false);
    for (size_t i = 0; i < k; ++i) seen[static_cast<size_t>(experts[t * k + i]) / size] = true;
    for (size_t g = 0; g < config.n_group; ++g) count[g] += seen[g] ? 1 : 0;
  }
  return count;
}

}  // namespace

double SequenceBalanceLoss(const ModelConfig& config, const BalanceOptions& options,
                           const float* scores, const int32_t* experts, size_t tokens,
                           float* grad_shares) {
  const size_t num_experts = config.n_routed_experts, k = config.num_experts_per_tok;
  const auto length = static_cast<double>(tokens);
  const std::vector<double> shares = MeanShares(scores, tokens, num_experts);
  std::vector<double> load(num_experts, 0.0), slope(num_experts, 0.0);
  for (size_t i = 0; i < tokens * k; ++i) load[static_cast<size_t>(experts[i])] += 1;

  // Each loss is a sum over experts of slope times share.
  const bool aux = options.method == Balance::kAux;
  const double alpha = aux ? options.expert_alpha : options.sequence_alpha;
  for (size_t e = 0; e < num_experts; ++e) {
    load[e] *= static_cast<double>(num_experts) / (static_cast<double>(k) * length);
    slope[e] = alpha * load[e];
  }
  if (aux && config.n_group > 1) {
    const size_t size = num_experts / config.n_group;
    const std::vector<double> sent = TokensOfGroups(config, experts, tokens);
    for (size_t e = 0; e < num_experts; ++e) {
      const size_t g = e / size;
      const double mean =
          std::accumulate(load.begin() + static_cast<ptrdiff_t>(g * size),
                          load.begin() + static_cast<ptrdiff_t>((g + 1) * size), 0.0) /
          static_cast<double>(size);
      const double received = static_cast<double>(config.n_group) * sent[g] /
                              (static_cast<double>(config.topk_group) * length);
      slope[e] += options.device_alpha * mean + options.communication_alpha * received;
    }
  }
  double loss = 0;
  for (size_t e = 0; e < num_experts; ++e) {
    loss += slope[e] * shares[e];
    grad_shares[e] = static_cast<float>(slope[e] / length);
  }
  return loss;
}

double BiasSpeed(double speed, double decay_share, uint64_t step, uint64_t total_steps) {
  const auto total = static_cast<double>(total_steps);
  const double left = std::max(0.0, total + 1 - static_cast<double>(step)) / total;
  return left >= decay_share ? speed : speed * left / decay_share;
}

void UpdateBias(std::span<const uint64_t> load, double speed, std::span<float> bias) {
  const uint64_t total = std::accumulate(load.begin(), load.end(), uint64_t{0});
  for (size_t e = 0; e < load.size(); ++e) {
    const uint64_t scaled = load[e] * load.size();  // compared with the mean, without rounding
    if (scaled > total) bias[e] -= static_cast<float>(speed);
    if (scaled < total) bias[e] += static_cast<float>(speed);
  }
}

LoadStatistics Summarize(std::span<const uint64_t> load) {
  LoadStatistics statistics;
  const auto total = static_cast<double>(std::accumulate(load.begin(), load.end(), uint64_t{0}));
  if (total == 0) return statistics;
  const double mean = total / static_cast<double>(load.size());
  statistics.max_vio = (static_cast<double>(*std::ranges::max_element(load)) - mean) / mean;
  for (const uint64_t count : load) {
    const double share = static_cast<double>(count) / total;
    if (count > 0) statistics.entropy -= share * std::log(share);
    if (static_cast<double>(count) < 0.1 * mean) ++statistics.dead_experts;
  }
  if (load.size() > 1) statistics.entropy /= std::log(static_cast<double>(load.size()));
  return statistics;
}

LoadStatistics Summarize(const std::vector<std::vector<uint64_t>>& layers) {
  LoadStatistics statistics;
  double num_layers = 0;
  for (const std::vector<uint64_t>& load : layers) {
    if (std::ranges::all_of(load, [](uint64_t count) { return count == 0; })) continue;
    const LoadStatistics layer = Summarize(std::span(load));
    statistics.max_vio += layer.max_vio;
    statistics.entropy += layer.entropy;
    statistics.dead_experts += layer.dead_experts;
    ++num_layers;
  }
  statistics.max_vio /= std::max(num_layers, 1.0);
  statistics.entropy /= std::max(num_layers, 1.0);
  return statistics;
}

}  // namespace baleen
