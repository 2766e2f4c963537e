// server/answer_plan.h: what a client's request asks for, read and checked.
//
// Token path: http -> [answer_plan] -> answer -> Engine::Submit.
// Everything that a client can get wrong is found here, as ApiError 400 with the name of the field;
// lengths against the context, and what the engine itself refuses, too.
#ifndef BALEEN_SERVER_ANSWER_PLAN_H_
#define BALEEN_SERVER_ANSWER_PLAN_H_

#include <optional>
#include <string>
#include <vector>

#include "baleen/engine.h"
#include "server/answer_form.h"
#include "server/fields.h"

namespace baleen {

struct PromptPlan {
  std::vector<int32_t> token_ids;
  std::optional<EncodedChat> chat;  // set: the answer may hold reasoning
  std::optional<std::string> echo;  // set: the answer begins with this text
};

// Every prompt gets num_choices answers.
struct AnswerPlan {
  bool is_chat = false;
  std::vector<PromptPlan> prompts;
  size_t num_choices = 1;
  Request request;  // of each, but for the prompt
  bool stream = false;
  bool stream_usage = false;
  bool with_logprobs = false;
  bool with_token_ids = false;
  AnswerForm form;  // of a chat
};

// Of /v1/chat/completions and /v1/completions.
AnswerPlan PlanChat(const Engine& engine, const Fields& fields);
AnswerPlan PlanCompletion(const Engine& engine, const Fields& fields);

// The conversation in `messages`, and what else makes its prompt.
EncodedChat ReadChat(const Engine& engine, const Fields& fields);

}  // namespace baleen

#endif  // BALEEN_SERVER_ANSWER_PLAN_H_
