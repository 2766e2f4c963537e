#include "runtime/generation.h"

#include <algorithm>

namespace baleen {

namespace {

// max_tokens = 0: until the context is full.
size_t MaxTotalTokens(const Request& request, size_t max_context_tokens) {
  const size_t prompt = request.prompt_token_ids.size();
  const size_t room = max_context_tokens - prompt;
  return prompt + (request.max_tokens == 0 ? room : std::min(room, request.max_tokens));
}

}  // namespace

GenerationSequence::GenerationSequence(Request request, size_t max_context_tokens,
                                       std::shared_ptr<const Tokenizer> tokenizer, uint64_t seed,
                                       Engine::ChunkCallback on_chunk)
    : Sequence(request.prompt_token_ids, MaxTotalTokens(request, max_context_tokens)),
      request_(std::move(request)),
      tokenizer_(std::move(tokenizer)),
      sampler_(request_.sampling, request_.prompt_token_ids, seed),
      stop_matcher_(request_.stop),
      on_chunk_(std::move(on_chunk)) {
  if (tokenizer_) detokenizer_.emplace(*tokenizer_, request_.skip_special_tokens);
  completion_.prompt_tokens = num_prompt_tokens;
}

const Completion& GenerationSequence::Wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return done_; });
  if (error_) std::rethrow_exception(error_);
  return completion_;
}

GeneratedToken GenerationSequence::SampleToken(std::span<float> logits) {
  if (request_.num_logprobs < 0) return {.token_id = sampler_.Sample(logits), .top = {}};
  // Log-probabilities are the model's own; sampling changes the logits.
  const std::vector<float> original(logits.begin(), logits.end());
  const int32_t token_id = sampler_.Sample(logits);
  return WithLogprobs(original, token_id, static_cast<size_t>(request_.num_logprobs));
}

bool GenerationSequence::OnLogits(size_t /*position*/, std::span<float> logits) {
  const GeneratedToken token = SampleToken(logits);
  const auto now = Clock::now();
  if (completion_.tokens.empty()) {
    first_token_ = now;
    completion_.prefill_seconds = std::chrono::duration<double>(now - submitted_).count();
  }
  completion_.decode_seconds = std::chrono::duration<double>(now - first_token_).count();

  if (std::ranges::find(request_.stop_token_ids, token.token_id) != request_.stop_token_ids.end()) {
    completion_.finish_reason = FinishReason::kStop;
    return true;
  }
  sampler_.Accept(token.token_id);
  token_ids.push_back(token.token_id);
  completion_.tokens.push_back(token);
  std::string text;
  if (detokenizer_) text = stop_matcher_.Push(detokenizer_->Push(token.token_id));
  Emit(std::move(text), {token});
  if (stop_matcher_.stopped()) {
    completion_.finish_reason = FinishReason::kStop;
    return true;
  }
  if (token_ids.size() >= max_total_tokens) {
    completion_.finish_reason = FinishReason::kLength;
    return true;
  }
  return false;
}

void GenerationSequence::OnEnd(std::exception_ptr error) {
  if (!ended) completion_.finish_reason = FinishReason::kCancelled;
  if (detokenizer_ && !error && !stop_matcher_.stopped()) {
    std::string rest = stop_matcher_.Push(detokenizer_->Flush());
    rest += stop_matcher_.Flush();
    if (!rest.empty()) Emit(std::move(rest), {});
  }
  // Nothing more will be told. A callback that keeps this generation alive must not be kept by it.
  on_chunk_ = nullptr;
  {
    std::lock_guard lock(mutex_);
    done_ = true;
    error_ = error;
  }
  changed_.notify_all();
}

void GenerationSequence::Emit(std::string text, std::vector<GeneratedToken> tokens) {
  completion_.text += text;
  if (on_chunk_) on_chunk_({.text = std::move(text), .tokens = std::move(tokens)});
}

}  // namespace baleen
