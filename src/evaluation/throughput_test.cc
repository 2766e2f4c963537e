#include "evaluation/throughput.h"

#include <gtest/gtest.h>

#include "evaluation/fake_engine.h"

namespace baleen {
namespace {

TEST(Spread, IsMedianAndEnds) {
  const Spread odd = SpreadOf({5, 1, 3});
  EXPECT_EQ(odd.median, 3);
  EXPECT_EQ(odd.min, 1);
  EXPECT_EQ(odd.max, 5);
  EXPECT_EQ(SpreadOf({4, 1, 2, 8}).median, 3);
  EXPECT_EQ(SpreadOf({7}).median, 7);
}

// A token reads 500 MB in a second from a disk that gives 1 GB/s: half of the time. The roof has a
// quarter of it.
TEST(Throughput, PredictsTheDisksTimeAndThenTheRoofs) {
  const ThroughputRun run = {
      .tokens_per_s = 1, .roofline_share = 0.25, .disk_bytes_per_token = 5e8};
  EXPECT_DOUBLE_EQ(DiskShare(run, {.disk_gb_per_s = 1}), 0.5);
  EXPECT_DOUBLE_EQ(PredictedShare(run, {.disk_gb_per_s = 1}), 0.75);
  EXPECT_EQ(DiskShare(run, {}), 0);  // nothing was measured
}

TEST(Throughput, CountsPromptAndDecodedTokensApart) {
  FakeEngine engine;
  ThroughputOptions options;
  options.prompt_tokens = 20;
  options.context_tokens = 7;
  options.generate_tokens = 5;
  options.num_repeats = 3;
  const Throughput result = MeasureThroughput(engine, options);
  ASSERT_EQ(result.prefill.size(), 3u);
  ASSERT_EQ(result.decode.size(), 3u);
  // By the fake's prices: 10 bytes for a token of a prompt, 100 for a decoded one.
  EXPECT_DOUBLE_EQ(result.prefill[0].bytes_per_token, 10);
  EXPECT_DOUBLE_EQ(result.decode[0].bytes_per_token, 100);
  EXPECT_GT(result.decode[0].tokens_per_s, 0);
  EXPECT_GT(result.decode[0].roofline_share, 0);

  // A warm-up and three runs, a request for each kind.
  ASSERT_EQ(engine.submitted.size(), 8u);
  EXPECT_EQ(engine.submitted[0].prompt_token_ids.size(), 20u);
  EXPECT_EQ(engine.submitted[1].prompt_token_ids.size(), 7u);
  EXPECT_EQ(engine.submitted[1].max_tokens, 6u);
  for (const Request& request : engine.submitted) {
    EXPECT_TRUE(request.ignore_eos);
    EXPECT_LE(request.prompt_token_ids.size() + *request.max_tokens, ContextFor(options));
  }
  EXPECT_NE(engine.submitted[0].prompt_token_ids, engine.submitted[2].prompt_token_ids);
}

TEST(Throughput, DecodesFromAnEmptyContextAfterOneToken) {
  FakeEngine engine;
  ThroughputOptions options;
  options.prompt_tokens = 1;
  options.context_tokens = 0;
  options.generate_tokens = 5;
  options.num_repeats = 1;
  MeasureThroughput(engine, options);
  ASSERT_EQ(engine.submitted.size(), 4u);
  EXPECT_EQ(engine.submitted[1].prompt_token_ids.size(), 1u);
  EXPECT_EQ(ContextFor(options), 1 + 5 + 1u);
}

TEST(Throughput, WarmsUpWithAPartOfALongPrompt) {
  FakeEngine engine;
  ThroughputOptions options;
  options.prompt_tokens = 700;
  options.num_repeats = 1;
  const Throughput result = MeasureThroughput(engine, options);
  ASSERT_EQ(engine.submitted.size(), 4u);
  EXPECT_EQ(engine.submitted[0].prompt_token_ids.size(), 512u);
  EXPECT_EQ(engine.submitted[2].prompt_token_ids.size(), 700u);
  EXPECT_DOUBLE_EQ(result.prefill[0].bytes_per_token, 10);
}

TEST(Throughput, AssumesAllOfAContextButItsLastToken) {
  FakeEngine engine;
  ThroughputOptions options;
  options.prompt_tokens = 20;
  options.context_tokens = 7;
  options.assume_context = true;
  options.num_repeats = 1;
  MeasureThroughput(engine, options);
  ASSERT_EQ(engine.submitted.size(), 4u);
  EXPECT_EQ(engine.submitted[0].assumed_tokens, 0u) << "a prompt is read";
  EXPECT_EQ(engine.submitted[1].assumed_tokens, 6u);
}

TEST(Throughput, RepeatsItsPromptsForASeed) {
  FakeEngine first, second, other;
  ThroughputOptions options;
  options.num_repeats = 1;
  MeasureThroughput(first, options);
  MeasureThroughput(second, options);
  options.seed = 2;
  MeasureThroughput(other, options);
  EXPECT_EQ(first.submitted[0].prompt_token_ids, second.submitted[0].prompt_token_ids);
  EXPECT_NE(first.submitted[0].prompt_token_ids, other.submitted[0].prompt_token_ids);
}

// The fake ends each answer before the next begins: there is no stretch in which both generate.
TEST(Throughput, RefusesABatchThatNeverRanTogether) {
  FakeEngine engine;
  ThroughputOptions options;
  options.batch_size = 2;
  try {
    MeasureThroughput(engine, options);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kFailed);
  }
}

}  // namespace
}  // namespace baleen
