#include "runtime/scoring.h"

#include <algorithm>

#include "base/error.h"
#include "runtime/sampler.h"

namespace baleen {

ScoringSequence::ScoringSequence(ScoreRequest request, const ModelConfig& config)
    : Sequence(std::move(request.token_ids), 0),
      want_logprobs_(request.logprobs),
      want_logits_(request.logits),
      want_routing_(request.routing) {
  max_total_tokens = num_prompt_tokens;
  if (!want_routing_) return;
  for (size_t l = 0; l < config.num_hidden_layers; ++l) {
    if (config.IsMoe(l)) score_.routing.push_back({.layer = l, .experts = {}, .weights = {}});
  }
}

Score ScoringSequence::Wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return done_; });
  if (error_) std::rethrow_exception(error_);
  if (!ended) Throw(ErrorCode::kCancelled, "the engine was closed while it scored a text");
  return std::move(score_);
}

bool ScoringSequence::OnLogits(size_t position, std::span<float> logits) {
  if (FirstWantedOutput() == kOnlyLastOutput) return true;
  // A preempted text is computed anew, and comes again.
  if (position != num_scored_) return false;
  ++num_scored_;
  if (want_logprobs_ && position + 1 < token_ids.size()) {
    const auto next = static_cast<size_t>(token_ids[position + 1]);
    score_.logprobs.push_back(static_cast<float>(logits[next] - LogSumExp(logits)));
  }
  if (want_logits_) score_.logits.insert(score_.logits.end(), logits.begin(), logits.end());
  return position + 1 == token_ids.size();
}

void ScoringSequence::OnEnd(std::exception_ptr error) {
  {
    std::lock_guard lock(mutex_);
    done_ = true;
    error_ = error;
    score_.machine_seconds = prompt_machine_seconds + answer_machine_seconds;
  }
  changed_.notify_all();
}

RoutingObserver::RoutingObserver(const Step& step) : step_(step) {
  wanted_ = std::ranges::any_of(step.owners, [](Sequence* s) { return s->routing() != nullptr; });
}

void RoutingObserver::OnRouting(size_t layer, const int32_t* experts, const float* weights,
                                size_t /*rows*/, size_t experts_per_row) {
  for (size_t i = 0; i < step_.slices.size(); ++i) {
    std::vector<RoutingTrace>* traces = step_.owners[i]->routing();
    if (traces == nullptr) continue;
    const auto trace = std::ranges::find(*traces, layer, &RoutingTrace::layer);
    if (trace->experts.size() != step_.slices[i].first_position * experts_per_row) continue;
    const size_t begin = step_.slices[i].first_row * experts_per_row;
    const size_t end = begin + step_.slices[i].num_rows * experts_per_row;
    trace->experts.insert(trace->experts.end(), experts + begin, experts + end);
    trace->weights.insert(trace->weights.end(), weights + begin, weights + end);
  }
}

}  // namespace baleen
