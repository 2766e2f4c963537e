#include "server/openai_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <random>

namespace baleen {

namespace {

// JSON has no infinity; OpenAI writes this for a token that is next to impossible.
constexpr float kLeastLogprob = -9999.0f;

// Length of the UTF-8 character that begins the text, 0 if it is not one.
size_t CharacterBytes(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  const size_t length = lead < 0x80   ? 1
                        : lead < 0xc2 ? 0
                        : lead < 0xe0 ? 2
                        : lead < 0xf0 ? 3
                        : lead < 0xf5 ? 4
                                      : 0;
  if (length == 0 || length > text.size()) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xc0) != 0x80) return 0;
  }
  return length;
}

bool IsUtf8(std::string_view text) {
  while (!text.empty()) {
    const size_t length = CharacterBytes(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

// Characters are counted by their first bytes, so a token that ends within one counts right.
size_t CountCharacters(std::string_view bytes) {
  return static_cast<size_t>(std::ranges::count_if(
      bytes, [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

double FiniteLogprob(float logprob) { return std::max(logprob, kLeastLogprob); }

// Whole objects, as their only choice's answer has them.
Json Envelope(const Engine& engine, std::string_view id_prefix, std::string_view object,
              Json choice, const AnswerRecord& answer) {
  Json usage = UsageJson({.prompt_tokens = answer.prompt_token_ids.size(),
                          .cached_tokens = answer.completion.cached_tokens,
                          .completion_tokens = answer.completion.tokens.size()});
  return {{"id", NewId(id_prefix)},
          {"object", object},
          {"created", UnixSeconds()},
          {"model", engine.info().name},
          {"choices", Json::array({std::move(choice)})},
          {"usage", std::move(usage)}};
}

void AddEnd(const AnswerRecord& answer, Json& choice) {
  choice["finish_reason"] = FinishReasonName(answer.completion.finish_reason,
                                             !answer.tool_calls.empty(), answer.is_named_call);
  if (!answer.with_token_ids) return;
  Json ids = Json::array();
  for (const GeneratedToken& token : answer.completion.tokens) ids.push_back(token.token_id);
  choice["token_ids"] = std::move(ids);
  choice["prompt_token_ids"] = answer.prompt_token_ids;
}

Json ChatToken(const Engine& engine, int32_t id, float logprob) {
  const std::string bytes = engine.TokenBytes(id);
  return {{"token", TokenString(bytes)},
          {"logprob", FiniteLogprob(logprob)},
          {"bytes", std::vector<uint8_t>(bytes.begin(), bytes.end())}};
}

// The first of the answer's tokens in its logprobs: what is echoed, it echoes too.
std::optional<int32_t> FirstToken(const AnswerRecord& answer) {
  if (!answer.echo) return std::nullopt;
  return answer.prompt_token_ids.at(0);
}

}  // namespace

const char* FinishReasonName(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "abort";
  }
  return "abort";
}

// As OpenAI has it: a function that was forced is no reason of its own.
const char* FinishReasonName(FinishReason reason, bool has_calls, bool is_named) {
  const bool is_call = reason == FinishReason::kStop && has_calls && !is_named;
  return is_call ? "tool_calls" : FinishReasonName(reason);
}

std::string NewId(std::string_view prefix) {
  std::random_device device;
  return fmt::format("{}-{:08x}{:08x}{:08x}", prefix, device(), device(), device());
}

int64_t UnixSeconds() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::seconds>(now).count();
}

Json UsageJson(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}}},
          {"completion_tokens_details", {{"reasoning_tokens", usage.reasoning_tokens}}},
          // As DeepSeek's API has them.
          {"prompt_cache_hit_tokens", usage.cached_tokens},
          {"prompt_cache_miss_tokens", usage.prompt_tokens - usage.cached_tokens}};
}

Json ChatLogprobsJson(const Engine& engine, const std::vector<GeneratedToken>& tokens) {
  Json content = Json::array();
  for (const GeneratedToken& token : tokens) {
    Json entry = ChatToken(engine, token.token_id, token.logprob);
    entry["top_logprobs"] = Json::array();
    for (const TokenLogprob& other : token.top) {
      entry["top_logprobs"].push_back(ChatToken(engine, other.token_id, other.logprob));
    }
    content.push_back(std::move(entry));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

void TextLogprobs::Add(const GeneratedToken& token, Json& json) {
  const std::string bytes = engine_.TokenBytes(token.token_id);
  json["tokens"].push_back(TokenString(bytes));
  json["token_logprobs"].push_back(FiniteLogprob(token.logprob));
  // The chosen token is among them even when others were more likely.
  Json alternatives = {{TokenString(bytes), FiniteLogprob(token.logprob)}};
  for (const TokenLogprob& other : token.top) {
    alternatives[TokenString(engine_.TokenBytes(other.token_id))] = FiniteLogprob(other.logprob);
  }
  json["top_logprobs"].push_back(std::move(alternatives));
  json["text_offset"].push_back(offset_);
  offset_ += CharactersOf(token.token_id, bytes);
}

size_t TextLogprobs::CharactersOf(int32_t id, const std::string& bytes) const {
  const bool is_text =
      id != engine_.info().bos_token_id && !engine_.Decode(std::span(&id, 1)).empty();
  return is_text ? CountCharacters(bytes) : 0;
}

void TextLogprobs::AddFirst(int32_t id, Json& json) {
  const std::string bytes = engine_.TokenBytes(id);
  json["tokens"].push_back(TokenString(bytes));
  json["token_logprobs"].push_back(nullptr);
  json["top_logprobs"].push_back(nullptr);
  json["text_offset"].push_back(offset_);
  offset_ += CharactersOf(id, bytes);
}

Json TextLogprobs::Take(const std::vector<GeneratedToken>& tokens) {
  Json json = {{"tokens", Json::array()},
               {"token_logprobs", Json::array()},
               {"top_logprobs", Json::array()},
               {"text_offset", Json::array()}};
  if (first_) AddFirst(*std::exchange(first_, std::nullopt), json);
  for (const GeneratedToken& token : tokens) Add(token, json);
  return json;
}

Json ChatChoiceJson(const Engine& engine, const AnswerRecord& answer, size_t index) {
  Json message = {{"role", "assistant"}, {"content", answer.content}, {"refusal", nullptr}};
  if (answer.reasoning) message["reasoning_content"] = *answer.reasoning;
  if (!answer.tool_calls.empty()) {
    if (answer.content.empty()) message["content"] = nullptr;
    Json calls = Json::array();
    for (const ToolCall& call : answer.tool_calls) {
      calls.push_back({{"id", call.id},
                       {"type", "function"},
                       {"function", {{"name", call.name}, {"arguments", call.arguments_json}}}});
    }
    message["tool_calls"] = std::move(calls);
  }
  Json choice = {{"index", index}, {"message", std::move(message)}, {"logprobs", nullptr}};
  if (answer.with_logprobs) choice["logprobs"] = ChatLogprobsJson(engine, answer.completion.tokens);
  AddEnd(answer, choice);
  return choice;
}

Json TextChoiceJson(const Engine& engine, const AnswerRecord& answer, size_t index) {
  const std::string text = answer.echo.value_or("") + answer.content;
  Json choice = {{"index", index}, {"text", text}, {"logprobs", nullptr}};
  if (answer.with_logprobs) {
    std::vector<GeneratedToken> tokens;
    if (answer.echo) tokens = answer.completion.prompt;
    tokens.insert(tokens.end(), answer.completion.tokens.begin(), answer.completion.tokens.end());
    Json logprobs = TextLogprobs(engine, FirstToken(answer)).Take(tokens);
    // What a stop text cut off has no place in the text.
    const size_t num_characters = CountCharacters(text);
    for (Json& offset : logprobs["text_offset"]) {
      offset = std::min(offset.get<size_t>(), num_characters);
    }
    choice["logprobs"] = std::move(logprobs);
  }
  AddEnd(answer, choice);
  return choice;
}

Json ChatCompletionJson(const Engine& engine, const AnswerRecord& answer) {
  return Envelope(engine, "chatcmpl", "chat.completion", ChatChoiceJson(engine, answer, 0), answer);
}

Json TextCompletionJson(const Engine& engine, const AnswerRecord& answer) {
  return Envelope(engine, "cmpl", "text_completion", TextChoiceJson(engine, answer, 0), answer);
}

std::string ToText(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string TokenString(const std::string& bytes) {
  if (IsUtf8(bytes)) return bytes;
  std::string shown = "bytes:";
  for (const char byte : bytes) shown += fmt::format("\\x{:02x}", static_cast<uint8_t>(byte));
  return shown;
}

}  // namespace baleen
