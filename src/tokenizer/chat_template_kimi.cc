// The chat formats of Moonshot: Moonlight and Kimi-K2. Sources: the published templates
// (tests/golden names them); MoonshotAI/Kimi-K2, docs/tool_call_guidance.md, for the ids of calls.
#include <algorithm>
#include <deque>
#include <map>
#include <string>

#include "base/error.h"
#include "tokenizer/chat_template_render.h"
#include "tokenizer/python_json.h"

namespace baleen {
namespace {

// Gives calls and results the ids that the model knows, "functions.NAME:INDEX" with INDEX counting
// over the conversation. Ids already in that form stay; a client's own ids are rewritten, in calls
// and in the results that answer them. A result without an id answers the oldest open call.
class CallIds {
 public:
  std::string OfCall(const ToolCall& call) {
    std::string id =
        IsNative(call) ? call.id : "functions." + call.name + ":" + std::to_string(num_calls_);
    ++num_calls_;
    if (!call.id.empty()) by_client_id_[call.id] = id;
    open_.push_back(id);
    return id;
  }

  std::string OfResult(const ChatMessage& message) {
    if (message.tool_call_id.empty()) {
      if (open_.empty()) {
        Throw(ErrorCode::kInvalidArgument,
              "a tool message without tool_call_id answers no call of the conversation");
      }
      std::string id = open_.front();
      open_.pop_front();
      return id;
    }
    const auto known = by_client_id_.find(message.tool_call_id);
    if (known == by_client_id_.end()) return message.tool_call_id;
    if (const auto at = std::find(open_.begin(), open_.end(), known->second); at != open_.end()) {
      open_.erase(at);
    }
    return known->second;
  }

 private:
  static bool IsNative(const ToolCall& call) {
    const std::string prefix = "functions." + call.name + ":";
    if (!call.id.starts_with(prefix) || call.id.size() == prefix.size()) return false;
    return call.id.find_first_not_of("0123456789", prefix.size()) == std::string::npos;
  }

  size_t num_calls_ = 0;
  std::map<std::string, std::string> by_client_id_;
  std::deque<std::string> open_;
};

void AddCalls(const std::vector<ToolCall>& calls, CallIds& ids, PromptBuilder& prompt) {
  prompt.Markup("<|tool_calls_section_begin|>");
  for (const ToolCall& call : calls) {
    prompt.Markup("<|tool_call_begin|>");
    prompt.Content(ids.OfCall(call));
    prompt.Markup("<|tool_call_argument_begin|>");
    prompt.Content(call.arguments_json);
    prompt.Markup("<|tool_call_end|>");
  }
  prompt.Markup("<|tool_calls_section_end|>");
}

void AddTools(const RenderInput& input, PromptBuilder& prompt) {
  prompt.Markup("<|im_system|>tool_declare<|im_middle|>");
  prompt.Content(input.traits.tools_heading);
  // Moonshot's tokenizer sorts all keys before the template sees them.
  const PythonJsonStyle style{.compact = input.traits.compact_json, .sort_keys = true};
  const std::string_view separator = style.compact ? "," : ", ";
  prompt.Content("[");
  for (size_t i = 0; i < input.tools.size(); ++i) {
    if (i > 0) prompt.Content(separator);
    prompt.Content(PythonJson(input.tools[i], style));
  }
  prompt.Content("]");
  prompt.Markup("<|im_end|>");
}

std::string_view RoleToken(std::string_view role) {
  if (role == "user") return "<|im_user|>";
  if (role == "assistant") return "<|im_assistant|>";
  return "<|im_system|>";
}

// Reasoning is shown only in the turns after the last finished answer.
size_t FirstTurnWithReasoning(std::span<const ChatMessage> messages) {
  for (size_t i = messages.size(); i > 0; --i) {
    if (messages[i - 1].role == "assistant" && messages[i - 1].tool_calls.empty()) return i;
  }
  return 0;
}

}  // namespace

ReasoningStart RenderKimi(const RenderInput& input, ChatFormat format, PromptBuilder& prompt) {
  const bool reasons = format == ChatFormat::kKimiThinking;
  const bool has_calls = reasons || format == ChatFormat::kKimiK2;
  if (!input.tools.empty()) AddTools(input, prompt);
  if (input.messages.front().role != "system") {
    prompt.Markup("<|im_system|>system<|im_middle|>");
    prompt.Content(input.traits.default_system);
    prompt.Markup("<|im_end|>");
    prompt.Content(input.traits.default_system_tail);
  }

  CallIds ids;
  const size_t first_with_reasoning = FirstTurnWithReasoning(input.messages);
  for (size_t i = 0; i < input.messages.size(); ++i) {
    const ChatMessage& message = input.messages[i];
    const bool is_assistant = message.role == "assistant";
    prompt.Markup(RoleToken(message.role));
    prompt.Content(has_calls && !message.name.empty() ? message.name : message.role);
    prompt.Markup("<|im_middle|>");
    if (reasons && is_assistant) {
      prompt.Markup("<think>");
      if (i >= first_with_reasoning) prompt.Content(message.reasoning_content);
      prompt.Markup("</think>");
    }
    if (has_calls && message.role == "tool") {
      prompt.Content("## Return of " + ids.OfResult(message) + "\n");
    }
    prompt.Content(message.content);
    if (has_calls && !message.tool_calls.empty()) AddCalls(message.tool_calls, ids, prompt);
    prompt.Markup("<|im_end|>");
  }
  if (!input.add_generation_prompt) return ReasoningStart::kNone;
  prompt.Markup("<|im_assistant|>assistant<|im_middle|>");
  return reasons ? ReasoningStart::kModelOpens : ReasoningStart::kNone;
}

}  // namespace baleen
