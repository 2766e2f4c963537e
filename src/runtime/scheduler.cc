#include "runtime/scheduler.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace baleen {

Scheduler::Scheduler(BlockPool& pool, const SchedulerOptions& options)
    : pool_(pool), options_(options), cache_(pool, options.block_tokens) {}

// Shares: who has had how much.

Scheduler::Share& Scheduler::ShareOf(const Sequence& sequence) {
  return shares_.at({sequence.priority, sequence.share_id});
}

void Scheduler::Add(std::shared_ptr<Sequence> sequence) {
  const ShareKey key = {sequence->priority, sequence->share_id};
  if (!shares_.contains(key)) {
    // Who comes anew is owed nothing for the time when it asked for nothing.
    Share share;
    bool first = true;
    for (const auto& [other_key, other] : shares_) {
      if (other_key.first != key.first) continue;
      share.served_tokens =
          first ? other.served_tokens : std::min(share.served_tokens, other.served_tokens);
      first = false;
    }
    shares_.emplace(key, share);
  }
  ++ShareOf(*sequence).num_sequences;
  sequence->arrival = ++num_arrivals_;
  waiting_.push_back(std::move(sequence));
}

void Scheduler::Leave(Sequence& sequence) {
  Release(sequence);
  const auto share = shares_.find({sequence.priority, sequence.share_id});
  if (std::exchange(sequence.running, false)) --share->second.num_running;
  if (--share->second.num_sequences == 0) shares_.erase(share);
}

size_t Scheduler::waiting_tokens() const {
  size_t tokens = 0;
  for (const auto& sequence : waiting_) tokens += sequence->num_prompt_tokens;
  return tokens;
}

// The line: who starts first, and whose prompt is computed first.
bool Scheduler::GoesBefore(const Sequence& a, const Sequence& b) {
  if (a.priority != b.priority) return a.priority < b.priority;
  const uint64_t a_served = ShareOf(a).served_tokens, b_served = ShareOf(b).served_tokens;
  if (a_served != b_served) return a_served < b_served;
  return a.arrival < b.arrival;
}

// Of those that run: who gives way to whom.
bool Scheduler::RanksBelow(const Sequence& a, const Sequence& b) const {
  if (a.priority != b.priority) return a.priority > b.priority;
  return a.admission > b.admission;
}

// Memory.

size_t Scheduler::BlocksFor(size_t tokens) const {
  return (tokens + options_.block_tokens - 1) / options_.block_tokens;
}

void Scheduler::Release(Sequence& sequence) {
  const size_t shared = sequence.node != nullptr ? PrefixCache::Depth(sequence.node) : 0;
  for (size_t i = shared; i < sequence.blocks.size(); ++i) pool_.Return(sequence.blocks[i]);
  sequence.blocks.clear();
  if (sequence.node != nullptr) cache_.Unpin(std::exchange(sequence.node, nullptr));
  sequence.num_computed = 0;
}

size_t Scheduler::CachedTokens(const Sequence& sequence) const {
  return sequence.node == nullptr ? 0 : PrefixCache::Depth(sequence.node) * options_.block_tokens;
}

// Looks up what is known of the sequence's text; what it has itself must be known too.
void Scheduler::Attach(Sequence& sequence) {
  Release(sequence);
  const bool long_prompt = sequence.num_prompt_tokens >= kDirectFormMinTokens;
  // Outputs that are wanted must be computed.
  const size_t reusable_tokens =
      std::min(sequence.FirstWantedOutput(), sequence.token_ids.size() - 1);
  if (options_.prefix_reuse != PrefixReuse::kNone && sequence.FirstWantedOutput() > 0 &&
      sequence.routing() == nullptr && sequence.assumed_tokens == 0) {
    sequence.cache_key = sequence.cache_salt;
    std::span<const int32_t> reusable(sequence.token_ids);
    if (options_.prefix_reuse == PrefixReuse::kExact) {
      // Only rows that a fresh run would compute in the same form.
      sequence.cache_key += long_prompt ? "/direct" : "/absorbed";
      if (long_prompt) reusable = reusable.first(sequence.num_prompt_tokens);
    }
    sequence.node =
        cache_.Pin(sequence.cache_key, reusable.first(std::min(reusable.size(), reusable_tokens)),
                   sequence.blocks);
    sequence.num_computed = sequence.blocks.size() * options_.block_tokens;
  }
}

// By the whole prompt, where the answer must not depend on what the cache has; else by what is left
// to compute.
void Scheduler::ChooseForm(Sequence& sequence) const {
  const bool whole = options_.prefix_reuse != PrefixReuse::kAll && sequence.assumed_tokens == 0;
  const size_t tokens =
      whole ? sequence.num_prompt_tokens : sequence.token_ids.size() - sequence.num_computed;
  sequence.prompt_form = tokens >= kDirectFormMinTokens ? MlaForm::kDirect : MlaForm::kAbsorbed;
}

// Gives a sequence the rows that it assumes, if it has none. Each byte is 3C, 3D, BC or BD:
// whatever types the cache has, these are small finite numbers. False if there are no blocks for
// them.
bool Scheduler::Assume(Sequence& sequence) {
  if (sequence.num_computed >= sequence.assumed_tokens) return true;
  if (!EnsureBlocks(sequence, sequence.assumed_tokens)) return false;
  for (std::byte* block : sequence.blocks) {
    for (size_t i = 0; i < pool_.block_bytes(); i += sizeof(uint64_t)) {
      const uint64_t bytes = (random_.Next() & 0x8181818181818181) | 0x3C3C3C3C3C3C3C3C;
      std::memcpy(block + i, &bytes, sizeof(bytes));
    }
  }
  sequence.num_computed = sequence.assumed_tokens;
  return true;
}

// A free block, at the price of a text that nobody uses or of a sequence that ranks below; null if
// there is neither.
std::byte* Scheduler::TakeBlock(const Sequence& sequence) {
  while (pool_.num_free() == 0 && !cache_.Reclaim()) {
    Sequence* victim = nullptr;
    for (const auto& other : running_) {
      if (other.get() == &sequence || other->in_step || other->blocks.empty()) continue;
      if (!RanksBelow(*other, sequence)) continue;
      if (victim == nullptr || RanksBelow(*other, *victim)) victim = other.get();
    }
    if (victim == nullptr) return nullptr;
    Preempt(*victim);
  }
  return pool_.Take();
}

bool Scheduler::EnsureBlocks(Sequence& sequence, size_t tokens) {
  while (sequence.blocks.size() < BlocksFor(tokens)) {
    std::byte* block = TakeBlock(sequence);
    if (block == nullptr) return false;
    sequence.blocks.push_back(block);
  }
  return true;
}

void Scheduler::Preempt(Sequence& victim) {
  Release(victim);
  victim.running = false;
  --ShareOf(victim).num_running;
  ++num_preemptions_;
  const auto it = std::ranges::find(running_, &victim, &std::shared_ptr<Sequence>::get);
  waiting_.push_back(std::move(*it));
  running_.erase(it);
}

// Full blocks of a sequence become the prefix cache's, for whoever comes with the same text.
void Scheduler::ShareBlocks(Sequence& sequence) {
  if (sequence.node == nullptr) return;
  size_t last = sequence.num_computed;
  if (options_.prefix_reuse == PrefixReuse::kExact && sequence.prompt_form == MlaForm::kDirect) {
    // The answer's rows are in another form than a prompt's would be.
    last = std::min(last, sequence.num_prompt_tokens);
  }
  size_t depth = PrefixCache::Depth(sequence.node);
  for (; (depth + 1) * options_.block_tokens <= last; ++depth) {
    const std::span<const int32_t> tokens(sequence.token_ids.data() + depth * options_.block_tokens,
                                          options_.block_tokens);
    sequence.node = cache_.Extend(sequence.node, tokens, sequence.blocks[depth]);
  }
}

// Places.

// Another sequence gives up its place if it is of a lower class, or if its share has more than its
// part of the places and the newcomer's has less.
bool Scheduler::MakePlaceFor(const Sequence& sequence) {
  size_t num_shares = 0;
  for (const auto& [key, share] : shares_) num_shares += key.first == sequence.priority;
  const size_t part = std::max<size_t>(1, options_.max_sequences / num_shares);
  const bool has_less = ShareOf(sequence).num_running < part;
  Sequence* victim = nullptr;
  for (const auto& other : running_) {
    if (other->in_step) continue;
    const bool lower = other->priority > sequence.priority;
    const bool has_more =
        other->priority == sequence.priority && ShareOf(*other).num_running > part;
    if (!lower && !(has_less && has_more)) continue;
    if (victim == nullptr || RanksBelow(*other, *victim)) victim = other.get();
  }
  if (victim == nullptr) return false;
  Preempt(*victim);
  return true;
}

// Whether it and all that run can compute the tokens they have, with a block to spare for each: so
// the next step does not drive out the newcomer. One that runs alone always has room.
bool Scheduler::HasRoomFor(const Sequence& sequence) const {
  if (running_.empty()) return true;
  const auto wanted = [&](const Sequence& s) {
    const size_t blocks = BlocksFor(s.token_ids.size() + 1);
    return 1 + blocks - std::min(blocks, s.blocks.size());
  };
  size_t total = wanted(sequence);
  for (const auto& other : running_) total += wanted(*other);
  return total <= num_available_blocks();
}

void Scheduler::Admit() {
  while (!waiting_.empty()) {
    const auto first = std::ranges::min_element(
        waiting_, [&](const auto& a, const auto& b) { return GoesBefore(*a, *b); });
    const std::shared_ptr<Sequence> sequence = *first;
    if (running_.size() >= options_.max_sequences && !MakePlaceFor(*sequence)) return;
    Attach(*sequence);
    if (!HasRoomFor(*sequence)) {
      Release(*sequence);
      return;
    }
    // MakePlaceFor may have moved it within the list.
    waiting_.erase(std::ranges::find(waiting_, sequence));
    sequence->running = true;
    sequence->has_own_rows = false;
    sequence->admission = ++num_admissions_;
    ++ShareOf(*sequence).num_running;
    running_.push_back(sequence);
  }
}

// Steps.

void Scheduler::AddRows(Sequence& sequence, size_t rows, Step& step) {
  const size_t first_row = step.token_ids.size();
  const size_t begin = sequence.num_computed, end = begin + rows;
  if (!sequence.started) {
    sequence.started = true;
    num_prompt_tokens_ += sequence.num_prompt_tokens;
    num_cached_tokens_ += begin;
    sequence.OnStart(begin);
  }
  const bool in_prompt = begin < sequence.num_prompt_tokens;
  step.slices.push_back({.first_row = first_row,
                         .num_rows = rows,
                         .first_position = begin,
                         .form = in_prompt ? sequence.prompt_form : MlaForm::kAbsorbed,
                         .blocks = sequence.blocks});
  step.owners.push_back(&sequence);
  for (size_t position = begin; position < end; ++position) {
    if (position >= sequence.FirstWantedOutput() || position + 1 == sequence.token_ids.size()) {
      step.output_rows.push_back(static_cast<int32_t>(step.token_ids.size()));
      step.outputs.push_back({&sequence, position});
    }
    step.token_ids.push_back(sequence.token_ids[position]);
  }
  sequence.num_computed = end;
  sequence.has_own_rows = true;
  sequence.in_step = true;
  ShareOf(sequence).served_tokens += rows;
}

// Whether the step computes a block that the sequence would compute next.
bool Scheduler::WaitsForPrefix(const Sequence& sequence, const Step& step) const {
  if (sequence.node == nullptr) return false;
  const size_t end = sequence.num_computed + options_.block_tokens;
  if (end >= sequence.token_ids.size() || end > sequence.FirstWantedOutput()) return false;
  return std::ranges::any_of(step.owners, [&](const Sequence* other) {
    return other->node != nullptr && other->cache_key == sequence.cache_key &&
           other->token_ids.size() >= end &&
           std::equal(other->token_ids.begin(),
                      other->token_ids.begin() + static_cast<ptrdiff_t>(end),
                      sequence.token_ids.begin());
  });
}

void Scheduler::PlanPrompts(Step& step, size_t max_rows) {
  Admit();
  std::vector<std::shared_ptr<Sequence>> prompts;
  for (const auto& sequence : running_) {
    if (sequence->in_prefill() && !sequence->in_step) prompts.push_back(sequence);
  }
  std::ranges::stable_sort(prompts,
                           [&](const auto& a, const auto& b) { return GoesBefore(*a, *b); });
  size_t left = std::min(max_rows, options_.max_prompt_rows);
  for (const auto& sequence : prompts) {
    if (left == 0) break;
    if (!sequence->running) continue;  // it has given way to one before it
    // Others may have computed more of its text since.
    if (sequence->num_computed == CachedTokens(*sequence)) Attach(*sequence);
    if (WaitsForPrefix(*sequence, step)) continue;
    if (!Assume(*sequence)) continue;
    if (!sequence->has_own_rows) ChooseForm(*sequence);
    // Rows of one slice are of one form.
    const size_t end = sequence->num_computed < sequence->num_prompt_tokens
                           ? sequence->num_prompt_tokens
                           : sequence->token_ids.size();
    const size_t rows = std::min(left, end - sequence->num_computed);
    if (!EnsureBlocks(*sequence, sequence->num_computed + rows)) continue;
    AddRows(*sequence, rows, step);
    left -= rows;
  }
}

bool Scheduler::has_decodes() const {
  return std::ranges::any_of(
      running_, [](const auto& sequence) { return !sequence->in_prefill() && !sequence->in_step; });
}

void Scheduler::PlanDecodes(Step& step) {
  std::vector<std::shared_ptr<Sequence>> decodes;
  for (const auto& sequence : running_) {
    if (!sequence->in_prefill() && !sequence->in_step) decodes.push_back(sequence);
  }
  // Who ranks first takes its block first, so that it is never taken from it in this step.
  std::ranges::sort(decodes, [&](const auto& a, const auto& b) { return RanksBelow(*b, *a); });
  for (const auto& sequence : decodes) {
    if (!sequence->running) continue;  // it has given way to one before it
    if (EnsureBlocks(*sequence, sequence->num_computed + 1)) {
      AddRows(*sequence, 1, step);
    } else {
      Preempt(*sequence);
    }
  }
}

void Scheduler::Commit(const Step& step) {
  for (Sequence* sequence : step.owners) {
    sequence->in_step = false;
    ShareBlocks(*sequence);
  }
}

void Scheduler::Abandon(const Step& step) {
  for (size_t i = 0; i < step.owners.size(); ++i) {
    step.owners[i]->in_step = false;
    step.owners[i]->num_computed = step.slices[i].first_position;
  }
}

}  // namespace baleen
