// The engine on the bundled model, against what transformers computed from the same weights.
#include "baleen/engine.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <future>
#include <thread>

#include "base/json.h"
#include "base/sanitized_testing.h"
#include "checkpoint/stories_testing.h"

namespace baleen {
namespace {

const std::string kModel = BALEEN_SOURCE_DIR "/models/baleen-stories-mini";
const std::string kReference =
    BALEEN_SOURCE_DIR "/../shared/checkpoints/baleen-stories-mini.reference.json";

std::vector<int32_t> Ints(simdjson::dom::element list) {
  std::vector<int32_t> values;
  for (auto item : list.get_array()) values.push_back(static_cast<int32_t>(int64_t(item)));
  return values;
}

std::vector<int32_t> Ids(const Completion& completion) {
  std::vector<int32_t> ids;
  for (const GeneratedToken& token : completion.tokens) ids.push_back(token.token_id);
  return ids;
}

class ReferenceTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(kReference)) {
      GTEST_SKIP() << "the reference outputs are not there: " << kReference;
    }
    document_.emplace(JsonDocument::Parse(ReadFile(kReference, 1 << 24), kReference));
  }
  std::optional<JsonDocument> document_;
};

TEST_F(ReferenceTest, GreedyTokensAreTheReferences) {
  const auto engine = Engine::Open(kModel, {.precision = Precision::kF32});
  for (auto item : document_->root()["greedy"].get_array()) {
    const std::vector<int32_t> prompt = Ints(item["prompt_token_ids"]);
    std::vector<int32_t> wanted = Ints(item["token_ids"]);
    const size_t sure = uint64_t(item["sure_tokens"]);
    EXPECT_EQ(engine->Encode(std::string_view(item["prompt"])), prompt);
    Request request;
    request.prompt_token_ids = prompt;
    request.max_tokens = 200;
    const std::vector<int32_t> got = Ids(engine->Submit(request)->Wait());
    if (wanted.back() == engine->info().stop_token_ids[0]) wanted.pop_back();
    const size_t compared = std::min(sure, wanted.size());
    ASSERT_GE(got.size(), compared);
    EXPECT_EQ(std::vector(got.begin(), got.begin() + static_cast<ptrdiff_t>(compared)),
              std::vector(wanted.begin(), wanted.begin() + static_cast<ptrdiff_t>(compared)))
        << std::string_view(item["prompt"]);
  }
}

TEST_F(ReferenceTest, LogitsOfTheLastPositionAreTheReferences) {
  const auto engine = Engine::Open(kModel, {.precision = Precision::kF32});
  const auto logits = document_->root()["logits"];
  const std::vector<int32_t> ids = Ints(logits["token_ids"]);
  const Score score = engine->ScoreTokens({.token_ids = ids, .logits = true});
  const size_t vocab = engine->info().vocab_size;
  size_t i = 0;
  for (auto wanted : logits["last_position"].get_array()) {
    EXPECT_NEAR(score.logits[(ids.size() - 1) * vocab + i], double(wanted), 2e-4) << i;
    ++i;
  }
  EXPECT_EQ(i, vocab);
}

TEST(EngineTest, TwoEnginesAndACancel) {
  const auto first = Engine::Open(TestStories(), {.num_threads = 1});
  const auto second = Engine::Open(TestStories(), {.num_threads = 2, .precision = Precision::kF32});
  Request request;
  request.prompt_token_ids = first->Encode("Once upon a time");
  request.max_tokens = 400;
  request.ignore_eos = true;
  std::shared_ptr<Generation> slow;
  std::atomic<int> chunks = 0;
  slow = first->Submit(request, [&](const Chunk&) { ++chunks; });
  while (chunks < 3) std::this_thread::yield();
  slow->Cancel();
  request.max_tokens = 10;
  EXPECT_EQ(second->Submit(request)->Wait().tokens.size(), 10u);
  const Completion& cancelled = slow->Wait();
  EXPECT_EQ(cancelled.finish_reason, FinishReason::kCancelled);
  EXPECT_LT(cancelled.tokens.size(), 400u);
  EXPECT_EQ(static_cast<size_t>(chunks), cancelled.tokens.size());
}

TEST(EngineTest, AnEndedGenerationLetsGoOfItsCallback) {
  const auto engine = Engine::Open(TestStories());
  Request request;
  request.prompt_token_ids = engine->Encode("Once");
  request.max_tokens = 2;
  const auto owned = std::make_shared<int>(0);
  const std::shared_ptr<Generation> generation =
      engine->Submit(request, [owned](const Chunk&) { ++*owned; });
  generation->Wait();
  EXPECT_EQ(*owned, 2);
  EXPECT_EQ(owned.use_count(), 1);
}

TEST(EngineTest, RequestsTogetherAnswerAsAlone) {
  const auto engine = Engine::Open(TestStories());
  std::vector<Request> requests;
  for (const char* text : {"Once upon a time", "The cat sat", "One day, a little girl"}) {
    Request request;
    request.prompt_token_ids = engine->Encode(text);
    request.max_tokens = 40;
    request.sampling.temperature = 0.8f;
    request.sampling.seed = 7;
    requests.push_back(request);
  }
  std::vector<std::vector<int32_t>> alone;
  for (const Request& request : requests) alone.push_back(Ids(engine->Submit(request)->Wait()));
  std::vector<std::shared_ptr<Generation>> together;
  for (const Request& request : requests) together.push_back(engine->Submit(request));
  for (size_t i = 0; i < requests.size(); ++i) EXPECT_EQ(Ids(together[i]->Wait()), alone[i]);
}

// A prompt of whole sentences: `tokens` of them, the model's own.
std::vector<int32_t> LongPrompt(const Engine& engine, size_t tokens) {
  std::vector<int32_t> ids = engine.Encode("Once upon a time there was a girl. ");
  const std::vector<int32_t> more =
      engine.Encode("She saw a dog and a cat. They went to the park. ", {.add_bos = false});
  while (ids.size() < tokens) ids.insert(ids.end(), more.begin(), more.end());
  ids.resize(tokens);
  return ids;
}

TEST(EngineTest, ExactReuseChangesNoBit) {
  const auto fresh = Engine::Open(TestStories());
  const auto engine = Engine::Open(TestStories(), {.prefix_reuse = PrefixReuse::kExact});
  const std::vector<int32_t> text = LongPrompt(*fresh, 300);
  for (const size_t length : {300, 150, 300, 200, 100, 170, 171}) {
    Request request;
    request.prompt_token_ids.assign(text.begin(), text.begin() + static_cast<ptrdiff_t>(length));
    request.max_tokens = 30;
    request.ignore_eos = true;
    request.num_logprobs = 2;
    const Completion wanted = fresh->Submit(request)->Wait();
    const Completion got = engine->Submit(request)->Wait();
    EXPECT_EQ(Ids(got), Ids(wanted)) << length;
    for (size_t i = 0; i < wanted.tokens.size(); ++i) {
      EXPECT_EQ(got.tokens[i].logprob, wanted.tokens[i].logprob) << length << " " << i;
    }
    EXPECT_EQ(wanted.cached_tokens, 0u);
  }
  EXPECT_GT(engine->Stats().cached_tokens, 600u);
}

TEST(EngineTest, PrefixesAreReusedWithinASalt) {
  const auto engine = Engine::Open(TestStories(), {.prefix_reuse = PrefixReuse::kAll});
  Request request;
  request.prompt_token_ids = LongPrompt(*engine, 200);
  request.max_tokens = 1;
  EXPECT_EQ(engine->Submit(request)->Wait().cached_tokens, 0u);
  EXPECT_EQ(engine->Submit(request)->Wait().cached_tokens, 192u);
  request.cache_salt = "other";
  EXPECT_EQ(engine->Submit(request)->Wait().cached_tokens, 0u);
}

// Memory for a part of the requests only, chunks of 32 tokens with steps of the others between the
// layers: everybody gives way at some time, and nobody's answer changes.
TEST(EngineTest, PreemptionAndInterludesChangeNoBit) {
  const auto roomy = Engine::Open(TestStories());
  std::vector<Request> requests;
  for (size_t i = 0; i < 6; ++i) {
    Request request;
    request.prompt_token_ids = LongPrompt(*roomy, i == 2 ? 200 : 50 + 10 * i);
    request.prompt_token_ids[5] = static_cast<int32_t>(20 + i);  // no two share a prefix
    request.max_tokens = 150;
    request.ignore_eos = true;
    requests.push_back(request);
  }
  std::vector<std::vector<int32_t>> wanted;
  for (const Request& request : requests) wanted.push_back(Ids(roomy->Submit(request)->Wait()));
  for (const PrefixReuse reuse : {PrefixReuse::kExact, PrefixReuse::kNone}) {
    if (kSanitized && reuse == PrefixReuse::kNone) break;  // the lesser of the two
    EngineOptions options = {.max_sequences = 6, .prefill_chunk_tokens = 32, .prefix_reuse = reuse};
    options.max_decode_wait_seconds = 0;
    // 16 blocks where 26 are asked for in the end, beside all weights and 256 MiB for the rest.
    options.memory_limit_bytes = roomy->info().weight_bytes + (uint64_t{256} << 20) +
                                 16 * 64 * roomy->info().cache_bytes_per_token;
    const auto engine = Engine::Open(TestStories(), options);
    std::vector<std::shared_ptr<Generation>> together;
    for (const Request& request : requests) together.push_back(engine->Submit(request));
    for (size_t i = 0; i < requests.size(); ++i) EXPECT_EQ(Ids(together[i]->Wait()), wanted[i]);
    ASSERT_EQ(engine->Stats().cache_tokens, 16u * 64);
    EXPECT_GT(engine->Stats().preemptions, 0u);
    EXPECT_EQ(engine->Stats().generated_tokens, 6u * 150);
  }
}

TEST(EngineTest, PromptLogprobsAreTheScores) {
  const auto engine = Engine::Open(TestStories(), {.prefix_reuse = PrefixReuse::kAll});
  Request request;
  request.prompt_token_ids = LongPrompt(*engine, 100);
  request.max_tokens = 0;
  request.num_prompt_logprobs = 1;
  const Score score = engine->ScoreTokens({.token_ids = request.prompt_token_ids});
  for (int round = 0; round < 2; ++round) {
    std::vector<GeneratedToken> streamed;
    const Completion completion =
        engine->Submit(request, [&](const Chunk& chunk) { streamed = chunk.prompt; })->Wait();
    EXPECT_TRUE(completion.tokens.empty());
    EXPECT_EQ(completion.finish_reason, FinishReason::kLength);
    ASSERT_EQ(completion.prompt.size(), 99u);
    EXPECT_EQ(streamed.size(), 99u);
    for (size_t i = 0; i < 99; ++i) {
      EXPECT_EQ(completion.prompt[i].token_id, request.prompt_token_ids[i + 1]);
      EXPECT_FLOAT_EQ(completion.prompt[i].logprob, score.logprobs[i]);
      EXPECT_GE(completion.prompt[i].top[0].logprob, completion.prompt[i].logprob);
    }
  }
}

TEST(EngineTest, BiasAndMinimumSteerTheAnswer) {
  const auto engine = Engine::Open(TestStories());
  Request request;
  request.prompt_token_ids = engine->Encode("Once upon a time");
  request.max_tokens = 3;
  request.sampling.logit_bias = {{100, 100}};
  EXPECT_EQ(Ids(engine->Submit(request)->Wait()), (std::vector<int32_t>{100, 100, 100}));
  request.sampling.logit_bias = {{engine->info().stop_token_ids[0], 100}};
  EXPECT_EQ(engine->Submit(request)->Wait().tokens.size(), 0u);
  request.min_tokens = 2;
  EXPECT_EQ(engine->Submit(request)->Wait().tokens.size(), 2u);
  request.sampling.logit_bias = {{1 << 20, 1}};
  EXPECT_THROW(engine->Submit(request), Error);
}

TEST(EngineTest, TheEndIsToldOnceAfterTheLastChunk) {
  const auto engine = Engine::Open(TestStories());
  Request request;
  request.prompt_token_ids = engine->Encode("Once upon a time");
  request.max_tokens = 5;
  size_t chunks = 0;
  std::promise<size_t> ended;
  const auto generation = engine->Submit(
      request, [&](const Chunk& chunk) { chunks += chunk.tokens.size(); },
      [&](const Completion& completion, std::exception_ptr error) {
        EXPECT_EQ(error, nullptr);
        EXPECT_EQ(completion.tokens.size(), chunks);
        ended.set_value(chunks);
      });
  EXPECT_EQ(ended.get_future().get(), 5u);
}

TEST(EngineTest, TooManyWaitingTokensAreRefused) {
  EngineOptions options = {.max_sequences = 1};
  options.max_waiting_tokens = 250;
  const auto engine = Engine::Open(TestStories(), options);
  Request request;
  request.prompt_token_ids = LongPrompt(*engine, 100);
  request.ignore_eos = true;
  std::vector<std::shared_ptr<Generation>> accepted;
  try {
    for (int i = 0; i < 10; ++i) accepted.push_back(engine->Submit(request));
    ADD_FAILURE() << "ten prompts of 100 tokens wait, where 250 may";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kResourceExhausted);
  }
  EXPECT_GE(accepted.size(), 2u);
  for (const auto& generation : accepted) generation->Cancel();
  for (const auto& generation : accepted) generation->Wait();
}

TEST(EngineTest, RefusesWhatItCannotDo) {
  const auto engine = Engine::Open(TestStories());
  const auto code = [&](Request request) {
    try {
      engine->Submit(request);
    } catch (const Error& error) {
      return error.code();
    }
    return ErrorCode::kInternal;
  };
  Request request;
  EXPECT_EQ(code(request), ErrorCode::kInvalidArgument);
  request.prompt_token_ids = {5000};
  EXPECT_EQ(code(request), ErrorCode::kInvalidArgument);
  request.prompt_token_ids.assign(513, 20);
  EXPECT_EQ(code(request), ErrorCode::kInvalidArgument);
  request.prompt_token_ids = {20, 21};
  request.assumed_tokens = 2;  // none is left
  EXPECT_EQ(code(request), ErrorCode::kInvalidArgument);
  request.assumed_tokens = 1;
  request.num_prompt_logprobs = 0;
  EXPECT_EQ(code(request), ErrorCode::kInvalidArgument);
  request.num_prompt_logprobs = -1;
  request.max_tokens = 3;
  request.ignore_eos = true;
  EXPECT_EQ(engine->Submit(request)->Wait().tokens.size(), 3u);
  request.assumed_tokens = 0;
  request.prompt_token_ids = {20};
  request.sampling.top_p = 2;
  EXPECT_EQ(code(request), ErrorCode::kInvalidArgument);
  EXPECT_THROW(Engine::Open("/no/such/model"), Error);
  EXPECT_THROW(Engine::Open(TestStories(), {.isa = "sse9"}), Error);
}

TEST(EngineTest, StopTextsAndLength) {
  const auto engine = Engine::Open(TestStories(), {.precision = Precision::kF32});
  Request request;
  request.prompt_token_ids = engine->Encode("Once upon a time");
  request.max_tokens = 60;
  const Completion whole = engine->Submit(request)->Wait();
  ASSERT_GT(whole.text.size(), 30u);
  const std::string stop = whole.text.substr(20, 6);
  request.stop = {stop};
  std::string streamed;
  const Completion cut =
      engine->Submit(request, [&](const Chunk& chunk) { streamed += chunk.text; })->Wait();
  EXPECT_EQ(cut.text, whole.text.substr(0, whole.text.find(stop)));
  EXPECT_EQ(streamed, cut.text);
  EXPECT_EQ(cut.finish_reason, FinishReason::kStop);
  request.stop.clear();
  request.max_tokens = 5;
  const Completion five = engine->Submit(request)->Wait();
  EXPECT_EQ(five.tokens.size(), 5u);
  EXPECT_EQ(five.finish_reason, FinishReason::kLength);
}

}  // namespace
}  // namespace baleen
