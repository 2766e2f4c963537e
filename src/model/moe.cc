#include "model/moe.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>

#include "base/check.h"

namespace baleen {

using kernels::KernelContext;
using kernels::Operand;
using kernels::SwiGluGroup;
using kernels::SwiGluOutput;

namespace {

constexpr float kExcluded = -std::numeric_limits<float>::infinity();

void ScoresFromLogits(ScoringFunc func, std::span<float> scores) {
  if (func == ScoringFunc::kSigmoid) {
    for (float& score : scores) score = 1.0f / (1.0f + std::exp(-score));
    return;
  }
  const float max = *std::max_element(scores.begin(), scores.end());
  float sum = 0;
  for (float& score : scores) sum += score = std::exp(score - max);
  for (float& score : scores) score /= sum;
}

// What decides whether a group of experts is kept.
float GroupScore(TopkMethod method, std::span<const float> selection) {
  float best = kExcluded, second = kExcluded;
  for (float score : selection) {
    if (score > best) {
      second = best;
      best = score;
    } else if (score > second) {
      second = score;
    }
  }
  return method == TopkMethod::kNoauxTc && selection.size() > 1 ? best + second : best;
}

// Excludes all but the topk_group best groups (ties to the lower group).
void LimitGroups(const ModelConfig& config, std::span<float> selection) {
  const size_t size = selection.size() / config.n_group;
  std::vector<float> scores(config.n_group);
  for (size_t g = 0; g < config.n_group; ++g) {
    scores[g] = GroupScore(config.topk_method, selection.subspan(g * size, size));
  }
  std::vector<size_t> order(config.n_group);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  for (size_t i = config.topk_group; i < config.n_group; ++i) {
    std::ranges::fill(selection.subspan(order[i] * size, size), kExcluded);
  }
}

SwiGluTape NewTape(Arena& memory, size_t rows, size_t width) {
  return {.gate = memory.Allocate<float>(rows * width), .up = memory.Allocate<float>(rows * width)};
}

}  // namespace

void Route(const ModelConfig& config, float* logits, const float* bias, int32_t* experts,
           float* weights) {
  const std::span<float> scores(logits, config.n_routed_experts);
  ScoresFromLogits(config.scoring_func, scores);

  // The bias takes part in the selection only; weights are unbiased scores.
  std::vector<float> selection(scores.begin(), scores.end());
  if (config.topk_method == TopkMethod::kNoauxTc) {
    for (size_t e = 0; e < selection.size(); ++e) selection[e] += bias[e];
  }
  if (config.topk_method != TopkMethod::kGreedy && config.n_group > 1) {
    LimitGroups(config, selection);
  }

  const size_t k = config.num_experts_per_tok;
  std::vector<int32_t> order(selection.size());
  std::iota(order.begin(), order.end(), 0);
  std::partial_sort(order.begin(), order.begin() + static_cast<ptrdiff_t>(k), order.end(),
                    [&](int32_t a, int32_t b) {
                      return selection[a] != selection[b] ? selection[a] > selection[b] : a < b;
                    });
  float sum = 0;
  for (size_t i = 0; i < k; ++i) {
    experts[i] = order[i];
    weights[i] = scores[order[i]];
    sum += weights[i];
  }

  // V2 scales or normalises; V3 normalises and scales.
  const bool normalise = config.norm_topk_prob && k > 1;
  const bool scale = !normalise || config.topk_method == TopkMethod::kNoauxTc;
  for (size_t i = 0; i < k; ++i) {
    if (normalise) weights[i] /= sum + 1e-20f;
    if (scale) weights[i] *= static_cast<float>(config.routed_scaling_factor);
  }
}

Dispatch DispatchRows(const ModelConfig& config, const MoeWeights& weights, size_t layer,
                      Operand& x, KernelContext& ctx, ForwardObserver* observer, LayerTape* tape) {
  Arena& memory = tape == nullptr ? ctx.arena : tape->arena;
  const size_t num_experts = config.n_routed_experts, k = config.num_experts_per_tok;
  const size_t rows = x.rows();
  float* scores = memory.Allocate<float>(rows * num_experts);
  int32_t* chosen = memory.Allocate<int32_t>(rows * k);
  float* chosen_weights = memory.Allocate<float>(rows * k);
  MatMul(x, weights.router, kernels::ActivationForm{}, scores, ctx);
  ForRows(rows, ctx, [&](size_t begin, size_t end) {
    for (size_t r = begin; r < end; ++r) {
      Route(config, scores + r * num_experts, weights.e_score_correction_bias, chosen + r * k,
            chosen_weights + r * k);
    }
  });
  if (observer != nullptr) observer->OnRouting(layer, chosen, chosen_weights, rows, k);

  Dispatch dispatch = {.offsets = std::vector<size_t>(num_experts + 1, 0),
                       .rows = memory.Allocate<int32_t>(rows * k),
                       .weights = memory.Allocate<float>(rows * k)};
  std::vector<size_t>& offsets = dispatch.offsets;
  for (size_t i = 0; i < rows * k; ++i) ++offsets[static_cast<size_t>(chosen[i]) + 1];
  std::partial_sum(offsets.begin(), offsets.end(), offsets.begin());
  std::vector<size_t> next(offsets.begin(), offsets.end() - 1);
  for (size_t i = 0; i < rows * k; ++i) {
    const size_t slot = next[static_cast<size_t>(chosen[i])]++;
    dispatch.rows[slot] = static_cast<int32_t>(i / k);
    dispatch.weights[slot] = chosen_weights[i];
  }
  if (tape != nullptr) {
    tape->scores = scores;
    tape->experts = chosen;
    tape->expert_weights = chosen_weights;
    tape->offsets = offsets;
    tape->slot_rows = dispatch.rows;
    tape->slot_weights = dispatch.weights;
  }
  return dispatch;
}

namespace {

// The experts that were chosen, as groups of the product, in ascending order.
std::vector<SwiGluGroup> GroupsOf(const MoeWeights& weights, const Dispatch& dispatch) {
  std::vector<SwiGluGroup> groups;
  for (size_t e = 0; e < weights.experts.size(); ++e) {
    if (dispatch.RowsOf(e).empty()) continue;
    const MlpWeights& expert = weights.experts[e];
    groups.push_back({.gate = expert.gate_proj,
                      .up = expert.up_proj,
                      .down = expert.down_proj,
                      .rows = dispatch.RowsOf(e),
                      .row_weights = dispatch.weights + dispatch.offsets[e]});
  }
  return groups;
}

// As GroupedSwiGlu over groups[0] to the last, of which the first experts.size() are the experts of
// these numbers, in slots of the store: all at once if they have room together, else in waves, of
// which each is computed while the next is read.
void StreamExperts(ExpertStore& store, size_t layer, std::span<const int32_t> experts,
                   std::span<SwiGluGroup> groups, Operand& x, float* y, KernelContext& ctx) {
  const bool at_once = experts.size() <= store.num_slots();
  const size_t wave = at_once ? experts.size() : std::max<size_t>(1, store.num_slots() / 2);
  const bool reads_ahead = 2 * wave <= store.num_slots();
  const auto borrow = [&](size_t begin) {
    return store.Borrow(layer, experts.subspan(begin, std::min(wave, experts.size() - begin)));
  };
  std::optional<ExpertStore::Lease> lease(borrow(0));
  for (size_t begin = 0; begin < experts.size(); begin += wave) {
    const size_t end = std::min(begin + wave, experts.size());
    std::optional<ExpertStore::Lease> next;
    if (end < experts.size() && reads_ahead) next.emplace(borrow(end));
    for (size_t i = begin; i < end; ++i) {
      const MlpWeights weights = lease->weights(i - begin);
      groups[i].gate = weights.gate_proj;
      groups[i].up = weights.up_proj;
      groups[i].down = weights.down_proj;
      groups[i].pending = lease->pending(i - begin);
    }
    // What is no expert follows the last one.
    const size_t end_group = end == experts.size() ? groups.size() : end;
    GroupedSwiGlu(x, groups.subspan(begin, end_group - begin), y, ctx,
                  begin == 0 ? SwiGluOutput::kReplace : SwiGluOutput::kAdd);
    lease->Check();
    lease.reset();
    if (next) {
      lease.emplace(std::move(*next));
    } else if (end < experts.size()) {
      lease.emplace(borrow(end));
    }
  }
}

}  // namespace

void MoeLayer(const ModelConfig& config, const MoeWeights& weights, ExpertStore* store,
              size_t layer, const float* x, size_t rows, float* y, KernelContext& ctx,
              ForwardObserver* observer, LayerTape* tape) {
  ArenaScope scope(ctx.arena);
  Arena& memory = tape == nullptr ? ctx.arena : tape->arena;
  Operand input(x, rows, config.hidden_size, ctx);
  const Dispatch dispatch = DispatchRows(config, weights, layer, input, ctx, observer, tape);
  const size_t width = config.moe_intermediate_size;
  std::vector<SwiGluGroup> groups = GroupsOf(weights, dispatch);
  if (tape != nullptr) {
    tape->routed = NewTape(memory, rows * config.num_experts_per_tok, width);
    size_t slot = 0;
    for (SwiGluGroup& group : groups) {
      group.gate_out = tape->routed.gate + slot * width;
      group.up_out = tape->routed.up + slot * width;
      slot += group.rows.size();
    }
  }
  std::vector<int32_t> all_rows(rows);
  std::iota(all_rows.begin(), all_rows.end(), 0);
  if (!weights.shared.gate_proj.empty()) {
    groups.push_back({.gate = weights.shared.gate_proj,
                      .up = weights.shared.up_proj,
                      .down = weights.shared.down_proj,
                      .rows = all_rows});
    if (tape != nullptr) {
      tape->mlp = NewTape(memory, rows, weights.shared.gate_proj.rows);
      groups.back().gate_out = tape->mlp.gate;
      groups.back().up_out = tape->mlp.up;
    }
  }
  if (store == nullptr) return GroupedSwiGlu(input, groups, y, ctx);
  BALEEN_CHECK(tape == nullptr);
  std::vector<int32_t> experts;
  for (size_t e = 0; e < config.n_routed_experts; ++e) {
    if (!dispatch.RowsOf(e).empty()) experts.push_back(static_cast<int32_t>(e));
  }
  StreamExperts(*store, layer, experts, groups, input, y, ctx);
}

void MlpLayer(const MlpWeights& weights, const float* x, size_t rows, size_t hidden, float* y,
              KernelContext& ctx, LayerTape* tape) {
  ArenaScope scope(ctx.arena);
  Operand input(x, rows, hidden, ctx);
  std::vector<int32_t> all_rows(rows);
  std::iota(all_rows.begin(), all_rows.end(), 0);
  SwiGluGroup group = {.gate = weights.gate_proj,
                       .up = weights.up_proj,
                       .down = weights.down_proj,
                       .rows = all_rows};
  if (tape != nullptr) {
    tape->mlp = NewTape(tape->arena, rows, weights.gate_proj.rows);
    group.gate_out = tape->mlp.gate;
    group.up_out = tape->mlp.up;
  }
  GroupedSwiGlu(input, {&group, 1}, y, ctx);
}

}  // namespace baleen
