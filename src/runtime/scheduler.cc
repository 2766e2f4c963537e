#include "runtime/scheduler.h"

#include <algorithm>

#include "base/check.h"

namespace baleen {

void Scheduler::Admit() {
  while (!waiting_.empty() && running_.size() < max_sequences_) {
    Sequence& sequence = *waiting_.front();
    // All blocks that it can ever need, so that it never has to be stopped half-way.
    const size_t needed = (sequence.max_total_tokens + block_tokens_ - 1) / block_tokens_;
    if (needed > pool_.num_free()) return;
    for (size_t i = 0; i < needed; ++i) sequence.blocks.push_back(pool_.Take());
    sequence.prompt_form =
        sequence.num_prompt_tokens >= kDirectFormMinTokens ? MlaForm::kDirect : MlaForm::kAbsorbed;
    running_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
}

void Scheduler::Release(Sequence& sequence) {
  for (std::byte* block : sequence.blocks) pool_.Return(block);
  sequence.blocks.clear();
}

void Scheduler::AddRows(Sequence& sequence, size_t rows, Step& step) {
  const size_t first_row = step.token_ids.size();
  const size_t begin = sequence.num_computed, end = begin + rows;
  step.slices.push_back({.first_row = first_row,
                         .num_rows = rows,
                         .first_position = begin,
                         .form = sequence.in_prefill() ? sequence.prompt_form : MlaForm::kAbsorbed,
                         .blocks = sequence.blocks});
  step.owners.push_back(&sequence);
  for (size_t position = begin; position < end; ++position) {
    if (sequence.WantsAllOutputs() || position + 1 == sequence.token_ids.size()) {
      step.output_rows.push_back(static_cast<int32_t>(step.token_ids.size()));
      step.outputs.push_back({&sequence, position});
    }
    step.token_ids.push_back(sequence.token_ids[position]);
  }
  sequence.num_computed = end;
}

Step Scheduler::Plan() {
  Admit();
  // Sequences that generate come first and bring one row each; then prompts, in order of arrival.
  // (AddRows moves a sequence on, so the prompts are picked before any row is added.)
  Step step;
  std::vector<Sequence*> prompts;
  for (const auto& sequence : running_) {
    if (sequence->in_prefill()) {
      prompts.push_back(sequence.get());
    } else {
      AddRows(*sequence, 1, step);
    }
  }
  size_t left = max_prompt_rows_;
  for (Sequence* sequence : prompts) {
    const size_t rows = std::min(left, sequence->num_prompt_tokens - sequence->num_computed);
    if (rows > 0) AddRows(*sequence, rows, step);
    left -= rows;
  }
  return step;
}

}  // namespace baleen
