// The chat formats of DeepSeek. Sources: the published templates themselves (tests/golden names
// them), DeepSeek-V2.5's and V3.1's model cards for the text that declares tools.
#include <algorithm>
#include <string>

#include "tokenizer/chat_template_render.h"
#include "tokenizer/python_json.h"

namespace baleen {
namespace {

constexpr std::string_view kBegin = "<｜begin▁of▁sentence｜>";
constexpr std::string_view kEnd = "<｜end▁of▁sentence｜>";
constexpr std::string_view kUser = "<｜User｜>";
constexpr std::string_view kAssistant = "<｜Assistant｜>";

// All system messages stand first, wherever they were.
std::string SystemText(const RenderInput& input) {
  std::string text;
  bool first = true;
  for (const ChatMessage& message : input.messages) {
    if (message.role != "system") continue;
    if (input.traits.joins_systems && !first) {
      text += "\n\n" + message.content;
    } else {
      text = message.content;
    }
    first = false;
  }
  return text;
}

bool HasSystem(std::span<const ChatMessage> messages) {
  return std::any_of(messages.begin(), messages.end(),
                     [](const ChatMessage& message) { return message.role == "system"; });
}

// V2.5's model card; the templates of V3 and R1 print nothing for tools.
std::string ToolsTextV3(const std::vector<simdjson::dom::element>& tools) {
  std::string text = "## Tools\n\n### Function\n\nYou have the following functions available:\n\n";
  bool first = true;
  for (const simdjson::dom::element& tool : tools) {
    const simdjson::dom::element function = tool["function"];
    if (!first) text += "\n\n";
    first = false;
    text += "- `" + std::string(function["name"].get_string().value()) + "`:\n```json\n" +
            PythonJson(function, {.indent = 4}) + "\n```";
  }
  return text;
}

// V3.1's model card. The call markers in it are the template's own, hence tokens.
void AddToolsV31(const std::vector<simdjson::dom::element>& tools, PromptBuilder& prompt) {
  prompt.Markup("\n\n## Tools\nYou have access to the following tools:\n");
  for (const simdjson::dom::element& tool : tools) {
    const simdjson::dom::element function = tool["function"];
    std::string_view description;
    if (function["description"].get(description) != simdjson::SUCCESS) description = "";
    simdjson::dom::element parameters;
    const bool has_parameters = function["parameters"].get(parameters) == simdjson::SUCCESS;
    prompt.Content("\n### ");
    prompt.Content(function["name"].get_string().value());
    prompt.Content("\nDescription: ");
    prompt.Content(description);
    prompt.Content("\n\nParameters: ");
    prompt.Content(has_parameters ? PythonJson(parameters, {}) : "{}");
    prompt.Content("\n");
  }
  prompt.Markup(
      "\nIMPORTANT: ALWAYS adhere to this exact format for tool use:\n"
      "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>tool_call_name<｜tool▁sep｜>tool_call_arguments"
      "<｜tool▁call▁end｜>{{additional_tool_calls}}<｜tool▁calls▁end｜>\n\n"
      "Where:\n\n"
      "- `tool_call_name` must be an exact match to one of the available tools\n"
      "- `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters "
      "Schema\n"
      "- For multiple tool calls, chain them directly without separators or spaces\n");
}

void AddCallsV3(const std::vector<ToolCall>& calls, PromptBuilder& prompt) {
  prompt.Markup("<｜tool▁calls▁begin｜>");
  for (size_t i = 0; i < calls.size(); ++i) {
    prompt.Markup(i == 0 ? "<｜tool▁call▁begin｜>function<｜tool▁sep｜>"
                         : "\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>");
    prompt.Content(calls[i].name);
    prompt.Markup("\n```json\n");
    prompt.Content(calls[i].arguments_json);
    prompt.Markup("\n```<｜tool▁call▁end｜>");
  }
  prompt.Markup("<｜tool▁calls▁end｜>");
  prompt.Markup(kEnd);
}

void AddCallsV31(const std::vector<ToolCall>& calls, PromptBuilder& prompt) {
  prompt.Markup("<｜tool▁calls▁begin｜>");
  for (const ToolCall& call : calls) {
    prompt.Markup("<｜tool▁call▁begin｜>");
    prompt.Content(call.name);
    prompt.Markup("<｜tool▁sep｜>");
    prompt.Content(call.arguments_json);
    prompt.Markup("<｜tool▁call▁end｜>");
  }
  prompt.Markup("<｜tool▁calls▁end｜>");
  prompt.Markup(kEnd);
}

constexpr std::string_view kThinkEnd = "</think>";

std::string_view AfterFirstThink(std::string_view content) {
  const size_t at = content.find(kThinkEnd);
  return at == std::string_view::npos ? content : content.substr(at + kThinkEnd.size());
}

std::string_view AfterLastThink(std::string_view content) {
  const size_t at = content.rfind(kThinkEnd);
  return at == std::string_view::npos ? content : content.substr(at + kThinkEnd.size());
}

}  // namespace

ReasoningStart RenderDeepSeekV2(const RenderInput& input, PromptBuilder& prompt) {
  prompt.Markup(kBegin);
  for (const ChatMessage& message : input.messages) {
    if (message.role == "assistant") {
      prompt.Markup("Assistant: ");
      prompt.Content(message.content);
      prompt.Markup(kEnd);
      continue;
    }
    if (message.role == "user") prompt.Markup("User: ");
    prompt.Content(message.content);
    prompt.Markup("\n\n");
  }
  if (input.add_generation_prompt) prompt.Markup("Assistant:");
  return ReasoningStart::kNone;
}

ReasoningStart RenderDeepSeekV3(const RenderInput& input, bool reasons, PromptBuilder& prompt) {
  for (const ChatMessage& message : input.messages) {
    if (message.role == "system") prompt.Content(input.traits.system_padding);
  }
  prompt.Markup(kBegin);
  const std::string system = SystemText(input);
  prompt.Content(system);
  if (!input.tools.empty()) {
    if (!system.empty()) prompt.Content("\n\n");
    prompt.Content(ToolsTextV3(input.tools));
  }

  bool in_results = false;
  for (const ChatMessage& message : input.messages) {
    if (message.role == "user") {
      prompt.Markup(kUser);
      prompt.Content(message.content);
      in_results = false;
    } else if (message.role == "tool") {
      if (in_results) {
        prompt.Content(input.traits.result_separator);
      } else {
        prompt.Markup("<｜tool▁outputs▁begin｜>");
      }
      prompt.Markup("<｜tool▁output▁begin｜>");
      prompt.Content(message.content);
      prompt.Markup("<｜tool▁output▁end｜>");
      in_results = true;
    } else if (message.role == "assistant") {
      // The answer to results follows them without a marker of its own.
      prompt.Markup(in_results ? "<｜tool▁outputs▁end｜>" : kAssistant);
      const bool is_plain_turn = !in_results && message.tool_calls.empty();
      prompt.Content(reasons && is_plain_turn ? AfterLastThink(message.content)
                                              : std::string_view(message.content));
      in_results = false;
      if (message.tool_calls.empty()) {
        prompt.Markup(kEnd);
      } else {
        AddCallsV3(message.tool_calls, prompt);
      }
    }
  }
  if (in_results) prompt.Markup("<｜tool▁outputs▁end｜>");
  if (!input.add_generation_prompt) return ReasoningStart::kNone;
  if (!in_results) {
    prompt.Markup(kAssistant);
    if (input.traits.opens_think) {
      prompt.Markup("<think>\n");
      return ReasoningStart::kOpen;
    }
  }
  return reasons ? ReasoningStart::kModelOpens : ReasoningStart::kNone;
}

ReasoningStart RenderDeepSeekV31(const RenderInput& input, PromptBuilder& prompt) {
  prompt.Markup(kBegin);
  prompt.Content(SystemText(input));
  if (!input.tools.empty()) AddToolsV31(input.tools, prompt);

  // The assistant's marker is owed after a user's turn; in the revision that always prompts, a call
  // also opens with it when system messages are all that came before.
  bool after_user = false;
  bool only_system = input.traits.always_prompts && HasSystem(input.messages);
  bool in_results = false;
  for (const ChatMessage& message : input.messages) {
    if (message.role == "system") continue;
    if (message.role == "user") {
      prompt.Markup(kUser);
      prompt.Content(message.content);
      after_user = true;
      in_results = false;
    } else if (message.role == "tool") {
      prompt.Markup("<｜tool▁output▁begin｜>");
      prompt.Content(message.content);
      prompt.Markup("<｜tool▁output▁end｜>");
      after_user = false;
      in_results = true;
    } else if (!message.tool_calls.empty()) {
      if (after_user || only_system) prompt.Markup("<｜Assistant｜></think>");
      prompt.Content(message.content);
      AddCallsV31(message.tool_calls, prompt);
      after_user = in_results = false;
    } else {
      if (after_user) prompt.Markup("<｜Assistant｜></think>");
      prompt.Content(in_results ? std::string_view(message.content)
                                : AfterFirstThink(message.content));
      prompt.Markup(kEnd);
      after_user = in_results = false;
    }
    only_system = false;
  }
  const bool prompts = (after_user || input.traits.always_prompts) && !in_results;
  if (!input.add_generation_prompt || !prompts) return ReasoningStart::kNone;
  prompt.Markup(kAssistant);
  prompt.Markup(input.thinking ? "<think>" : kThinkEnd);
  return input.thinking ? ReasoningStart::kOpen : ReasoningStart::kNone;
}

}  // namespace baleen
