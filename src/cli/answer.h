// cli/answer.h: asks an engine for one answer and shows it while it grows.
#ifndef BALEEN_CLI_ANSWER_H_
#define BALEEN_CLI_ANSWER_H_

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "baleen/engine.h"
#include "server/openai_json.h"

namespace baleen {

// What a prompt becomes: a turn of a chat, or text to go on with.
struct Prompt {
  std::vector<int32_t> token_ids;
  std::optional<EncodedChat> chat;  // set: the answer may hold reasoning
};

// How every answer of this run is made.
struct AnswerOptions {
  Request request;     // all but the prompt
  bool stream = true;  // write the text to standard output as it comes
};

// Waits for the answer. Ctrl-C ends it: then its finish_reason is kCancelled.
// Streamed content goes to standard output; reasoning goes there dimmed if that is a terminal, else
// to standard error. Errors: as Engine::Submit and Generation::Wait.
AnswerRecord Answer(Engine& engine, const Prompt& prompt, const AnswerOptions& options);

}  // namespace baleen

#endif  // BALEEN_CLI_ANSWER_H_
