// The engine on the bundled model, against what transformers computed from the same weights.
#include "baleen/engine.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/json.h"

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
  const auto first = Engine::Open(kModel, {.num_threads = 1});
  const auto second = Engine::Open(kModel, {.num_threads = 2, .precision = Precision::kF32});
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
  const auto engine = Engine::Open(kModel);
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
  const auto engine = Engine::Open(kModel);
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

TEST(EngineTest, RefusesWhatItCannotDo) {
  const auto engine = Engine::Open(kModel);
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
  request.prompt_token_ids = {20};
  request.sampling.top_p = 2;
  EXPECT_EQ(code(request), ErrorCode::kInvalidArgument);
  EXPECT_THROW(Engine::Open("/no/such/model"), Error);
  EXPECT_THROW(Engine::Open(kModel, {.isa = "sse9"}), Error);
}

TEST(EngineTest, StopTextsAndLength) {
  const auto engine = Engine::Open(kModel, {.precision = Precision::kF32});
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
