// cli/openai_json.h: answers in the shapes of OpenAI's API, as `run --json` prints them.
//
// Source: the OpenAPI description of /v1/chat/completions and /v1/completions. Beyond it, as vLLM
// does: token_ids and prompt_token_ids in choices[0], reasoning_content in a message.
#ifndef BALEEN_CLI_OPENAI_JSON_H_
#define BALEEN_CLI_OPENAI_JSON_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "baleen/engine.h"
#include "cli/output.h"

namespace baleen {

// What both shapes tell of an answer.
struct AnswerRecord {
  std::vector<int32_t> prompt_token_ids;
  Completion completion;
  std::string content;                   // the text without reasoning
  std::optional<std::string> reasoning;  // unset: this model's answers hold none
  bool with_logprobs = false;
};

// {"object": "chat.completion", ...}
Json ChatCompletionJson(const Engine& engine, const AnswerRecord& answer);

// {"object": "text_completion", ...}
Json TextCompletionJson(const Engine& engine, const AnswerRecord& answer);

// A token as OpenAI shows it: its text, or "bytes:\xe2\x82" when that is not whole characters.
std::string TokenString(const std::string& bytes);

}  // namespace baleen

#endif  // BALEEN_CLI_OPENAI_JSON_H_
