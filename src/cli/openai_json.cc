#include "cli/openai_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
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

std::string NewId(std::string_view prefix) {
  std::random_device device;
  return fmt::format("{}-{:08x}{:08x}{:08x}", prefix, device(), device(), device());
}

Json Envelope(const Engine& engine, std::string_view id_prefix, std::string_view object,
              Json choice, const AnswerRecord& answer) {
  std::vector<int32_t> token_ids;
  for (const GeneratedToken& token : answer.completion.tokens) token_ids.push_back(token.token_id);
  choice["finish_reason"] = FinishReasonName(answer.completion.finish_reason);
  choice["token_ids"] = token_ids;
  choice["prompt_token_ids"] = answer.prompt_token_ids;
  const size_t prompt_tokens = answer.prompt_token_ids.size();
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return {{"id", NewId(id_prefix)},
          {"object", object},
          {"created", std::chrono::duration_cast<std::chrono::seconds>(now).count()},
          {"model", engine.info().name},
          {"choices", Json::array({std::move(choice)})},
          {"usage",
           {{"prompt_tokens", prompt_tokens},
            {"completion_tokens", token_ids.size()},
            {"total_tokens", prompt_tokens + token_ids.size()}}}};
}

Json ChatToken(const Engine& engine, int32_t id, float logprob) {
  const std::string bytes = engine.TokenBytes(id);
  return {{"token", TokenString(bytes)},
          {"logprob", FiniteLogprob(logprob)},
          {"bytes", std::vector<uint8_t>(bytes.begin(), bytes.end())}};
}

Json ChatLogprobs(const Engine& engine, const Completion& completion) {
  Json content = Json::array();
  for (const GeneratedToken& token : completion.tokens) {
    Json entry = ChatToken(engine, token.token_id, token.logprob);
    entry["top_logprobs"] = Json::array();
    for (const TokenLogprob& other : token.top) {
      entry["top_logprobs"].push_back(ChatToken(engine, other.token_id, other.logprob));
    }
    content.push_back(std::move(entry));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

Json TextLogprobs(const Engine& engine, const AnswerRecord& answer) {
  Json tokens = Json::array(), logprobs = Json::array(), top = Json::array(),
       offsets = Json::array();
  const size_t num_characters = CountCharacters(answer.content);
  size_t offset = 0;
  for (const GeneratedToken& token : answer.completion.tokens) {
    const std::string bytes = engine.TokenBytes(token.token_id);
    tokens.push_back(TokenString(bytes));
    logprobs.push_back(FiniteLogprob(token.logprob));
    // The chosen token is among them even when others were more likely.
    Json alternatives = {{TokenString(bytes), FiniteLogprob(token.logprob)}};
    for (const TokenLogprob& other : token.top) {
      alternatives[TokenString(engine.TokenBytes(other.token_id))] = FiniteLogprob(other.logprob);
    }
    top.push_back(std::move(alternatives));
    // What a stop text cut off has no place in the text.
    offsets.push_back(std::min(offset, num_characters));
    offset += CountCharacters(bytes);
  }
  return {{"tokens", std::move(tokens)},
          {"token_logprobs", std::move(logprobs)},
          {"top_logprobs", std::move(top)},
          {"text_offset", std::move(offsets)}};
}

}  // namespace

Json ChatCompletionJson(const Engine& engine, const AnswerRecord& answer) {
  Json message = {{"role", "assistant"}, {"content", answer.content}, {"refusal", nullptr}};
  if (answer.reasoning) message["reasoning_content"] = *answer.reasoning;
  Json logprobs;
  if (answer.with_logprobs) logprobs = ChatLogprobs(engine, answer.completion);
  return Envelope(
      engine, "chatcmpl", "chat.completion",
      {{"index", 0}, {"message", std::move(message)}, {"logprobs", std::move(logprobs)}}, answer);
}

Json TextCompletionJson(const Engine& engine, const AnswerRecord& answer) {
  Json logprobs;
  if (answer.with_logprobs) logprobs = TextLogprobs(engine, answer);
  return Envelope(engine, "cmpl", "text_completion",
                  {{"index", 0}, {"text", answer.content}, {"logprobs", std::move(logprobs)}},
                  answer);
}

std::string TokenString(const std::string& bytes) {
  if (IsUtf8(bytes)) return bytes;
  std::string shown = "bytes:";
  for (const char byte : bytes) shown += fmt::format("\\x{:02x}", static_cast<uint8_t>(byte));
  return shown;
}

}  // namespace baleen
