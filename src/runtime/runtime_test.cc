// The small parts of the runtime: sampler, stop texts, memory plan.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "base/error.h"
#include "runtime/plan_memory.h"
#include "runtime/sampler.h"
#include "runtime/stop_matcher.h"

namespace baleen {
namespace {

int32_t SampleOnce(const SamplingParams& params, std::vector<float> logits, uint64_t seed = 1) {
  return Sampler(params, {}, seed).Sample(logits);
}

TEST(SamplerTest, GreedyTakesTheFirstOfTheBest) {
  EXPECT_EQ(SampleOnce({}, {1, 3, 3, 2}), 1);
  EXPECT_EQ(SampleOnce({.temperature = 1, .top_k = 1}, {1, 3, 3, 2}), 1);
}

// Frequencies of 20,000 draws against the probabilities; the bounds are five standard deviations.
void ExpectFrequencies(const SamplingParams& params, const std::vector<float>& logits,
                       const std::map<int32_t, double>& wanted) {
  constexpr int kDraws = 20000;
  Sampler sampler(params, {}, 42);
  std::map<int32_t, int> counts;
  for (int i = 0; i < kDraws; ++i) {
    std::vector<float> copy = logits;
    ++counts[sampler.Sample(copy)];
  }
  for (const auto& [id, count] : counts) EXPECT_TRUE(wanted.contains(id)) << id;
  for (const auto& [id, probability] : wanted) {
    const double sigma = std::sqrt(kDraws * probability * (1 - probability));
    EXPECT_NEAR(counts[id], kDraws * probability, 5 * sigma + 1) << id;
  }
}

const std::vector<float> kLogits = {std::log(1.0f), std::log(2.0f), std::log(3.0f),
                                    std::log(4.0f)};  // probabilities 0.1, 0.2, 0.3, 0.4

TEST(SamplerTest, DrawsByProbability) {
  ExpectFrequencies({.temperature = 1}, kLogits, {{0, 0.1}, {1, 0.2}, {2, 0.3}, {3, 0.4}});
}

TEST(SamplerTest, TemperatureSharpens) {
  // At temperature 1/2 the weights are squared: 1, 4, 9, 16.
  ExpectFrequencies({.temperature = 0.5f}, kLogits,
                    {{0, 1 / 30.0}, {1, 4 / 30.0}, {2, 9 / 30.0}, {3, 16 / 30.0}});
}

TEST(SamplerTest, TopKTopPAndMinPCut) {
  ExpectFrequencies({.temperature = 1, .top_k = 2}, kLogits, {{2, 3 / 7.0}, {3, 4 / 7.0}});
  // 0.4 + 0.3 reaches 0.65; the shortest head with that much.
  ExpectFrequencies({.temperature = 1, .top_p = 0.65f}, kLogits, {{2, 3 / 7.0}, {3, 4 / 7.0}});
  // At least 0.6 of the best's 0.4: 0.3 and 0.4 stay.
  ExpectFrequencies({.temperature = 1, .min_p = 0.6f}, kLogits, {{2, 3 / 7.0}, {3, 4 / 7.0}});
  ExpectFrequencies({.temperature = 1, .top_p = 0.01f}, kLogits, {{3, 1.0}});
}

// A head that is longer than what is sorted at first, in a vocabulary that is not in its order.
TEST(SamplerTest, LongHeadsAreCutToo) {
  // 0.6 falls on 150 even ids, 0.004 each, 0.4 on 850 others.
  std::vector<float> logits(1000, std::log(0.4f / 850));
  std::map<int32_t, double> wanted;
  for (int32_t id = 0; id < 300; id += 2) {
    logits[static_cast<size_t>(id)] = std::log(0.004f);
    if (id < 250) wanted[id] = 1 / 125.0;  // 0.498 is reached by 125 of them, the lower ids
  }
  ExpectFrequencies({.temperature = 1, .top_p = 0.498f}, logits, wanted);
}

TEST(SamplerTest, TheSameSeedGivesTheSameTokens) {
  const SamplingParams params = {.temperature = 1, .seed = 9};
  Sampler a(params, {}, 1), b(params, {}, 2);
  for (int i = 0; i < 100; ++i) {
    std::vector<float> x = kLogits, y = kLogits;
    EXPECT_EQ(a.Sample(x), b.Sample(y));
  }
}

TEST(SamplerTest, PenaltiesByHand) {
  const std::vector<int32_t> prompt = {0};
  // Repetition divides positive logits and multiplies negative ones, of prompt and answer.
  Sampler repetition({.repetition_penalty = 2}, prompt, 1);
  std::vector<float> logits = {4, 3, -1};
  EXPECT_EQ(repetition.Sample(logits), 1);
  EXPECT_EQ(logits, (std::vector<float>{2, 3, -1}));
  repetition.Accept(2);
  logits = {4, 3, -1};
  repetition.Sample(logits);
  EXPECT_EQ(logits, (std::vector<float>{2, 3, -2}));
  // Presence counts once, frequency each time, of the answer only.
  Sampler counted({.presence_penalty = 0.5f, .frequency_penalty = 0.25f}, prompt, 1);
  counted.Accept(1);
  counted.Accept(1);
  logits = {1, 1, 1};
  counted.Sample(logits);
  EXPECT_EQ(logits, (std::vector<float>{1, 0, 1}));
}

TEST(SamplerTest, BiasMovesLogits) {
  Sampler sampler({.logit_bias = {{0, 5}, {2, -100}}}, {}, 1);
  std::vector<float> logits = {1, 3, 9};
  EXPECT_EQ(sampler.Sample(logits), 0);
  EXPECT_EQ(logits, (std::vector<float>{6, 3, -91}));
}

TEST(SamplerTest, LogprobsAreOfTheModel) {
  const GeneratedToken token = WithLogprobs(kLogits, 1, 3);
  EXPECT_NEAR(token.logprob, std::log(0.2), 1e-6);
  ASSERT_EQ(token.top.size(), 3u);
  EXPECT_EQ(token.top[0].token_id, 3);
  EXPECT_NEAR(token.top[0].logprob, std::log(0.4), 1e-6);
  EXPECT_EQ(token.top[2].token_id, 1);
  EXPECT_EQ(WithLogprobs(kLogits, 1, 99).top.size(), 4u);
}

TEST(SamplerTest, RangesAreChecked) {
  for (const SamplingParams& params :
       {SamplingParams{.temperature = -1}, SamplingParams{.temperature = std::nanf("")},
        SamplingParams{.top_k = -1}, SamplingParams{.top_p = 0}, SamplingParams{.top_p = 1.1f},
        SamplingParams{.min_p = -0.1f}, SamplingParams{.repetition_penalty = 0},
        SamplingParams{.presence_penalty = 3}, SamplingParams{.frequency_penalty = -3},
        SamplingParams{.logit_bias = {{0, 101}}}}) {
    EXPECT_THROW(CheckSamplingParams(params), Error);
  }
  CheckSamplingParams({.temperature = 2, .top_k = 5, .top_p = 0.5f, .min_p = 0.1f});
}

TEST(StopMatcherTest, HoldsBackWhatCouldBeAStopText) {
  StopMatcher matcher({"END", "\n\n"});
  EXPECT_EQ(matcher.Push("one E"), "one ");
  EXPECT_EQ(matcher.Push("N"), "");
  EXPECT_EQ(matcher.Push("emy\n"), "ENemy");
  EXPECT_EQ(matcher.Push("x"), "\nx");
  EXPECT_EQ(matcher.Push("yE"), "y");
  EXPECT_EQ(matcher.Push("NDafter"), "");
  EXPECT_TRUE(matcher.stopped());
  EXPECT_EQ(matcher.Push("more"), "");
  EXPECT_EQ(matcher.Flush(), "");
}

TEST(StopMatcherTest, TheEarliestMatchWins) {
  StopMatcher matcher({"later", "now"});
  EXPECT_EQ(matcher.Push("a now and later"), "a ");
  StopMatcher none({""});
  EXPECT_EQ(none.Push("text"), "text");
  StopMatcher open({"stop"});
  EXPECT_EQ(open.Push("almost sto"), "almost ");
  EXPECT_EQ(open.Flush(), "sto");
}

// Every way of cutting a text into pieces gives the same answer.
TEST(StopMatcherTest, CutsDoNotMatter) {
  const std::string text = "aabaabaac and on";
  for (size_t a = 0; a <= text.size(); ++a) {
    for (size_t b = a; b <= text.size(); ++b) {
      StopMatcher matcher({"aabaac"});
      std::string out = matcher.Push(text.substr(0, a));
      out += matcher.Push(text.substr(a, b - a));
      out += matcher.Push(text.substr(b));
      out += matcher.Flush();
      EXPECT_EQ(out, "aab");
    }
  }
}

constexpr uint64_t kGigabyte = 1'000'000'000;
// A block of 64 tokens is 1,990,656 bytes.
constexpr CacheLayout kCache = {
    .dtype = DType::kBF16, .block_tokens = 64, .row_bytes = 1152, .num_layers = 27};

MemoryPlan Plan(const EngineOptions& options, uint64_t resident_bytes, uint64_t memory_bytes) {
  const WeightSizes weights = {.total_bytes = resident_bytes, .resident_bytes = resident_bytes};
  return PlanMemory(options, 163840, kCache, weights, memory_bytes);
}

TEST(PlanMemoryTest, ShortensTheContextOrRefuses) {
  MemoryPlan plan = Plan({}, 3 * kGigabyte, 20 * kGigabyte);
  EXPECT_EQ(plan.max_context_tokens, 163840u);
  EXPECT_TRUE(plan.notes.empty());
  EXPECT_GE(plan.num_blocks * 64, 163840u);
  EXPECT_LE(plan.num_blocks * kCache.block_bytes(), 17 * kGigabyte);
  plan = Plan({}, 3 * kGigabyte, 5 * kGigabyte);
  EXPECT_LT(plan.max_context_tokens, 163840u);
  EXPECT_EQ(plan.notes.size(), 1u);
  EXPECT_THROW(Plan({}, 5 * kGigabyte, 5 * kGigabyte), Error);
  EngineOptions options;
  options.max_context_tokens = 163840;
  EXPECT_THROW(Plan(options, 3 * kGigabyte, 5 * kGigabyte), Error);
  options.max_context_tokens = 163841;
  EXPECT_THROW(Plan(options, kGigabyte, 20 * kGigabyte), Error);
}

// 9 GB of weights, of which 1 GB is needed by every token, and 1,600 experts of 5 MB.
constexpr WeightSizes kSparse = {.total_bytes = 9 * kGigabyte,
                                 .resident_bytes = kGigabyte,
                                 .num_experts = 1600,
                                 .expert_bytes = 5'000'000,
                                 .experts_of_a_layer = 6};

MemoryPlan PlanSparse(size_t context_tokens, uint64_t limit, WeightSizes weights = kSparse) {
  EngineOptions options;
  options.max_context_tokens = context_tokens;
  options.max_sequences = 1;
  options.memory_limit_bytes = limit;
  return PlanMemory(options, 163840, kCache, weights, limit);
}

TEST(PlanMemoryTest, ExpertsHaveWhatIsLeftOfALimit) {
  // 4,096 tokens are 64 blocks, 127,401,984 bytes; all else is 268,435,456.
  const MemoryPlan plan = PlanSparse(4096, 4 * kGigabyte);
  EXPECT_EQ(plan.max_context_tokens, 4096u);
  EXPECT_EQ(plan.num_blocks, 64u);
  // 3,000,000,000 - 268,435,456 - 127,401,984 = 2,604,162,560 bytes
  EXPECT_EQ(plan.num_expert_slots, 520u);
  // A context that nobody asked for has an eighth: 2,731,564,544 / 8 / 1,990,656 blocks.
  const MemoryPlan free = PlanSparse(0, 4 * kGigabyte);
  EXPECT_EQ(free.num_blocks, 171u);
  EXPECT_EQ(free.max_context_tokens, 171u * 64);
  EXPECT_EQ(free.num_expert_slots, 478u);
  // All weights fit: none are in slots.
  EXPECT_EQ(PlanSparse(4096, 10 * kGigabyte).num_expert_slots, 0u);
}

TEST(PlanMemoryTest, RefusesALimitWithoutTheExpertsOfOneLayer) {
  // What must be there: 1,000,000,000 + 268,435,456 + 127,401,984 + 6 x 5,000,000.
  const uint64_t least = 1'425'837'440;
  EXPECT_EQ(PlanSparse(4096, least).num_expert_slots, 6u);
  try {
    PlanSparse(4096, least - 1);
    ADD_FAILURE() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kResourceExhausted);
    const std::string message = error.what();
    for (const char* part :
         {"1.00 GB", "30.0 MB", "127.4 MB", "6 experts", "1.43 GB", "--memory-limit"}) {
      EXPECT_NE(message.find(part), std::string::npos) << part << " in " << message;
    }
  }
  // Experts that cannot be read from a file must fit.
  WeightSizes in_memory = kSparse;
  in_memory.num_experts = in_memory.expert_bytes = 0;
  EXPECT_THROW(PlanSparse(4096, 9 * kGigabyte, in_memory), Error);
  EXPECT_NO_THROW(PlanSparse(4096, 10 * kGigabyte, in_memory));
}

}  // namespace
}  // namespace baleen
