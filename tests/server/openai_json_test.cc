#include "server/openai_json.h"

#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "evaluation/fake_engine.h"

namespace baleen {
namespace {

// Tokens of the fake are bytes.
AnswerRecord AnswerOf(std::string_view text) {
  AnswerRecord answer;
  answer.prompt_token_ids = {1, 65};
  answer.content = text;
  for (const char c : text) {
    answer.completion.tokens.push_back(
        {.token_id = static_cast<unsigned char>(c), .logprob = -0.5f, .top = {}});
  }
  return answer;
}

TEST(TokenString, KeepsTextAndSpellsOutBytes) {
  EXPECT_EQ(TokenString("é"), "é");
  EXPECT_EQ(TokenString(""), "");
  EXPECT_EQ(TokenString("\xe4\xb8"), "bytes:\\xe4\\xb8");
  EXPECT_EQ(TokenString("a\xff"), "bytes:\\x61\\xff");
  EXPECT_EQ(TokenString("\xc0\x80"), "bytes:\\xc0\\x80");  // NUL in two bytes is no UTF-8
}

TEST(ChatCompletion, HasTheShapeOfTheApi) {
  const FakeEngine engine;
  AnswerRecord answer = AnswerOf("Hi");
  answer.reasoning = "hm";
  answer.completion.finish_reason = FinishReason::kLength;
  const Json json = ChatCompletionJson(engine, answer);
  EXPECT_EQ(json["object"], "chat.completion");
  EXPECT_EQ(json["model"], "fake");
  EXPECT_EQ(json["id"].get<std::string>().rfind("chatcmpl-", 0), 0u);
  EXPECT_GT(json["created"], 1'700'000'000);
  const Json& choice = json["choices"][0];
  EXPECT_EQ(choice["message"]["role"], "assistant");
  EXPECT_EQ(choice["message"]["content"], "Hi");
  EXPECT_EQ(choice["message"]["reasoning_content"], "hm");
  EXPECT_EQ(choice["finish_reason"], "length");
  EXPECT_TRUE(choice["logprobs"].is_null());
  EXPECT_EQ(choice["token_ids"], Json({72, 105}));
  EXPECT_EQ(choice["prompt_token_ids"], Json({1, 65}));
  EXPECT_EQ(json["usage"].dump(), R"({"prompt_tokens":2,"completion_tokens":2,"total_tokens":4,)"
                                  R"("prompt_tokens_details":{"cached_tokens":0},)"
                                  R"("completion_tokens_details":{"reasoning_tokens":0},)"
                                  R"("prompt_cache_hit_tokens":0,"prompt_cache_miss_tokens":2})");
}

TEST(ChatCompletion, LeavesReasoningOutWhereThereIsNone) {
  const FakeEngine engine;
  const Json json = ChatCompletionJson(engine, AnswerOf("Hi"));
  EXPECT_FALSE(json["choices"][0]["message"].contains("reasoning_content"));
}

TEST(ChatCompletion, ListsLogprobs) {
  const FakeEngine engine;
  AnswerRecord answer = AnswerOf("H");
  answer.with_logprobs = true;
  answer.completion.tokens[0].top = {{72, -0.5f}, {0xe4, -std::numeric_limits<float>::infinity()}};
  const Json content = ChatCompletionJson(engine, answer)["choices"][0]["logprobs"]["content"];
  ASSERT_EQ(content.size(), 1u);
  EXPECT_EQ(content[0].dump(), R"({"token":"H","logprob":-0.5,"bytes":[72],"top_logprobs":[)"
                               R"({"token":"H","logprob":-0.5,"bytes":[72]},)"
                               R"({"token":"bytes:\\xe4","logprob":-9999.0,"bytes":[228]}]})");
}

TEST(TextCompletion, HasTheShapeOfTheApi) {
  const FakeEngine engine;
  AnswerRecord answer = AnswerOf("aé!");
  answer.with_logprobs = true;
  answer.completion.tokens[0].top = {{98, -0.25f}};
  const Json json = TextCompletionJson(engine, answer);
  EXPECT_EQ(json["object"], "text_completion");
  const Json& choice = json["choices"][0];
  EXPECT_EQ(choice["text"], "aé!");
  EXPECT_EQ(choice["finish_reason"], "stop");
  const Json& logprobs = choice["logprobs"];
  EXPECT_EQ(logprobs["tokens"], Json({"a", "bytes:\\xc3", "bytes:\\xa9", "!"}));
  EXPECT_EQ(logprobs["top_logprobs"][0].dump(), R"({"a":-0.5,"b":-0.25})");
  // Characters, not bytes: the second byte of é stands where the next character begins.
  EXPECT_EQ(logprobs["text_offset"], Json({0, 1, 2, 2}));
}

TEST(TextCompletion, GivesWhatAStopTextCutOffThePlaceOfTheEnd) {
  const FakeEngine engine;
  AnswerRecord answer = AnswerOf("abcd");
  answer.content = "ab";
  answer.with_logprobs = true;
  const Json json = TextCompletionJson(engine, answer);
  EXPECT_EQ(json["choices"][0]["logprobs"]["text_offset"], Json({0, 1, 2, 2}));
}

TEST(TextCompletion, EchoesThePrompt) {
  const FakeEngine engine;
  AnswerRecord answer = AnswerOf("c");
  answer.prompt_token_ids = {1, 'a', 'b'};  // 1 is BOS
  answer.echo = "ab";
  answer.with_logprobs = true;
  answer.completion.prompt = {{.token_id = 'a', .logprob = -1, .top = {}},
                              {.token_id = 'b', .logprob = -2, .top = {}}};
  const Json choice = TextCompletionJson(engine, answer)["choices"][0];
  EXPECT_EQ(choice["text"], "abc");
  const Json& logprobs = choice["logprobs"];
  EXPECT_EQ(logprobs["tokens"], Json({"\x01", "a", "b", "c"}));
  EXPECT_EQ(logprobs["token_logprobs"].dump(), "[null,-1.0,-2.0,-0.5]");
  EXPECT_TRUE(logprobs["top_logprobs"][0].is_null());
  EXPECT_EQ(logprobs["text_offset"], Json({0, 0, 1, 2}));
}

}  // namespace
}  // namespace baleen
