// baleen/request.h: what can be asked of an engine, and what comes back.
//
// Plain data. Token counts and ids, times in seconds.
#ifndef BALEEN_REQUEST_H_
#define BALEEN_REQUEST_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "baleen/grammar.h"

namespace baleen {

struct TokenBias {
  int32_t token_id = 0;
  float bias = 0;  // in [-100, 100]; added to the token's logit
};

// How the next token is chosen. In this order: bias and penalties, temperature, top_k, top_p,
// min_p, draw.
struct SamplingParams {
  float temperature = 0;         // 0: the most likely token, always; at most 100
  int32_t top_k = 0;             // 0: all
  float top_p = 1;               // in (0, 1]
  float min_p = 0;               // in [0, 1): of the most likely token's probability
  float repetition_penalty = 1;  // above 0; divides logits of tokens in prompt and answer
  float presence_penalty = 0;    // in [-2, 2]; of tokens in the answer
  float frequency_penalty = 0;   // in [-2, 2]; times their count
  std::vector<TokenBias> logit_bias;
  std::optional<uint64_t> seed;  // unset: a new one for each request
};

// Who is computed first when there is more to do than fits.
enum class Priority { kInteractive, kCompletion, kBatch };

struct Request {
  std::vector<int32_t> prompt_token_ids;  // at least one
  SamplingParams sampling;
  std::optional<size_t> max_tokens;        // of the answer; unset: until the context is full
  size_t min_tokens = 0;                   // the answer does not stop before, but for a stop text
  std::vector<std::string> stop;           // texts that end the answer and are not part of it
  std::vector<int32_t> stop_token_ids;     // besides the model's own
  bool ignore_eos = false;                 // the model's own stop tokens do not stop
  int32_t num_logprobs = -1;               // alternatives reported for each token; -1: no logprobs
  int32_t num_prompt_logprobs = -1;        // the same for the prompt's tokens
  size_t prompt_logprobs_from = 1;         // ... from this one on; what stands before may be reused
  std::vector<int32_t> logprob_token_ids;  // with num_logprobs: always among the alternatives
  bool skip_special_tokens = true;         // in the text
  // For measuring: so many of the prompt's first tokens, fewer than all, are not computed; their
  // latent rows are small random numbers. A step costs what it would; the answer means nothing.
  size_t assumed_tokens = 0;
  // What the answer must look like, by Engine::CompileGrammar of the same engine: only tokens that
  // lead there are sampled. The answer ends where nothing could follow.
  std::shared_ptr<const Grammar> grammar;

  // Requests of one class share the engine by `share_id`, whatever it names: each share gets the
  // same number of tokens while it has work.
  Priority priority = Priority::kInteractive;
  std::string share_id;
  // With EngineOptions::prefix_reuse: only requests of the same salt reuse each other's prefixes.
  std::string cache_salt;
};

struct TokenLogprob {
  int32_t token_id = 0;
  float logprob = 0;
};

struct GeneratedToken {
  int32_t token_id = 0;
  float logprob = 0;              // of the model, before sampling parameters; with num_logprobs
  std::vector<TokenLogprob> top;  // most likely first, then Request::logprob_token_ids
};

// A piece of an answer as it grows. The texts of all chunks together are Completion::text; a chunk
// may carry tokens whose text is still held back, or text alone.
struct Chunk {
  std::string text;  // valid UTF-8
  std::vector<GeneratedToken> tokens;
  std::vector<GeneratedToken> prompt;  // Completion::prompt, once, before any token
};

enum class FinishReason {
  kStop,       // a stop token or a stop text
  kLength,     // max_tokens, or the context is full
  kCancelled,  // by Generation::Cancel
};

struct Completion {
  std::string text;
  std::vector<GeneratedToken> tokens;  // without the stop token
  std::vector<GeneratedToken> prompt;  // with num_prompt_logprobs
  FinishReason finish_reason = FinishReason::kStop;
  size_t prompt_tokens = 0;
  size_t cached_tokens = 0;    // of the prompt: in the prefix cache or assumed, not computed
  double queue_seconds = 0;    // from submission to the start of work
  double prefill_seconds = 0;  // from the start of work to the first token
  double decode_seconds = 0;   // from then to the last token
  // The engine's time, each step's shared among those in it by their rows: of the prompt, and of
  // the answer. What all requests took adds up to the time in which the engine computed.
  double prompt_machine_seconds = 0;
  double answer_machine_seconds = 0;
};

// One forward pass over a whole text, for evaluation.
struct ScoreRequest {
  std::vector<int32_t> token_ids;  // at least one
  bool logprobs = true;            // else they are not computed
  bool logits = false;             // return them: [tokens, vocab_size], large
  bool routing = false;            // return the experts of each token
};

struct RoutingTrace {
  size_t layer = 0;
  std::vector<int32_t> experts;  // [tokens, num_experts_per_tok]
  std::vector<float> weights;    // the same shape
};

struct Score {
  std::vector<float> logprobs;  // [tokens - 1]: of token i + 1 after tokens 0..i, if asked for
  std::vector<float> logits;    // [tokens, vocab_size] if asked for
  std::vector<RoutingTrace> routing;
  double machine_seconds = 0;  // as Completion's
};

}  // namespace baleen

#endif  // BALEEN_REQUEST_H_
