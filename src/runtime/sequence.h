// runtime/sequence.h: one request on its way through the engine.
#ifndef BALEEN_RUNTIME_SEQUENCE_H_
#define BALEEN_RUNTIME_SEQUENCE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <span>
#include <string>
#include <vector>

#include "baleen/request.h"
#include "model/forward.h"
#include "runtime/prefix_cache.h"

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

  // The outputs of all positions from this one on are wanted, and the last one's anyway.
  static constexpr size_t kOnlyLastOutput = SIZE_MAX;
  virtual size_t FirstWantedOutput() const = 0;
  // Where the experts of each token go; null if nobody asked.
  virtual std::vector<RoutingTrace>* routing() { return nullptr; }

  // Called once, when the first rows are computed; the cache already holds `cached_tokens`.
  virtual void OnStart(size_t /*cached_tokens*/) {}

  // `logits` [vocab_size] follow token_ids[0 .. position]; they may be changed. Called for the
  // wanted positions in order; again for those that a preempted sequence computes anew. Returns
  // true when the sequence has ended.
  virtual bool OnLogits(size_t position, std::span<float> logits) = 0;

  // Called once, off the scheduler: the sequence has ended, was cancelled, or failed with `error`.
  virtual void OnEnd(std::exception_ptr error) = 0;

  // Whether more is to be computed before the next token can be sampled than the last one's row.
  bool in_prefill() const {
    return num_computed < num_prompt_tokens || num_computed + 1 < token_ids.size();
  }

  std::vector<int32_t> token_ids;  // prompt, then answer
  size_t num_prompt_tokens;
  size_t max_total_tokens;  // that token_ids may reach
  Priority priority = Priority::kInteractive;
  std::string share_id;
  std::string cache_salt;
  size_t assumed_tokens = 0;  // of the prompt, whose rows are filled with random numbers instead

  // The scheduler's.
  size_t num_computed = 0;  // tokens whose latent rows are in the cache
  MlaForm prompt_form = MlaForm::kAbsorbed;
  std::vector<std::byte*> blocks;     // the first ones are the prefix cache's, down to `node`
  PrefixCache::Node* node = nullptr;  // null: the sequence takes no part in the prefix cache
  std::string cache_key;              // of the node's root
  uint64_t arrival = 0;               // position in line
  uint64_t admission = 0;             // position among those that run
  bool started = false;               // it has run once
  bool running = false;
  bool has_own_rows = false;  // rows computed for it since it began to run: its form is settled
  bool in_step = false;       // rows of it are being computed: its blocks must stay

  // Its part of the engine's time.
  double prompt_machine_seconds = 0;
  double answer_machine_seconds = 0;

  bool ended = false;
  std::atomic<bool> cancelled = false;  // by any thread
};

}  // namespace baleen

#endif  // BALEEN_RUNTIME_SEQUENCE_H_
