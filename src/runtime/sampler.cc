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
  // out.
  const float floor = *best - 40 * params_.temperature;
  candidates_.clear();
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] < floor) continue;
    const float weight = std::exp((logits[i] - *best) / params_.temperature);
    candidates_.push_back({static_cast<int32_t>(i), logits[i], weight});
  }
  const auto top_k = static_cast<size_t>(params_.top_k);
  if (top_k > 0 && top_k < candidates_.size()) {
    SortHead(0, top_k);
    candidates_.resize(top_k);
  }
  return Draw();
}

// Makes candidates_[begin..end) those that follow in falling order of logits, if all before `begin`
// are in their places.
void Sampler::SortHead(size_t begin, size_t end) {
  const auto more_likely = [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.token_id < b.token_id;
  };
  const auto at = [&](size_t i) { return candidates_.begin() + static_cast<ptrdiff_t>(i); };
  std::partial_sort(at(begin), at(end), candidates_.end(), more_likely);
}

// Draws from candidates_. A whole vocabulary takes milliseconds to sort, so only as much of it is
// sorted as top_p and min_p look at.
int32_t Sampler::Draw() {
  double total = 0;
  for (const Candidate& candidate : candidates_) total += candidate.weight;
  double kept = total;
  size_t count = candidates_.size();
  if (params_.top_p < 1 || params_.min_p > 0) {
    // top_p keeps the shortest head with that much probability; min_p cuts what is far below the
    // best, whose weight is 1.
    constexpr size_t kFirstSorted = 64;
    size_t sorted = 0;
    kept = 0;
    count = 0;
    while (count < candidates_.size() && (count == 0 || kept < params_.top_p * total)) {
      if (count == sorted) {
        sorted = std::min(candidates_.size(), std::max(kFirstSorted, 8 * sorted));
        SortHead(count, sorted);
      }
      const float weight = candidates_[count].weight;
      if (count > 0 && weight < params_.min_p) break;
      kept += weight;
      ++count;
    }
  }
  double draw = random_.UniformDouble() * kept;
  for (size_t i = 0; i < count; ++i) {
    draw -= candidates_[i].weight;
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
