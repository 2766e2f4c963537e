// server/openai_json.h: answers in the shapes of OpenAI's API, as the server sends them and
// `run --json` prints them.
//
// Source: the OpenAPI description of /v1/chat/completions and /v1/completions. Beyond it, as vLLM
// does: token_ids and prompt_token_ids in choices[0], reasoning_content in a message.
#ifndef BALEEN_SERVER_OPENAI_JSON_H_
#define BALEEN_SERVER_OPENAI_JSON_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "baleen/engine.h"
#include "server/json.h"

namespace baleen {

// What both shapes tell of an answer.
struct AnswerRecord {
  std::vector<int32_t> prompt_token_ids;
  Completion completion;
  std::string content;                   // the text without reasoning
  std::optional<std::string> reasoning;  // unset: this model's answers hold none
  std::vector<ToolCall> tool_calls;
  bool with_logprobs = false;
  bool with_token_ids = true;
  bool is_named_call = false;  // the client chose the function
  // Set: a text completion repeats its prompt, whose text this is; completion.prompt has the
  // logprobs.
  std::optional<std::string> echo;
};

// Whole objects of one choice: {"object": "chat.completion", ...} and "text_completion".
Json ChatCompletionJson(const Engine& engine, const AnswerRecord& answer);
Json TextCompletionJson(const Engine& engine, const AnswerRecord& answer);

// What they are made of, for answers of several choices and for streams.
Json ChatChoiceJson(const Engine& engine, const AnswerRecord& answer, size_t index);
Json TextChoiceJson(const Engine& engine, const AnswerRecord& answer, size_t index);
// {"content": [...], "refusal": null}
Json ChatLogprobsJson(const Engine& engine, const std::vector<GeneratedToken>& tokens);

// The logprobs of a text completion, piece by piece: offsets count characters from the beginning.
class TextLogprobs {
 public:
  // An echoed prompt comes by Take too, from its second token on; the first stands after nothing.
  // (Control tokens are no text.)
  TextLogprobs(const Engine& engine, std::optional<int32_t> first_prompt_token)
      : engine_(engine), first_(first_prompt_token) {}
  Json Take(const std::vector<GeneratedToken>& tokens);

 private:
  size_t CharactersOf(int32_t id, const std::string& bytes) const;
  void AddFirst(int32_t id, Json& json);
  void Add(const GeneratedToken& token, Json& json);

  const Engine& engine_;
  std::optional<int32_t> first_;
  size_t offset_ = 0;
};

struct Usage {
  size_t prompt_tokens = 0;
  size_t cached_tokens = 0;  // of the prompt
  size_t completion_tokens = 0;
  size_t reasoning_tokens = 0;  // of the completion
};
Json UsageJson(const Usage& usage);

const char* FinishReasonName(FinishReason reason);
// Of an answer that holds calls; `is_named`: of the function that the client chose.
const char* FinishReasonName(FinishReason reason, bool has_calls, bool is_named);

// "chatcmpl-" and 24 hexadecimal digits.
std::string NewId(std::string_view prefix);
int64_t UnixSeconds();

// A token as OpenAI shows it: its text, or "bytes:\xe2\x82" when that is not whole characters.
std::string TokenString(const std::string& bytes);

}  // namespace baleen

#endif  // BALEEN_SERVER_OPENAI_JSON_H_
