#include "runtime/sampler.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace baleen {

namespace {

void CheckRange(const char* name, float value, float min, float max) {
  if (!(value >= min && value <= max)) {
    Throw(ErrorCode::kInvalidArgument, "{} must be from {} to {}, found {}", name, min, max, value);
  }
}

}  // namespace

void CheckSamplingParams(const SamplingParams& params) {
  CheckRange("temperature", params.temperature, 0, 100);
  CheckRange("top_p", params.top_p, 0, 1);
  CheckRange("min_p", params.min_p, 0, 1);
  CheckRange("presence_penalty", params.presence_penalty, -2, 2);
  CheckRange("frequency_penalty", params.frequency_penalty, -2, 2);
  CheckRange("repetition_penalty", params.repetition_penalty, 1e-3f, 1e3f);
  for (const TokenBias& item : params.logit_bias) CheckRange("logit_bias", item.bias, -100, 100);
  if (params.top_p == 0) Throw(ErrorCode::kInvalidArgument, "top_p must be above 0");
  if (params.top_k < 0) {
    Throw(ErrorCode::kInvalidArgument, "top_k must not be negative, found {} (0: all tokens)",
          params.top_k);
  }
}

Sampler::Sampler(const SamplingParams& params, std::span<const int32_t> prompt, uint64_t seed)
    : params_(params), random_(params.seed.value_or(seed)) {
  if (params_.repetition_penalty != 1) seen_.insert(prompt.begin(), prompt.end());
}

void Sampler::Accept(int32_t token_id) {
  if (params_.repetition_penalty != 1) seen_.insert(token_id);
  if (params_.presence_penalty != 0 || params_.frequency_penalty != 0) ++generated_[token_id];
}

void Sampler::Penalize(std::span<float> logits) const {
  for (const TokenBias& item : params_.logit_bias) {
    logits[static_cast<size_t>(item.token_id)] += item.bias;
  }
  for (int32_t id : seen_) {
    float& logit = logits[static_cast<size_t>(id)];
    logit = logit > 0 ? logit / params_.repetition_penalty : logit * params_.repetition_penalty;
  }
  for (const auto& [id, count] : generated_) {
    logits[static_cast<size_t>(id)] -=
        params_.presence_penalty + params_.frequency_penalty * static_cast<float>(count);
  }
}

int32_t Sampler::Sample(std::span<float> logits) {
  Penalize(logits);
  const auto best = std::max_element(logits.begin(), logits.end());  // the first of equals
  if (params_.temperature == 0) return static_cast<int32_t>(best - logits.begin());

  // Tokens so far below the best that no draw can reach them (e^-40 of its probability) are left
  // out, which keeps the sort short.
  const float floor = *best - 40 * params_.temperature;
  candidates_.clear();
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] >= floor) candidates_.push_back({static_cast<int32_t>(i), logits[i]});
  }
  const auto more_likely = [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.token_id < b.token_id;
  };
  const auto top_k = static_cast<size_t>(params_.top_k);
  if (top_k > 0 && top_k < candidates_.size()) {
    std::partial_sort(candidates_.begin(), candidates_.begin() + params_.top_k, candidates_.end(),
                      more_likely);
    candidates_.resize(top_k);
  } else {
    std::ranges::sort(candidates_, more_likely);
  }
  return Draw();
}

// Draws from candidates_, sorted by falling logit.
int32_t Sampler::Draw() {
  const double max = candidates_[0].logit;
  const auto weight = [&](const Candidate& candidate) {
    return std::exp((candidate.logit - max) / params_.temperature);
  };
  double total = 0;
  for (const Candidate& candidate : candidates_) total += weight(candidate);

  // top_p keeps the shortest head with that much probability; min_p cuts what is far below the
  // best, whose weight is 1.
  double kept = 0;
  size_t count = 0;
  while (count < candidates_.size() && (count == 0 || kept < params_.top_p * total)) {
    const double w = weight(candidates_[count]);
    if (count > 0 && w < params_.min_p) break;
    kept += w;
    ++count;
  }
  double draw = random_.UniformDouble() * kept;
  for (size_t i = 0; i < count; ++i) {
    draw -= weight(candidates_[i]);
    if (draw < 0) return candidates_[i].token_id;
  }
  return candidates_[count - 1].token_id;
}

double LogSumExp(std::span<const float> logits) {
  const double max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float logit : logits) sum += std::exp(logit - max);
  return max + std::log(sum);
}

GeneratedToken WithLogprobs(std::span<const float> logits, int32_t token_id, size_t k) {
  const double log_sum = LogSumExp(logits);
  GeneratedToken token;
  token.token_id = token_id;
  token.logprob = static_cast<float>(logits[static_cast<size_t>(token_id)] - log_sum);
  std::vector<int32_t> order(logits.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
  k = std::min(k, order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<ptrdiff_t>(k), order.end(),
                    [&](int32_t a, int32_t b) {
                      const float x = logits[static_cast<size_t>(a)];
                      const float y = logits[static_cast<size_t>(b)];
                      return x != y ? x > y : a < b;
                    });
  for (size_t i = 0; i < k; ++i) {
    const float logit = logits[static_cast<size_t>(order[i])];
    token.top.push_back({order[i], static_cast<float>(logit - log_sum)});
  }
  return token;
}

void AddLogprobs(std::span<const float> logits, std::span<const int32_t> ids,
                 GeneratedToken& token) {
  if (ids.empty()) return;
  const double log_sum = LogSumExp(logits);
  for (const int32_t id : ids) {
    token.top.push_back({id, static_cast<float>(logits[static_cast<size_t>(id)] - log_sum)});
  }
}

}  // namespace baleen
