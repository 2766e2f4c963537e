// runtime/sequence.h: one request on its way through the engine.
#ifndef BALEEN_RUNTIME_SEQUENCE_H_
#define BALEEN_RUNTIME_SEQUENCE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <span>
#include <vector>

#include "baleen/request.h"
#include "model/forward.h"

namespace baleen {

// What the scheduler needs to know of a request; generation.h and scoring.h derive from it.
// Owned by the engine's thread, but for `cancelled`.
class Sequence {
 public:
  Sequence(std::vector<int32_t> ids, size_t max_tokens)
      : token_ids(std::move(ids)),
        num_prompt_tokens(token_ids.size()),
        max_total_tokens(max_tokens) {}
  virtual ~Sequence() = default;
  Sequence(const Sequence&) = delete;
  Sequence& operator=(const Sequence&) = delete;

  // Whether every position's output is wanted, or the last one's only.
  virtual bool WantsAllOutputs() const = 0;
  // Where the experts of each token go; null if nobody asked.
  virtual std::vector<RoutingTrace>* routing() { return nullptr; }

  // `logits` [vocab_size] follow token_ids[0 .. position]; they may be changed. Called for the
  // wanted positions in order. Returns true when the sequence has ended.
  virtual bool OnLogits(size_t position, std::span<float> logits) = 0;

  // Called once, off the scheduler: the sequence has ended, was cancelled, or failed with `error`.
  virtual void OnEnd(std::exception_ptr error) = 0;

  bool in_prefill() const { return num_computed < num_prompt_tokens; }

  std::vector<int32_t> token_ids;  // prompt, then answer
  size_t num_prompt_tokens;
  size_t max_total_tokens;  // that token_ids may reach
  size_t num_computed = 0;  // tokens whose latent rows are in the cache
  MlaForm prompt_form = MlaForm::kAbsorbed;
  std::vector<std::byte*> blocks;
  bool ended = false;
  std::atomic<bool> cancelled = false;  // by any thread
};

}  // namespace baleen

#endif  // BALEEN_RUNTIME_SEQUENCE_H_
