// runtime/generation.h: a sequence that grows by sampling.
#ifndef BALEEN_RUNTIME_GENERATION_H_
#define BALEEN_RUNTIME_GENERATION_H_

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>

#include "baleen/engine.h"
#include "grammar/matcher.h"
#include "runtime/sampler.h"
#include "runtime/sequence.h"
#include "runtime/stop_matcher.h"
#include "tokenizer/detokenizer.h"
#include "tokenizer/tokenizer.h"

namespace baleen {

// The caller's handle and the engine's sequence in one. Wait and Cancel are for callers, the rest
// for the engine's thread.
class GenerationSequence final : public Sequence, public Generation {
 public:
  // `tokenizer` may be null: then the answer has ids and no text.
  GenerationSequence(Request request, size_t max_context_tokens,
                     std::shared_ptr<const Tokenizer> tokenizer, uint64_t seed,
                     Engine::ChunkCallback on_chunk, Engine::EndCallback on_end);

  void Cancel() override { cancelled = true; }
  const Completion& Wait() override;

  bool WantsAllOutputs() const override { return request_.num_prompt_logprobs >= 0; }
  void OnStart(size_t cached_tokens) override;
  bool OnLogits(size_t position, std::span<float> logits) override;
  void OnEnd(std::exception_ptr error) override;

 private:
  using Clock = std::chrono::steady_clock;

  bool IsStop(int32_t token_id) const;
  void OnPromptLogits(size_t position, std::span<const float> logits);
  // Nothing if the grammar leaves none.
  std::optional<GeneratedToken> SampleToken(std::span<float> logits);
  void Emit(Chunk chunk);

  Request request_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  Sampler sampler_;
  std::optional<grammar::Matcher> matcher_;
  std::optional<Detokenizer> detokenizer_;
  StopMatcher stop_matcher_;
  Engine::ChunkCallback on_chunk_;
  Engine::EndCallback on_end_;
  Clock::time_point submitted_ = Clock::now();
  Clock::time_point started_ = submitted_;
  Clock::time_point first_token_;
  Completion completion_;  // the engine thread's until done_

  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;         // guarded by mutex_
  std::exception_ptr error_;  // guarded by mutex_
};

}  // namespace baleen

#endif  // BALEEN_RUNTIME_GENERATION_H_
