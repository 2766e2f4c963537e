// runtime/scheduler.h: decides which sequences run in the next step, with how many tokens each.
//
// Token path: Engine::Submit -> [scheduler] -> Batch -> model -> sampler.
// Goals: sequences that generate run in every step; prompts share what is left of a step, first
// come first served; a sequence that was admitted always finds its blocks.
// Non-goals: whom a request belongs to (server/ does that).
// Invariant: a block is in the pool or in one sequence's table, never both.
// Threads: the engine's thread only.
#ifndef BALEEN_RUNTIME_SCHEDULER_H_
#define BALEEN_RUNTIME_SCHEDULER_H_

#include <deque>
#include <memory>
#include <vector>

#include "runtime/block_pool.h"
#include "runtime/sequence.h"

namespace baleen {

// The part of a prompt that is not in the cache is computed in the direct form from this length on:
// rebuilding keys and values costs 131,072 products a head and cached token, and each pair of query
// and key then saves 768 (spec: 131072 / 768 = 171).
inline constexpr size_t kDirectFormMinTokens = 171;

// One step: rows of several sequences and who they belong to. Views point into the sequences.
struct Step {
  struct Output {
    Sequence* sequence;
    size_t position;
  };
  std::vector<int32_t> token_ids;
  std::vector<SequenceSlice> slices;
  std::vector<Sequence*> owners;  // of the slices
  std::vector<int32_t> output_rows;
  std::vector<Output> outputs;  // of the output rows
};

class Scheduler {
 public:
  Scheduler(BlockPool& pool, size_t block_tokens, size_t max_sequences, size_t max_prompt_rows)
      : pool_(pool),
        block_tokens_(block_tokens),
        max_sequences_(max_sequences),
        max_prompt_rows_(max_prompt_rows) {}

  void Add(std::shared_ptr<Sequence> sequence) { waiting_.push_back(std::move(sequence)); }
  bool idle() const { return waiting_.empty() && running_.empty(); }

  // The next step; empty when nothing can run. Marks its tokens as computed.
  Step Plan();

  // Takes out the sequences for which `ended` is true and frees their blocks; returns them.
  template <typename Predicate>
  std::vector<std::shared_ptr<Sequence>> Remove(Predicate ended) {
    std::vector<std::shared_ptr<Sequence>> removed;
    const auto sweep = [&](auto& list) {
      for (auto it = list.begin(); it != list.end();) {
        if (!ended(**it)) {
          ++it;
          continue;
        }
        Release(**it);
        removed.push_back(std::move(*it));
        it = list.erase(it);
      }
    };
    sweep(running_);
    sweep(waiting_);
    return removed;
  }

 private:
  void Admit();
  void Release(Sequence& sequence);
  static void AddRows(Sequence& sequence, size_t rows, Step& step);

  BlockPool& pool_;
  size_t block_tokens_;
  size_t max_sequences_;
  size_t max_prompt_rows_;
  std::deque<std::shared_ptr<Sequence>> waiting_;
  std::vector<std::shared_ptr<Sequence>> running_;
};

}  // namespace baleen

#endif  // BALEEN_RUNTIME_SCHEDULER_H_
