// The server as its clients meet it: the bundled model, and the same model with a published chat
// template, behind real sockets.
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "base/random.h"
#include "base/sanitized_testing.h"
#include "cli/program.h"
#include "server/client_testing.h"
#include "server/keys.h"
#include "server/server.h"

namespace baleen {
namespace {

using Json = nlohmann::ordered_json;
using cli_test::StoriesModel;
using std::chrono::milliseconds;

// One of each for all tests: opening takes time under sanitizers.
Engine& Stories() {
  static const std::unique_ptr<Engine> engine =
      Engine::Open(StoriesModel(), {.prefix_reuse = PrefixReuse::kExact});
  return *engine;
}
Engine& ChatModel() {
  static const cli_test::ScratchDirectory directory;
  static const std::unique_ptr<Engine> engine = [] {
    cli_test::MakeChatModel(directory.path(), cli_test::GoldenTemplate("deepseek-r1-0528"));
    return Engine::Open(directory.path(), {.prefix_reuse = PrefixReuse::kExact});
  }();
  return *engine;
}

ServerOptions OnAnyPort() {
  ServerOptions options;
  options.http.port = 0;
  options.model_names = {"tiny", "alias"};
  return options;
}

struct Reply {
  int status = 0;
  Json body;
};

Reply Post(uint16_t port, const std::string& path, const Json& body) {
  TestClient client(port);
  const TestResponse response = client.Post(path, body.dump());
  return {response.status, Json::parse(response.body)};
}

// The objects of a stream, without [DONE], which must be there.
std::vector<Json> Events(const TestResponse& response) {
  std::vector<Json> events;
  EXPECT_NE(response.head.find("text/event-stream"), std::string::npos);
  std::istringstream lines(response.body);
  std::string line;
  bool done = false;
  while (std::getline(lines, line)) {
    if (line.empty() || line[0] == ':') continue;
    EXPECT_FALSE(done);
    EXPECT_EQ(line.substr(0, 6), "data: ");
    line.erase(0, 6);
    if (line == "[DONE]") {
      done = true;
    } else {
      events.push_back(Json::parse(line));
    }
  }
  EXPECT_TRUE(done);
  return events;
}

template <typename Condition>
bool Eventually(Condition condition) {
  for (int i = 0; i < 10'000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(milliseconds(1));
  }
  return false;
}

const Json kStory = {{"model", "tiny"}, {"prompt", "Once upon a time"}, {"temperature", 0}};

Json With(Json base, const Json& more) {
  base.update(more);
  return base;
}

class ServingTest : public testing::Test {
 protected:
  Server stories_{Stories(), OnAnyPort()};
  Server chat_{ChatModel(), OnAnyPort()};
  const uint16_t port_ = stories_.port();
};

TEST_F(ServingTest, ListsItsModels) {
  TestClient client(port_);
  const Json list = Json::parse(client.Get("/v1/models").body);
  EXPECT_EQ(list["object"], "list");
  ASSERT_EQ(list["data"].size(), 2u);
  EXPECT_EQ(list["data"][0]["id"], "tiny");
  EXPECT_EQ(list["data"][1]["root"], "tiny");
  EXPECT_EQ(list["data"][0]["max_model_len"], 512);
  EXPECT_EQ(Json::parse(client.Get("/models/alias/").body)["id"], "alias");
  EXPECT_EQ(client.Get("/v1/models/other").status, 404);
  EXPECT_EQ(client.Get("/health").status, 200);
  EXPECT_EQ(client.Get("/../../etc/passwd").status, 404);
  const auto refused = client.Get("/v1/completions");
  EXPECT_EQ(refused.status, 405);
  EXPECT_EQ(Json::parse(refused.body)["error"]["type"], "invalid_request_error");
  EXPECT_EQ(Json::parse(refused.body)["error"]["code"], "method_not_supported");
}

TEST_F(ServingTest, CompletesAText) {
  const Reply reply = Post(port_, "/v1/completions", With(kStory, {{"max_tokens", 8}}));
  ASSERT_EQ(reply.status, 200) << reply.body;
  EXPECT_EQ(reply.body["object"], "text_completion");
  EXPECT_EQ(reply.body["model"], "tiny");
  const Json& choice = reply.body["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "length");
  // What the engine says of the same prompt.
  Request request;
  request.prompt_token_ids = Stories().Encode("Once upon a time");
  request.max_tokens = 8;
  EXPECT_EQ(choice["text"], Stories().Submit(request)->Wait().text);
  EXPECT_EQ(reply.body["usage"]["prompt_tokens"], request.prompt_token_ids.size());
  EXPECT_EQ(reply.body["usage"]["completion_tokens"], 8);
  // 16 tokens unless the client says something.
  EXPECT_EQ(Post(port_, "/v1/completions", With(kStory, {{"ignore_eos", true}}))
                .body["usage"]["completion_tokens"],
            16);
}

TEST_F(ServingTest, ChatNeedsATemplate) {
  const Json request = {{"messages", {{{"role", "user"}, {"content", "hi"}}}}, {"max_tokens", 5}};
  const Reply refused = Post(port_, "/v1/chat/completions", request);
  EXPECT_EQ(refused.status, 400);
  EXPECT_NE(refused.body["error"]["message"].get<std::string>().find("no chat template"),
            std::string::npos);
  EXPECT_EQ(refused.body["error"]["param"], "messages");
  const Reply reply = Post(chat_.port(), "/v1/chat/completions", request);
  ASSERT_EQ(reply.status, 200) << reply.body;
  EXPECT_EQ(reply.body["object"], "chat.completion");
  const Json& message = reply.body["choices"][0]["message"];
  EXPECT_EQ(message["role"], "assistant");
  EXPECT_TRUE(message["reasoning_content"].is_string());
  EXPECT_EQ(reply.body["usage"]["completion_tokens"], 5);
}

// Whatever is asked for, the pieces of the stream together are the whole answer.
TEST_F(ServingTest, StreamingEqualsNonStreaming) {
  const std::vector<Json> texts = {
      {{"max_tokens", 40}},
      {{"max_tokens", 40}, {"stop", {"the", "and"}}},
      {{"max_tokens", 12}, {"logprobs", 3}},
      {{"max_tokens", 12}, {"logprobs", 1}, {"echo", true}},
      {{"max_tokens", 5}, {"echo", true}},
      {{"max_tokens", 0}, {"logprobs", 1}, {"echo", true}},
      {{"max_tokens", 12}, {"n", 3}, {"temperature", 1}, {"seed", 5}},
      {{"max_tokens", 9}, {"prompt", {"One day", "The cat"}}, {"n", 2}, {"seed", 1}},
      {{"max_tokens", 9}, {"prompt", {5}}, {"logprobs", 0}, {"echo", true}},
  };
  for (const Json& extra : texts) {
    const Json request = With(kStory, extra);
    const Reply whole = Post(port_, "/v1/completions", request);
    ASSERT_EQ(whole.status, 200) << whole.body;
    TestClient client(port_);
    const std::vector<Json> events = Events(client.Post(
        "/v1/completions",
        With(request, {{"stream", true}, {"stream_options", {{"include_usage", true}}}}).dump()));
    std::vector<Json> choices(whole.body["choices"].size());
    for (size_t i = 0; i < choices.size(); ++i) {
      choices[i] = {{"index", i}, {"text", ""}, {"logprobs", nullptr}, {"finish_reason", nullptr}};
    }
    for (size_t i = 0; i + 1 < events.size(); ++i) {
      EXPECT_TRUE(events[i].at("usage").is_null());
      const Json& piece = events[i]["choices"][0];
      Json& choice = choices.at(piece["index"]);
      EXPECT_TRUE(choice["finish_reason"].is_null()) << "after the end: " << piece;
      choice["text"] = choice["text"].get<std::string>() + piece["text"].get<std::string>();
      choice["finish_reason"] = piece["finish_reason"];
      if (piece["logprobs"].is_null()) continue;
      for (const auto& [name, values] : piece["logprobs"].items()) {
        Json& all = choice["logprobs"][name];
        if (all.is_null()) all = Json::array();
        all.insert(all.end(), values.begin(), values.end());
      }
    }
    for (size_t i = 0; i < choices.size(); ++i) {
      EXPECT_EQ(choices[i], whole.body["choices"][i]) << extra;
    }
    Json usage = events.back()["usage"], expected = whole.body["usage"];
    EXPECT_TRUE(events.back()["choices"].empty());
    EXPECT_EQ(usage["completion_tokens"], expected["completion_tokens"]);
    EXPECT_EQ(usage["prompt_tokens"], expected["prompt_tokens"]);
  }
}

TEST_F(ServingTest, ChatStreamsReasoningApart) {
  Json request = {{"messages", {{{"role", "user"}, {"content", "Tell me a story."}}}},
                  {"max_tokens", 30},
                  {"temperature", 0},
                  {"logprobs", true},
                  {"top_logprobs", 2}};
  const Reply whole = Post(chat_.port(), "/v1/chat/completions", request);
  ASSERT_EQ(whole.status, 200) << whole.body;
  request["stream"] = true;
  TestClient client(chat_.port());
  const std::vector<Json> events = Events(client.Post("/v1/chat/completions", request.dump()));
  EXPECT_EQ(events[0]["object"], "chat.completion.chunk");
  EXPECT_EQ(events[0]["choices"][0]["delta"]["role"], "assistant");
  std::string content, reasoning;
  size_t num_logprobs = 0;
  for (const Json& event : events) {
    EXPECT_EQ(event["id"], events[0]["id"]);
    EXPECT_FALSE(event.contains("usage"));
    const Json& choice = event["choices"][0];
    content += choice["delta"].value("content", "");
    reasoning += choice["delta"].value("reasoning_content", "");
    if (!choice["logprobs"].is_null()) num_logprobs += choice["logprobs"]["content"].size();
  }
  const Json& choice = whole.body["choices"][0];
  EXPECT_EQ(content, choice["message"]["content"]);
  EXPECT_EQ(reasoning, choice["message"]["reasoning_content"]);
  EXPECT_EQ(num_logprobs, choice["logprobs"]["content"].size());
  EXPECT_EQ(choice["logprobs"]["content"][0]["top_logprobs"].size(), 2u);
  EXPECT_EQ(events.back()["choices"][0]["finish_reason"], choice["finish_reason"]);
}

// The score of a text by echo and logprobs is the one that the engine's own scorer gives.
TEST_F(ServingTest, EchoScoresAPrompt) {
  const std::string text = "The little dog ran to the park.";
  const Reply reply = Post(port_, "/v1/completions",
                           {{"prompt", text}, {"echo", true}, {"logprobs", 1}, {"max_tokens", 0}});
  ASSERT_EQ(reply.status, 200) << reply.body;
  const Json& choice = reply.body["choices"][0];
  EXPECT_EQ(choice["text"], text);
  const std::vector<int32_t> ids = Stories().Encode(text);
  const Score score = Stories().ScoreTokens({.token_ids = ids});
  const Json& logprobs = choice["logprobs"]["token_logprobs"];
  ASSERT_EQ(logprobs.size(), ids.size());
  EXPECT_TRUE(logprobs[0].is_null());
  for (size_t i = 1; i < ids.size(); ++i) {
    EXPECT_NEAR(logprobs[i].get<double>(), score.logprobs[i - 1], 1e-5);
  }
  EXPECT_EQ(reply.body["usage"]["completion_tokens"], 0);
}

TEST_F(ServingTest, TokenizesAndBack) {
  const Reply ids = Post(port_, "/tokenize", {{"prompt", "Once upon a time"}});
  EXPECT_EQ(ids.body["tokens"], Json(Stories().Encode("Once upon a time")));
  EXPECT_EQ(ids.body["count"], ids.body["tokens"].size());
  const Reply bare =
      Post(port_, "/tokenize", {{"prompt", "Once upon a time"}, {"add_special_tokens", false}});
  EXPECT_EQ(Post(port_, "/detokenize", {{"tokens", bare.body["tokens"]}}).body["prompt"],
            "Once upon a time");
  // A control string in a prompt is one token, and a client's BOS is not doubled.
  const Reply again = Post(port_, "/tokenize", {{"prompt", "<｜begin▁of▁sentence｜>Once"}});
  EXPECT_EQ(again.body["tokens"], Json(Stories().Encode("Once")));
  EXPECT_EQ(Post(port_, "/detokenize", {{"tokens", {1 << 30}}}).status, 400);
}

TEST_F(ServingTest, WhatIsWrongIsNamed) {
  const std::vector<std::pair<Json, std::string>> cases = {
      {{{"prompt", 5}}, "prompt"},
      {{{"prompt", Json::array()}}, "prompt"},
      {{{"prompt", ""}, {"add_special_tokens", false}}, "prompt"},
      {{{"prompt", {1, "a"}}}, "prompt"},
      {{{"prompt", {4096}}}, "prompt"},
      {{{"prompt", {-1}}}, "prompt"},
      {{{"max_tokens", "many"}}, "max_tokens"},
      {{{"max_tokens", -1}}, "max_tokens"},
      {{{"max_tokens", 1.5}}, "max_tokens"},
      {{{"max_tokens", 512}}, "prompt"},  // with the prompt: more than the context
      {{{"temperature", 3}}, "temperature"},
      {{{"temperature", true}}, "temperature"},
      {{{"top_p", -0.1}}, "top_p"},
      {{{"n", 0}}, "n"},
      {{{"n", 1000}}, "n"},
      {{{"stop", 5}}, "stop"},
      {{{"stop", {"a", 5}}}, "stop"},
      {{{"stop", ""}}, "stop"},
      {{{"stop", std::vector<std::string>(17, "x")}}, "stop"},
      {{{"logit_bias", {{"x", 1}}}}, "logit_bias"},
      {{{"logit_bias", {{"5", 101}}}}, "logit_bias"},
      {{{"logit_bias", {{"5000", 1}}}}, "logit_bias"},
      {{{"logprobs", 21}}, "logprobs"},
      {{{"stream", "yes"}}, "stream"},
      {{{"stream_options", 1}}, "stream_options"},
      {{{"seed", "x"}}, "seed"},
      {{{"suffix", "end"}}, "suffix"},
      {{{"priority", "first"}}, "priority"},
  };
  for (const auto& [extra, param] : cases) {
    const Reply reply = Post(port_, "/v1/completions", With(kStory, extra));
    EXPECT_EQ(reply.status, 400) << extra;
    EXPECT_EQ(reply.body["error"]["param"], param) << reply.body;
    EXPECT_EQ(reply.body["error"]["type"], "invalid_request_error");
  }
  const Json hi = {{{"role", "user"}, {"content", "hi"}}};
  const std::vector<std::pair<Json, std::string>> chats = {
      {{{"messages", "hi"}}, "messages"},
      {{{"messages", Json::array()}}, "messages"},
      {{{"messages", {5}}}, "messages"},
      {{{"messages", {{{"content", "hi"}}}}}, "messages[0].role"},
      {{{"messages", {{{"role", "robot"}, {"content", "hi"}}}}}, "messages[0].role"},
      {{{"messages", {{{"role", "user"}, {"content", 5}}}}}, "messages[0].content"},
      {{{"messages",
         {{{"role", "user"}, {"content", {{{"type", "image_url"}, {"image_url", "x"}}}}}}}},
       "messages[0].content"},
      {{{"messages", hi}, {"top_logprobs", 3}}, "top_logprobs"},
      {{{"messages", hi}, {"response_format", {{"type", "xml"}}}}, "response_format.type"},
      {{{"messages", hi}, {"tools", {{{"type", "function"}}}}}, "tools[0].function"},
      {{{"messages", hi}, {"thinking", {{"type", "maybe"}}}}, "thinking.type"},
  };
  for (const auto& [request, param] : chats) {
    const Reply reply = Post(chat_.port(), "/v1/chat/completions", request);
    EXPECT_EQ(reply.status, 400) << request;
    EXPECT_EQ(reply.body["error"]["param"], param) << reply.body;
  }
  const Reply too_long = Post(port_, "/v1/completions", With(kStory, {{"max_tokens", 510}}));
  EXPECT_EQ(too_long.body["error"]["code"], "context_length_exceeded");
  const Reply other = Post(port_, "/v1/completions", With(kStory, {{"model", "gpt-4"}}));
  EXPECT_EQ(other.status, 404);
  EXPECT_EQ(other.body["error"]["code"], "model_not_found");
  // Nobody's business: fields that we do not know, and null for what has a default.
  EXPECT_EQ(Post(port_, "/v1/completions",
                 With(kStory, {{"store", true},
                               {"user", "me"},
                               {"stop", nullptr},
                               {"max_tokens", 1},
                               {"top_k", -1}}))
                .status,
            200);
}

TEST_F(ServingTest, BytesThatAreNoJsonAreRefused) {
  std::string deep(100'000, '[');
  for (const std::string& body :
       {std::string(), std::string("{"), std::string("[]"), std::string("null"), deep,
        "{\"prompt\":" + deep, std::string("{\"prompt\":\"\xff\xfe\"}"),
        std::string("{\"prompt\":\"\\ud800\"}"), std::string("{\"prompt\":\"a\",}"),
        std::string("{\"max_tokens\":1e999,\"prompt\":\"a\"}"), std::string("\0\0", 2)}) {
    TestClient client(port_);
    const TestResponse response = client.Post("/v1/completions", body);
    EXPECT_EQ(response.status, 400) << body.substr(0, 50);
    EXPECT_TRUE(Json::parse(response.body)["error"]["message"].is_string());
  }
}

// Bytes changed, cut out and doubled in requests that are right: always an answer, never a crash.
TEST_F(ServingTest, MutatedRequestsAreAnswered) {
  const std::vector<std::pair<std::string, std::string>> seeds = {
      {"/v1/completions", With(kStory, {{"max_tokens", 1},
                                        {"logprobs", 1},
                                        {"echo", true},
                                        {"logit_bias", {{"5", 1}}},
                                        {"stop", {"a"}},
                                        {"n", 2}})
                              .dump()},
      {"/v1/completions", Json({{"prompt", {{1, 2}, {3}}}, {"max_tokens", 1}}).dump()},
      {"/tokenize", Json({{"prompt", "a"}}).dump()},
      {"/detokenize", Json({{"tokens", {1, 2}}}).dump()},
      {"/v1/chat/completions",
       Json({{"messages", {{{"role", "user"}, {"content", {{{"type", "text"}, {"text", "a"}}}}}}},
             {"max_tokens", 1},
             {"chat_template_kwargs", {{"thinking", true}}}})
           .dump()},
  };
  Random random(11);
  std::map<int, int> statuses;
  auto client = std::make_unique<TestClient>(chat_.port());
  const int count = kSanitized ? 100 : 400;
  for (int i = 0; i < count; ++i) {
    const auto& [path, valid] = seeds[random.Below(seeds.size())];
    std::string body = valid;
    for (uint64_t changes = 1 + random.Below(3); changes > 0 && !body.empty(); --changes) {
      const size_t at = random.Below(body.size());
      switch (random.Below(4)) {
        case 0:
          body[at] = static_cast<char>(random.Below(256));
          break;
        case 1:
          body.erase(at, 1 + random.Below(8));
          break;
        case 2:
          body.insert(at, body.substr(random.Below(body.size()), random.Below(12)));
          break;
        default:
          body.insert(at, 1, "{}[]\",:0123456789-.e"[random.Below(20)]);
      }
    }
    const TestResponse response = client->Post(path, body);
    ++statuses[response.status];
    EXPECT_TRUE(response.status == 200 || response.status == 400 || response.status == 404)
        << response.status << " for " << body;
    EXPECT_TRUE(Json::accept(response.body));
  }
  EXPECT_GT(statuses[200], count / 80);
  EXPECT_GT(statuses[400], count / 4);
}

// What is left of clients that went away in the middle: nothing.
TEST_F(ServingTest, NothingIsLeftOfClientsThatLeave) {
  const auto count_threads = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/task"), {});
  };
  const auto count_files = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
  };
  const Json endless =
      With(kStory, {{"max_tokens", 400}, {"ignore_eos", true}, {"temperature", 1}});
  const auto threads = count_threads(), files = count_files();
  for (int i = 0; i < 100; ++i) {
    TestClient client(port_);
    client.StartPost("/v1/completions", With(endless, {{"stream", i % 2 == 0}}).dump());
    if (i % 4 == 0) client.ReadUntil("data: ");
  }
  EXPECT_TRUE(Eventually([&] {
    const EngineStats stats = Stories().Stats();
    return stats.running_requests + stats.waiting_requests == 0 && stats.cache_used_tokens == 0 &&
           stories_.http().num_connections() == 0 && stories_.http().num_exchanges() == 0;
  }));
  EXPECT_EQ(count_threads(), threads);
  EXPECT_EQ(count_files(), files);
}

TEST_F(ServingTest, PrefixesAreReusedAndToldOf) {
  std::string prompt;
  for (int i = 0; i < 20; ++i) prompt += "The cat and the dog went to see the big red house. ";
  const Json request = {{"prompt", prompt}, {"max_tokens", 1}, {"cache_salt", "this test"}};
  const Reply first = Post(port_, "/v1/completions", request);
  ASSERT_EQ(first.status, 200) << first.body;
  EXPECT_EQ(first.body["usage"]["prompt_cache_hit_tokens"], 0);
  const Json usage = Post(port_, "/v1/completions", request).body["usage"];
  const size_t prompt_tokens = usage["prompt_tokens"];
  EXPECT_EQ(usage["prompt_tokens_details"]["cached_tokens"], (prompt_tokens - 1) / 64 * 64);
  EXPECT_EQ(usage["prompt_cache_hit_tokens"], usage["prompt_tokens_details"]["cached_tokens"]);
  EXPECT_EQ(usage["prompt_cache_hit_tokens"].get<size_t>() +
                usage["prompt_cache_miss_tokens"].get<size_t>(),
            prompt_tokens);
}

TEST_F(ServingTest, StreamsUnderLoadSayTheSame) {
  std::vector<Json> requests;
  for (const char* text : {"Once upon a time", "The cat", "One day a boy", "Lily had a"}) {
    requests.push_back({{"prompt", text}, {"max_tokens", 60}, {"temperature", 0}});
  }
  std::vector<std::string> alone;
  for (const Json& request : requests) {
    alone.push_back(Post(port_, "/v1/completions", request).body["choices"][0]["text"]);
  }
  std::vector<std::thread> clients;
  std::vector<std::string> together(16);
  for (size_t i = 0; i < together.size(); ++i) {
    clients.emplace_back([&, i] {
      TestClient client(port_);
      const Json request = With(requests[i % requests.size()], {{"stream", true}});
      for (const Json& event : Events(client.Post("/v1/completions", request.dump()))) {
        together[i] += event["choices"][0]["text"].get<std::string>();
      }
    });
  }
  for (std::thread& client : clients) client.join();
  for (size_t i = 0; i < together.size(); ++i) EXPECT_EQ(together[i], alone[i % alone.size()]);
}

TEST_F(ServingTest, WebPagesOfOthersAreRefused) {
  TestClient client(port_);
  EXPECT_EQ(client.Get("/v1/models", "Origin: https://example.org\r\n").status, 403);
  EXPECT_EQ(client.Get("/v1/models", "Origin: http://test\r\n").status, 200);  // its own
  ServerOptions options = OnAnyPort();
  options.allowed_origins = {"https://example.org"};
  Server open(Stories(), options);
  TestClient other(open.port());
  const TestResponse response = other.Get("/v1/models", "Origin: https://example.org\r\n");
  EXPECT_EQ(response.status, 200);
  EXPECT_NE(response.head.find("Access-Control-Allow-Origin: https://example.org"),
            std::string::npos);
  other.Send("OPTIONS /v1/models HTTP/1.1\r\nHost: a\r\nOrigin: https://example.org\r\n\r\n");
  EXPECT_NE(other.ReadUntil("\r\n\r\n").find("204"), std::string::npos);
}

// Constraints that are left out are told in the log as in the header.
TEST(ServingLog, SaysWhatIsIgnored) {
  std::vector<std::string> lines;
  std::string head;
  {
    ServerOptions options = OnAnyPort();
    options.log = [&](const std::string& line) { lines.push_back(line); };
    Server server(ChatModel(), options);
    const Json schema = {{"type", "object"}, {"not", {{"required", {"a"}}}}};
    const Json body = {
        {"messages", {{{"role", "user"}, {"content", "Hello"}}}},
        {"max_tokens", 1},
        {"store", true},
        {"response_format", {{"type", "json_schema"}, {"json_schema", {{"schema", schema}}}}}};
    head = TestClient(server.port()).Post("/v1/chat/completions", body.dump()).head;
  }
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(Json::parse(lines[0])["ignored"], Json({"store", "not at #"})) << lines[0];
  EXPECT_NE(head.find("X-Baleen-Ignored: not at #"), std::string::npos) << head;
}

TEST(ServingDrain, AnswersEndAndNewOnesAreRefused) {
  Server server(Stories(), OnAnyPort());
  TestClient client(server.port());
  client.StartPost("/v1/completions",
                   With(kStory, {{"max_tokens", 30}, {"ignore_eos", true}}).dump());
  ASSERT_TRUE(Eventually([] { return Stories().Stats().running_requests > 0; }));
  EXPECT_TRUE(server.Drain(milliseconds(20'000)));
  EXPECT_EQ(Json::parse(client.Receive().body)["usage"]["completion_tokens"], 30);
  EXPECT_THROW(TestClient(server.port()), std::runtime_error);
}

// A key is asked for as soon as there is one; what it uses is counted under its name.
TEST(ServingKeys, AreAskedForAndCharged) {
  const cli_test::ScratchDirectory directory;
  ServerOptions options = OnAnyPort();
  options.database = directory.path() + "/baleen.db";
  Server server(Stories(), options);
  TestClient client(server.port());
  EXPECT_EQ(client.Get("/v1/models").status, 200);

  KeyStore keys(options.database);
  const std::string alice =
      "Authorization: Bearer " +
      keys.Add("alice", {.requests_per_minute = 2, .tokens_per_minute = 1000}) + "\r\n";
  const std::string bob = "x-api-key: " + keys.Add("bob", {}) + "\r\n";
  ASSERT_TRUE(Eventually([&] { return client.Get("/v1/models").status == 401; }));
  EXPECT_EQ(client.Get("/health").status, 200);
  EXPECT_EQ(client.Get("/metrics").status, 401);
  EXPECT_EQ(client.Get("/v1/models", "Authorization: Bearer bk-0\r\n").status, 401);
  EXPECT_EQ(client.Get("/v1/models", alice).status, 200);
  // Refused before its body is read, however large it says it is.
  TestClient stranger(server.port());
  stranger.Send("POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
  EXPECT_EQ(stranger.Receive().status, 401);

  const std::string body = With(kStory, {{"max_tokens", 3}, {"ignore_eos", true}}).dump();
  const TestResponse first = client.Post("/v1/completions", body, alice);
  EXPECT_EQ(first.status, 200) << first.body;
  EXPECT_NE(first.head.find("x-ratelimit-limit-requests: 2"), std::string::npos) << first.head;
  EXPECT_NE(first.head.find("x-ratelimit-remaining-requests: 1"), std::string::npos);
  EXPECT_EQ(client.Post("/v1/completions", body, alice).status, 200);
  TestClient third(server.port());
  const TestResponse refused = third.Post("/v1/completions", body, alice);
  EXPECT_EQ(refused.status, 429);
  const size_t at = refused.head.find("Retry-After: ");
  ASSERT_NE(at, std::string::npos) << refused.head;
  const int wait =
      std::stoi(refused.head.substr(at + 13));  // 30 s after the second of two a minute
  EXPECT_TRUE(wait > 15 && wait <= 30) << refused.head;
  EXPECT_EQ(client.Post("/v1/completions", body, bob).status, 200);

  const Json usage = Json::parse(client.Get("/v1/usage", alice).body)["data"];
  ASSERT_EQ(usage.size(), 1u);
  EXPECT_EQ(usage[0]["key"], "alice");
  EXPECT_EQ(usage[0]["requests"], 2);
  EXPECT_EQ(usage[0]["completion_tokens"], 6);
  EXPECT_EQ(usage[0]["prompt_tokens"], 10);  // BOS and four words, twice

  const std::string metrics = client.Get("/metrics", bob).body;
  for (const char* line :
       {"vllm:request_success_total{engine=\"0\",finished_reason=\"length\",model_name=\"tiny\"} 3",
        "vllm:request_generation_tokens_sum{engine=\"0\",model_name=\"tiny\"} 9",
        "vllm:num_requests_running{engine=\"0\",model_name=\"tiny\"} 0",
        "vllm:time_to_first_token_seconds_count{engine=\"0\",model_name=\"tiny\"} 3"}) {
    EXPECT_NE(metrics.find(line), std::string::npos) << line << "\n" << metrics;
  }
}

// Its first passes ran before the engine refused the next: nobody pays for those.
TEST(ServingLimits, ARequestThatIsRefusedHalfwayIsNotCharged) {
  const cli_test::ScratchDirectory directory;
  const std::unique_ptr<Engine> engine =
      Engine::Open(StoriesModel(), {.max_sequences = 1, .max_waiting_tokens = 100});
  ServerOptions options = OnAnyPort();
  options.database = directory.path() + "/baleen.db";
  Server server(*engine, options);
  Json items = Json::array();
  for (int i = 0; i < 200; ++i) items.push_back(" " + std::to_string(i));
  const Json many = {{"query", "Once upon a time there was"}, {"items", items}, {"labels", {" a"}}};
  EXPECT_EQ(Post(server.port(), "/score", many).status, 429);
  ASSERT_TRUE(Eventually([&] {
    const EngineStats stats = engine->Stats();
    return stats.running_requests == 0 && stats.waiting_requests == 0;
  }));
  // An answer is charged before it is sent, and these are charged in order.
  const Json one = {{"query", "Once upon a time there was"}, {"labels", {" a"}}};
  EXPECT_EQ(Post(server.port(), "/score", one).status, 200);
  const Json usage = Json::parse(TestClient(server.port()).Get("/v1/usage").body)["data"];
  ASSERT_EQ(usage.size(), 1u);
  EXPECT_EQ(usage[0]["requests"], 1);
}

}  // namespace
}  // namespace baleen
