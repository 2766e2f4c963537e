#include "runtime/scheduler.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "base/random.h"

namespace baleen {
namespace {

constexpr size_t kBlock = 4;  // tokens
constexpr size_t kAllRows = SIZE_MAX;

class TestSequence final : public Sequence {
 public:
  TestSequence(std::vector<int32_t> ids, size_t total) : Sequence(std::move(ids), total) {}
  size_t FirstWantedOutput() const override { return kOnlyLastOutput; }
  void OnStart(size_t cached_tokens) override { cached = cached_tokens; }
  bool OnLogits(size_t, std::span<float>) override { return false; }
  void OnEnd(std::exception_ptr) override {}
  size_t cached = 0;
};
using SequencePtr = std::shared_ptr<TestSequence>;

// Tokens that no other call's are equal to.
std::vector<int32_t> FreshIds(size_t count) {
  static int32_t next = 0;
  std::vector<int32_t> ids(count);
  for (int32_t& id : ids) id = next++;
  return ids;
}

SequencePtr Make(size_t prompt, size_t total, const std::string& share = "",
                 Priority priority = Priority::kInteractive) {
  auto sequence = std::make_shared<TestSequence>(FreshIds(prompt), total);
  sequence->share_id = share;
  sequence->priority = priority;
  return sequence;
}

size_t RowsOf(const Step& step, const Sequence& sequence) {
  size_t rows = 0;
  for (size_t i = 0; i < step.slices.size(); ++i) {
    if (step.owners[i] == &sequence) rows += step.slices[i].num_rows;
  }
  return rows;
}

class SchedulerTest : public testing::Test {
 protected:
  void Open(size_t num_blocks, SchedulerOptions options) {
    options.block_tokens = kBlock;
    pool_.emplace(64, num_blocks);
    scheduler_.emplace(*pool_, options);
  }

  SequencePtr Add(SequencePtr sequence) {
    scheduler_->Add(sequence);
    return sequence;
  }

  // A whole step, computed.
  Step RunStep() {
    Step step;
    scheduler_->PlanPrompts(step, kAllRows);
    scheduler_->PlanDecodes(step);
    scheduler_->Commit(step);
    // Everybody whose last token's output was computed gets another token.
    for (const Step::Output& output : step.outputs) {
      if (output.position + 1 == output.sequence->token_ids.size()) {
        output.sequence->token_ids.push_back(FreshIds(1)[0]);
      }
    }
    return step;
  }

  void Finish(const SequencePtr& sequence) {
    EXPECT_EQ(scheduler_->Remove([&](Sequence& s) { return &s == sequence.get(); }).size(), 1u);
  }

  std::optional<BlockPool> pool_;
  std::optional<Scheduler> scheduler_;
};

TEST_F(SchedulerTest, PromptsShareAStepAndDecodesAlwaysRun) {
  Open(100, {.max_sequences = 8, .max_prompt_rows = 16});
  const SequencePtr a = Add(Make(10, 20)), b = Add(Make(12, 20));
  Step step = RunStep();
  EXPECT_EQ(RowsOf(step, *a), 10u);
  EXPECT_EQ(RowsOf(step, *b), 6u);
  ASSERT_EQ(step.outputs.size(), 1u);  // a's last row; b is not through
  EXPECT_EQ(step.outputs[0].sequence, a.get());
  EXPECT_EQ(step.outputs[0].position, 9u);
  step = RunStep();
  EXPECT_EQ(RowsOf(step, *b), 6u);
  EXPECT_EQ(RowsOf(step, *a), 1u);
  EXPECT_EQ(step.slices[0].first_position, 6u);
  EXPECT_EQ(step.slices[1].first_position, 10u);
  EXPECT_EQ(step.slices[1].first_row, 6u);
  EXPECT_EQ(step.outputs.size(), 2u);
}

TEST_F(SchedulerTest, AStepTakesNoMoreRowsOfPromptsThanItIsGiven) {
  Open(100, {.max_sequences = 8, .max_prompt_rows = 16});
  const SequencePtr a = Add(Make(3, 20)), b = Add(Make(30, 20));
  Step step;
  scheduler_->PlanPrompts(step, 5);
  EXPECT_EQ(RowsOf(step, *a), 3u);
  EXPECT_EQ(RowsOf(step, *b), 2u);
  scheduler_->Commit(step);
  Step next;
  scheduler_->PlanPrompts(next, 1000);
  EXPECT_EQ(RowsOf(next, *b), 16u);
  scheduler_->Commit(next);
}

TEST_F(SchedulerTest, StepsMayOverlapIfTheirSequencesDoNot) {
  Open(100, {.max_sequences = 8, .max_prompt_rows = 16});
  const SequencePtr a = Add(Make(4, 20));
  RunStep();
  const SequencePtr b = Add(Make(16, 20));
  Step prompts, decodes, none;
  scheduler_->PlanPrompts(prompts, kAllRows);
  EXPECT_EQ(RowsOf(prompts, *b), 16u);
  EXPECT_TRUE(scheduler_->has_decodes());
  scheduler_->PlanDecodes(decodes);
  EXPECT_EQ(RowsOf(decodes, *a), 1u);
  EXPECT_FALSE(scheduler_->has_decodes());
  scheduler_->PlanPrompts(none, kAllRows);
  scheduler_->PlanDecodes(none);
  EXPECT_TRUE(none.token_ids.empty());
  // Nothing is taken from under a step.
  EXPECT_TRUE(scheduler_->Remove([](Sequence&) { return true; }).empty());
  scheduler_->Commit(decodes);
  scheduler_->Abandon(prompts);
  EXPECT_EQ(b->num_computed, 0u);
  EXPECT_EQ(scheduler_->Remove([](Sequence&) { return true; }).size(), 2u);
  EXPECT_EQ(pool_->num_free(), 100u);
  EXPECT_TRUE(scheduler_->idle());
}

TEST_F(SchedulerTest, LongPromptsTakeTheDirectForm) {
  Open(1000, {.max_sequences = 8, .max_prompt_rows = 1000});
  Add(Make(kDirectFormMinTokens - 1, 300));
  Add(Make(kDirectFormMinTokens, 300));
  const Step step = RunStep();
  EXPECT_EQ(step.slices[0].form, MlaForm::kAbsorbed);
  EXPECT_EQ(step.slices[1].form, MlaForm::kDirect);
  EXPECT_EQ(RunStep().slices[1].form, MlaForm::kAbsorbed);
}

TEST_F(SchedulerTest, MemoryIsTakenBlockByBlock) {
  Open(10, {.max_sequences = 8, .max_prompt_rows = 100});
  const SequencePtr a = Add(Make(5, 40));
  RunStep();
  EXPECT_EQ(a->blocks.size(), 2u);
  for (int i = 0; i < 3; ++i) RunStep();  // positions 5, 6, 7
  EXPECT_EQ(a->blocks.size(), 2u);
  RunStep();
  EXPECT_EQ(a->blocks.size(), 3u);
  EXPECT_EQ(scheduler_->num_used_blocks(), 3u);
  Finish(a);
  EXPECT_EQ(pool_->num_free(), 10u);
}

TEST_F(SchedulerTest, WhoCameLastGivesWayAndGoesOn) {
  Open(8, {.max_sequences = 8, .max_prompt_rows = 100});
  const SequencePtr a = Add(Make(8, 32)), b = Add(Make(4, 24));
  RunStep();
  for (int i = 0; i < 20 && b->running; ++i) RunStep();
  EXPECT_FALSE(b->running);
  EXPECT_EQ(scheduler_->num_preemptions(), 1u);
  EXPECT_TRUE(a->running);
  const std::vector<int32_t> so_far = b->token_ids;
  EXPECT_GT(so_far.size(), 4u);
  Finish(a);
  // All that it had is computed anew, the answer too; then it grows.
  Step step = RunStep();
  EXPECT_EQ(RowsOf(step, *b), 4u);  // the prompt
  step = RunStep();
  EXPECT_EQ(RowsOf(step, *b), so_far.size() - 4);
  ASSERT_EQ(step.outputs.size(), 1u);
  EXPECT_EQ(step.outputs[0].position, so_far.size() - 1);
  EXPECT_EQ(RowsOf(RunStep(), *b), 1u);
}

TEST_F(SchedulerTest, AFullRoomMakesPeopleWait) {
  Open(4, {.max_sequences = 8, .max_prompt_rows = 100});
  const SequencePtr a = Add(Make(12, 16)), b = Add(Make(4, 8));
  RunStep();
  EXPECT_TRUE(a->running);
  EXPECT_FALSE(b->running);
  EXPECT_EQ(scheduler_->waiting_tokens(), 4u);
  Finish(a);
  EXPECT_EQ(RowsOf(RunStep(), *b), 4u);
}

TEST_F(SchedulerTest, ASharedPrefixIsComputedOnce) {
  for (const PrefixReuse reuse : {PrefixReuse::kAll, PrefixReuse::kExact}) {
    Open(100, {.max_sequences = 8, .max_prompt_rows = 8, .prefix_reuse = reuse});
    const std::vector<int32_t> prefix = FreshIds(20);
    std::vector<SequencePtr> streams;
    for (int i = 0; i < 4; ++i) {
      std::vector<int32_t> ids = prefix;
      ids.push_back(FreshIds(1)[0]);
      streams.push_back(Add(std::make_shared<TestSequence>(ids, 30)));
    }
    size_t rows = 0;
    for (int i = 0; i < 20; ++i) {
      const Step step = RunStep();
      for (size_t j = 0; j < step.slices.size(); ++j) {
        if (step.slices[j].first_position < 21) rows += step.slices[j].num_rows;
      }
    }
    EXPECT_EQ(rows, 20u + 4);
    for (const SequencePtr& stream : streams) {
      EXPECT_GT(stream->token_ids.size(), 21u);
      for (size_t block = 0; block < 5; ++block) {
        EXPECT_EQ(stream->blocks[block], streams[0]->blocks[block]);
      }
    }
    EXPECT_EQ(streams[1]->cached, 20u);
    for (const SequencePtr& stream : streams) Finish(stream);
    EXPECT_EQ(scheduler_->num_used_blocks(), 0u);
  }
}

TEST_F(SchedulerTest, SaltsKeepPrefixesApart) {
  Open(100, {.max_sequences = 8, .max_prompt_rows = 100, .prefix_reuse = PrefixReuse::kAll});
  const std::vector<int32_t> ids = FreshIds(9);
  std::map<std::string, size_t> cached;
  for (const char* salt : {"a", "b", "a"}) {
    const auto sequence = std::make_shared<TestSequence>(ids, 12);
    sequence->cache_salt = salt;
    Add(sequence);
    RunStep();
    cached[salt] = sequence->cached;
    Finish(sequence);
  }
  EXPECT_EQ(cached["a"], 8u);
  EXPECT_EQ(cached["b"], 0u);
}

TEST_F(SchedulerTest, AnswersAreReusedToo) {
  Open(100, {.max_sequences = 8, .max_prompt_rows = 100, .prefix_reuse = PrefixReuse::kAll});
  const SequencePtr first = Add(Make(3, 20));
  for (int i = 0; i < 6; ++i) RunStep();  // 8 rows
  std::vector<int32_t> ids = first->token_ids;
  Finish(first);
  const SequencePtr second = Add(std::make_shared<TestSequence>(ids, 20));
  RunStep();
  EXPECT_EQ(second->cached, 8u);
}

TEST_F(SchedulerTest, ExactReuseKnowsTheForms) {
  Open(1000, {.max_sequences = 8, .max_prompt_rows = 1000, .prefix_reuse = PrefixReuse::kExact});
  const std::vector<int32_t> ids = FreshIds(200);  // direct
  const SequencePtr first = Add(std::make_shared<TestSequence>(ids, 300));
  for (int i = 0; i < 10; ++i) RunStep();
  const std::vector<int32_t> with_answer = first->token_ids;
  Finish(first);
  const auto cached = [&](const std::vector<int32_t>& prompt) {
    const SequencePtr sequence = Add(std::make_shared<TestSequence>(prompt, 300));
    const Step step = RunStep();
    EXPECT_EQ(step.slices[0].form,
              prompt.size() >= kDirectFormMinTokens ? MlaForm::kDirect : MlaForm::kAbsorbed);
    Finish(sequence);
    return sequence->cached;
  };
  // A short prompt would be computed in the absorbed form, and an answer's rows were.
  EXPECT_EQ(cached({ids.begin(), ids.begin() + 100}), 0u);
  EXPECT_EQ(cached(with_answer), 200u);
  EXPECT_EQ(cached(ids), 196u);  // the last token is always computed
}

TEST_F(SchedulerTest, AssumedTokensAreFilledNotComputed) {
  Open(300, {.max_sequences = 8, .max_prompt_rows = 999, .prefix_reuse = PrefixReuse::kExact});
  const SequencePtr assumed = Add(Make(400, 404));
  assumed->assumed_tokens = 399;
  Step step = RunStep();
  ASSERT_EQ(step.slices.size(), 1u);
  EXPECT_EQ(step.slices[0].first_position, 399u);
  EXPECT_EQ(step.slices[0].num_rows, 1u);
  EXPECT_EQ(step.slices[0].form, MlaForm::kAbsorbed) << "one row is left, however long the prompt";
  EXPECT_EQ(assumed->cached, 399u);
  // Numbers of every type that a cache may have, F32 and BF16 among them: the last byte decides.
  size_t kinds[4] = {};
  for (const std::byte* block : assumed->blocks) {
    for (size_t i = 0; i < pool_->block_bytes(); ++i) {
      const auto byte = static_cast<unsigned>(block[i]);
      ASSERT_EQ(byte & 0x7E, 0x3Cu);
      ++kinds[(byte & 1) + (byte >> 7) * 2];
    }
  }
  for (const size_t count : kinds) EXPECT_GT(count, 1000u);
  step = RunStep();
  EXPECT_EQ(step.slices[0].first_position, 400u);

  // Nobody who has the same text gets such rows.
  const SequencePtr real = Add(std::make_shared<TestSequence>(assumed->token_ids, 500));
  Finish(assumed);
  step = RunStep();
  EXPECT_EQ(real->cached, 0u);
  EXPECT_EQ(RowsOf(step, *real), real->num_prompt_tokens);
}

TEST_F(SchedulerTest, SharesGetTheSameTokens) {
  Open(1000, {.max_sequences = 4, .max_prompt_rows = 16});
  std::vector<SequencePtr> crowd;
  for (int i = 0; i < 200; ++i) crowd.push_back(Add(Make(8, 400, "crowd")));
  for (int i = 0; i < 5; ++i) RunStep();
  const SequencePtr lone = Add(Make(8, 400, "lone"));
  RunStep();  // the crowd has had more than the newcomer by now
  EXPECT_EQ(RowsOf(RunStep(), *lone), 8u);
  // It has less than its part: it takes another place if it has work for it, but no third.
  const SequencePtr second = Add(Make(8, 400, "lone")), third = Add(Make(8, 400, "lone"));
  for (int i = 0; i < 10; ++i) RunStep();
  EXPECT_TRUE(second->running);
  EXPECT_FALSE(third->running);
  size_t running = 0;
  for (const SequencePtr& sequence : crowd) running += sequence->running;
  EXPECT_EQ(running, 2u);
}

TEST_F(SchedulerTest, ClassesGoBeforeEachOther) {
  Open(1000, {.max_sequences = 2, .max_prompt_rows = 16});
  const SequencePtr batch = Add(Make(8, 400, "", Priority::kBatch));
  const SequencePtr other = Add(Make(8, 400, "", Priority::kBatch));
  RunStep();
  const SequencePtr completion = Add(Make(8, 400, "", Priority::kCompletion));
  const SequencePtr interactive = Add(Make(8, 400, "", Priority::kInteractive));
  RunStep();
  EXPECT_TRUE(interactive->running && completion->running);
  EXPECT_FALSE(batch->running || other->running);
  Finish(interactive);
  RunStep();
  EXPECT_TRUE(batch->running);  // the one that came first
}

// Random arrivals, ends and steps: no block is lost or owned twice, and everybody gets through.
TEST_F(SchedulerTest, NothingIsLostUnderRandomLoad) {
  for (const PrefixReuse reuse : {PrefixReuse::kNone, PrefixReuse::kExact, PrefixReuse::kAll}) {
    Open(24, {.max_sequences = 5, .max_prompt_rows = 13, .prefix_reuse = reuse});
    Random random(7);
    std::vector<SequencePtr> live;
    const std::vector<int32_t> common = FreshIds(40);
    size_t finished = 0;
    for (int i = 0; i < 5000; ++i) {
      if (random.Below(4) == 0 && live.size() < 30) {
        std::vector<int32_t> ids(common.begin(),
                                 common.begin() + static_cast<ptrdiff_t>(1 + random.Below(40)));
        if (random.Below(2) == 0) ids.push_back(FreshIds(1)[0]);
        auto sequence = std::make_shared<TestSequence>(ids, ids.size() + 1 + random.Below(50));
        sequence->share_id = std::to_string(random.Below(3));
        sequence->priority = static_cast<Priority>(random.Below(3));
        live.push_back(Add(sequence));
      }
      const Step step = RunStep();
      EXPECT_TRUE(!step.token_ids.empty() || live.empty());
      std::set<std::byte*> own;
      for (const SequencePtr& sequence : live) {
        const size_t shared = sequence->node ? PrefixCache::Depth(sequence->node) : 0;
        for (size_t b = shared; b < sequence->blocks.size(); ++b) {
          EXPECT_TRUE(own.insert(sequence->blocks[b]).second);
        }
        EXPECT_GE(sequence->blocks.size() * kBlock, sequence->num_computed);
      }
      std::erase_if(live, [&](const SequencePtr& sequence) {
        const bool done = sequence->token_ids.size() >= sequence->max_total_tokens;
        if (!done && random.Below(200) != 0) return false;
        finished += done;
        Finish(sequence);
        return true;
      });
    }
    EXPECT_GT(finished, 100u);
    EXPECT_GT(scheduler_->num_preemptions(), 0u);
    for (const SequencePtr& sequence : live) Finish(sequence);
    EXPECT_EQ(scheduler_->num_used_blocks(), 0u);
    EXPECT_TRUE(scheduler_->idle());
  }
}

}  // namespace
}  // namespace baleen
