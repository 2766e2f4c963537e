// runtime/scheduler.h: decides which sequences run, with how many tokens each, and in which blocks.
//
// Token path: Engine::Submit -> [scheduler] -> Batch -> model -> sampler.
// Goals: sequences that generate run in every step; prompts get a chunk of rows at a time; classes
// go before each other, and shares of a class get the same number of tokens; memory is taken block
// by block, and who ranks last gives way when it is short. Giving way loses nothing: the sequence
// waits in its old place in line and is computed anew, from what the prefix cache still has.
// Non-goals: who a share is (server/ knows).
// Invariant: a block is in the pool, in the prefix cache, or in one sequence's table beyond its
// cached part.
// Threads: the engine's thread only.
#ifndef BALEEN_RUNTIME_SCHEDULER_H_
#define BALEEN_RUNTIME_SCHEDULER_H_

#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "baleen/options.h"
#include "base/random.h"
#include "runtime/block_pool.h"
#include "runtime/prefix_cache.h"
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

struct SchedulerOptions {
  size_t block_tokens = 0;
  size_t max_sequences = 0;
  size_t max_prompt_rows = 0;  // of one step
  PrefixReuse prefix_reuse = PrefixReuse::kNone;
};

class Scheduler {
 public:
  // The pool must hold one sequence of the longest context.
  Scheduler(BlockPool& pool, const SchedulerOptions& options);

  void Add(std::shared_ptr<Sequence> sequence);
  bool idle() const { return waiting_.empty() && running_.empty(); }
  // Whether a sequence generates and is in no step.
  bool has_decodes() const;

  // Adds to the step: the next rows of prompts, `max_rows` of them and never more than the options
  // say; one row of each sequence that generates. Sequences that are in a step are left out, so a
  // step can be planned while another is computed.
  void PlanPrompts(Step& step, size_t max_rows);
  void PlanDecodes(Step& step);
  // The step's rows are in the cache.
  void Commit(const Step& step);
  // They are not, and never will be.
  void Abandon(const Step& step);

  // Takes out the sequences for which `ended` is true, but for those in a step, and frees their
  // blocks; returns them.
  template <typename Predicate>
  std::vector<std::shared_ptr<Sequence>> Remove(Predicate ended) {
    std::vector<std::shared_ptr<Sequence>> removed;
    const auto sweep = [&](std::vector<std::shared_ptr<Sequence>>& list) {
      std::erase_if(list, [&](std::shared_ptr<Sequence>& sequence) {
        if (sequence->in_step || !ended(*sequence)) return false;
        Leave(*sequence);
        removed.push_back(std::move(sequence));
        return true;
      });
    };
    sweep(running_);
    sweep(waiting_);
    return removed;
  }

  size_t num_running() const { return running_.size(); }
  size_t num_waiting() const { return waiting_.size(); }
  size_t waiting_tokens() const;
  size_t num_used_blocks() const { return pool_.num_blocks() - num_available_blocks(); }
  // Of sequences that have begun: all tokens of prompts, and those that the cache had.
  uint64_t num_prompt_tokens() const { return num_prompt_tokens_; }
  uint64_t num_cached_tokens() const { return num_cached_tokens_; }
  uint64_t num_preemptions() const { return num_preemptions_; }

 private:
  using ShareKey = std::pair<Priority, std::string>;
  struct Share {
    uint64_t served_tokens = 0;
    size_t num_sequences = 0;  // that wait or run
    size_t num_running = 0;
  };

  Share& ShareOf(const Sequence& sequence);
  void Leave(Sequence& sequence);
  size_t BlocksFor(size_t tokens) const;
  size_t num_available_blocks() const { return pool_.num_free() + cache_.num_idle(); }

  bool GoesBefore(const Sequence& a, const Sequence& b);
  bool RanksBelow(const Sequence& a, const Sequence& b) const;
  void Admit();
  bool MakePlaceFor(const Sequence& sequence);
  void Preempt(Sequence& victim);
  void Attach(Sequence& sequence);
  void ChooseForm(Sequence& sequence) const;
  bool Assume(Sequence& sequence);
  size_t CachedTokens(const Sequence& sequence) const;
  bool HasRoomFor(const Sequence& sequence) const;
  bool EnsureBlocks(Sequence& sequence, size_t tokens);
  std::byte* TakeBlock(const Sequence& sequence);
  bool WaitsForPrefix(const Sequence& sequence, const Step& step) const;
  void Release(Sequence& sequence);
  void ShareBlocks(Sequence& sequence);
  void AddRows(Sequence& sequence, size_t rows, Step& step);

  BlockPool& pool_;
  SchedulerOptions options_;
  PrefixCache cache_;
  std::vector<std::shared_ptr<Sequence>> waiting_;
  std::vector<std::shared_ptr<Sequence>> running_;
  std::map<ShareKey, Share> shares_;  // that have work
  Random random_{1};                  // for rows that are assumed
  uint64_t num_arrivals_ = 0;
  uint64_t num_admissions_ = 0;
  uint64_t num_prompt_tokens_ = 0;
  uint64_t num_cached_tokens_ = 0;
  uint64_t num_preemptions_ = 0;
};

}  // namespace baleen

#endif  // BALEEN_RUNTIME_SCHEDULER_H_
