#include "runtime/generation.h"

#include <algorithm>
#include <limits>

#include "base/check.h"

namespace baleen {

namespace {

size_t MaxTotalTokens(const Request& request, size_t max_context_tokens) {
  const size_t prompt = request.prompt_token_ids.size();
  const size_t room = max_context_tokens - prompt;
  return prompt + std::min(room, request.max_tokens.value_or(room));
}

double SecondsBetween(std::chrono::steady_clock::time_point a,
                      std::chrono::steady_clock::time_point b) {
  return std::chrono::duration<double>(b - a).count();
}

}  // namespace

GenerationSequence::GenerationSequence(Request request, size_t max_context_tokens,
                                       std::shared_ptr<const Tokenizer> tokenizer, uint64_t seed,
                                       Engine::ChunkCallback on_chunk, Engine::EndCallback on_end)
    : Sequence(request.prompt_token_ids, MaxTotalTokens(request, max_context_tokens)),
      request_(std::move(request)),
      tokenizer_(std::move(tokenizer)),
      sampler_(request_.sampling, request_.prompt_token_ids, seed),
      stop_matcher_(request_.stop),
      on_chunk_(std::move(on_chunk)),
      on_end_(std::move(on_end)) {
  priority = request_.priority;
  share_id = request_.share_id;
  cache_salt = request_.cache_salt;
  assumed_tokens = request_.assumed_tokens;
  if (request_.grammar) {
    auto compiled = std::dynamic_pointer_cast<const grammar::CompiledGrammar>(request_.grammar);
    BALEEN_CHECK(compiled != nullptr);  // no other kind exists
    matcher_.emplace(std::move(compiled));
  }
  if (tokenizer_) detokenizer_.emplace(*tokenizer_, request_.skip_special_tokens);
  completion_.prompt_tokens = num_prompt_tokens;
}

const Completion& GenerationSequence::Wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return done_; });
  if (error_) std::rethrow_exception(error_);
  return completion_;
}

void GenerationSequence::OnStart(size_t cached_tokens) {
  started_ = Clock::now();
  completion_.queue_seconds = SecondsBetween(submitted_, started_);
  completion_.cached_tokens = cached_tokens;
}

bool GenerationSequence::IsStop(int32_t token_id) const {
  return std::ranges::find(request_.stop_token_ids, token_id) != request_.stop_token_ids.end();
}

std::optional<GeneratedToken> GenerationSequence::SampleToken(std::span<float> logits) {
  std::vector<float> original;
  // Log-probabilities are the model's own; what follows changes the logits.
  if (request_.num_logprobs >= 0) original.assign(logits.begin(), logits.end());
  if (completion_.tokens.size() < request_.min_tokens) {
    for (const int32_t id : request_.stop_token_ids) {
      if (id < 0 || static_cast<size_t>(id) >= logits.size()) continue;
      logits[static_cast<size_t>(id)] = std::numeric_limits<float>::lowest();
    }
  }
  if (matcher_ && !matcher_->Mask(logits, request_.stop_token_ids)) return std::nullopt;
  const int32_t token_id = sampler_.Sample(logits);
  if (request_.num_logprobs < 0) return GeneratedToken{.token_id = token_id, .top = {}};
  GeneratedToken token =
      WithLogprobs(original, token_id, static_cast<size_t>(request_.num_logprobs));
  AddLogprobs(original, request_.logprob_token_ids, token);
  return token;
}

// The logits of a position tell of the token that stands after it. A preempted prompt comes again.
void GenerationSequence::OnPromptLogits(size_t position, std::span<const float> logits) {
  if (position + 1 != request_.prompt_logprobs_from + completion_.prompt.size()) return;
  completion_.prompt.push_back(WithLogprobs(logits, token_ids[position + 1],
                                            static_cast<size_t>(request_.num_prompt_logprobs)));
}

bool GenerationSequence::OnLogits(size_t position, std::span<float> logits) {
  if (position + 1 < token_ids.size()) {
    if (position + 1 < num_prompt_tokens) OnPromptLogits(position, logits);
    return false;
  }
  const auto now = Clock::now();
  if (completion_.tokens.empty()) {
    first_token_ = now;
    completion_.prefill_seconds = SecondsBetween(started_, now);
    if (request_.num_prompt_logprobs >= 0)
      Emit({.text = "", .tokens = {}, .prompt = completion_.prompt});
  }
  completion_.decode_seconds = SecondsBetween(first_token_, now);
  if (token_ids.size() >= max_total_tokens) {  // only the prompt was to be read
    completion_.finish_reason = FinishReason::kLength;
    return true;
  }
  const std::optional<GeneratedToken> sampled = SampleToken(logits);
  if (!sampled) {  // the caller's stop tokens forbid what the grammar wants
    completion_.finish_reason = FinishReason::kLength;
    return true;
  }
  const GeneratedToken& token = *sampled;
  if (IsStop(token.token_id)) {
    completion_.finish_reason = FinishReason::kStop;
    return true;
  }
  sampler_.Accept(token.token_id);
  if (matcher_) matcher_->Accept(token.token_id);
  token_ids.push_back(token.token_id);
  completion_.tokens.push_back(token);
  std::string text;
  if (detokenizer_) text = stop_matcher_.Push(detokenizer_->Push(token.token_id));
  Emit({.text = std::move(text), .tokens = {token}, .prompt = {}});
  const bool is_whole = matcher_ && matcher_->is_finished();
  if (stop_matcher_.stopped() || is_whole) {
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
  completion_.prompt_machine_seconds = prompt_machine_seconds;
  completion_.answer_machine_seconds = answer_machine_seconds;
  if (!ended) completion_.finish_reason = FinishReason::kCancelled;
  if (detokenizer_ && !error && !stop_matcher_.stopped()) {
    std::string rest = stop_matcher_.Push(detokenizer_->Flush());
    rest += stop_matcher_.Flush();
    if (!rest.empty()) Emit({.text = std::move(rest), .tokens = {}, .prompt = {}});
  }
  if (on_end_) on_end_(completion_, error);
  // Nothing more will be told. A callback that keeps this generation alive must not be kept by it.
  on_chunk_ = nullptr;
  on_end_ = nullptr;
  {
    std::lock_guard lock(mutex_);
    done_ = true;
    error_ = error;
  }
  changed_.notify_all();
}

void GenerationSequence::Emit(Chunk chunk) {
  completion_.text += chunk.text;
  if (on_chunk_) on_chunk_(chunk);
}

}  // namespace baleen
