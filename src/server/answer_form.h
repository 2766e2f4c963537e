// server/answer_form.h: the form that a chat's answer must have: `response_format` and tools.
#ifndef BALEEN_SERVER_ANSWER_FORM_H_
#define BALEEN_SERVER_ANSWER_FORM_H_

#include <memory>
#include <string>
#include <vector>

#include "baleen/engine.h"
#include "server/fields.h"
#include "server/tool_calls.h"

namespace baleen {

struct AnswerForm {
  std::shared_ptr<const Grammar> grammar;  // null: any text
  bool has_tools = false;                  // the answer may hold calls, in this format:
  ToolCallFormat tool_call_format = ToolCallFormat::kNone;
  bool is_named = false;  // the client chose the function
};

// Reads them and compiles the grammar that holds an answer to `chat` to them, behind its reasoning.
// ApiError 400 for a schema that is broken, or under `strict` has a constraint that cannot be kept.
AnswerForm ReadAnswerForm(const Engine& engine, const Fields& fields, const EncodedChat& chat);

}  // namespace baleen

#endif  // BALEEN_SERVER_ANSWER_FORM_H_
