// runtime/scoring.h: a sequence that is read once and never grows, and the watcher of its routing.
#ifndef BALEEN_RUNTIME_SCORING_H_
#define BALEEN_RUNTIME_SCORING_H_

#include <condition_variable>
#include <mutex>

#include "baleen/request.h"
#include "runtime/scheduler.h"
#include "runtime/sequence.h"

namespace baleen {

class ScoringSequence final : public Sequence {
 public:
  ScoringSequence(ScoreRequest request, const ModelConfig& config);

  // Blocks until the whole text is scored; for the caller.
  Score Wait();

  size_t FirstWantedOutput() const override {
    return want_logprobs_ || want_logits_ ? 0 : kOnlyLastOutput;
  }
  std::vector<RoutingTrace>* routing() override {
    return want_routing_ ? &score_.routing : nullptr;
  }
  bool OnLogits(size_t position, std::span<float> logits) override;
  void OnEnd(std::exception_ptr error) override;

 private:
  bool want_logprobs_;
  bool want_logits_;
  bool want_routing_;
  size_t num_scored_ = 0;  // positions
  Score score_;            // the engine thread's until done_

  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;         // guarded by mutex_
  std::exception_ptr error_;  // guarded by mutex_
};

// Sends the routing of a step's rows to the sequences that asked for it.
class RoutingObserver final : public ForwardObserver {
 public:
  explicit RoutingObserver(const Step& step);
  bool wanted() const { return wanted_; }
  void OnRouting(size_t layer, const int32_t* experts, const float* weights, size_t rows,
                 size_t experts_per_row) override;

 private:
  const Step& step_;
  bool wanted_ = false;
};

}  // namespace baleen

#endif  // BALEEN_RUNTIME_SCORING_H_
