#include "tokenizer/chat_template.h"

#include <array>
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "base/json.h"
#include "tokenizer/chat_template_render.h"

namespace baleen {
namespace {

// The end of the control-token name at the front of `text`, or 0 if none starts there.
size_t ControlNameLength(std::string_view text) {
  struct Fence {
    std::string_view open, close;
  };
  static constexpr std::array<Fence, 4> kFences = {
      {{"<｜", "｜>"}, {"<|", "|>"}, {"<think>", ""}, {"</think>", ""}}};
  for (const Fence& fence : kFences) {
    if (!text.starts_with(fence.open)) continue;
    const size_t close = text.find(fence.close, fence.open.size());
    if (close != std::string_view::npos) return close + fence.close.size();
  }
  return 0;
}

// Checks OpenAI's list of tools and returns its items; they live in `document`.
std::vector<simdjson::dom::element> ReadTools(const JsonDocument& document) {
  std::vector<simdjson::dom::element> tools;
  simdjson::dom::array list;
  if (document.root().get(list) != simdjson::SUCCESS) {
    Throw(ErrorCode::kInvalidArgument, "tools: must be a list of tools");
  }
  for (const simdjson::dom::element tool : list) {
    std::string_view name;
    if (tool["function"]["name"].get(name) != simdjson::SUCCESS || name.empty()) {
      Throw(ErrorCode::kInvalidArgument,
            "tools: item {} must be an object with function.name, a text", tools.size());
    }
    tools.push_back(tool);
  }
  return tools;
}

JsonDocument ParseTools(const std::string& tools_json) {
  try {
    return JsonDocument::Parse(tools_json.empty() ? "[]" : tools_json, "tools");
  } catch (const Error& error) {
    throw Error(ErrorCode::kInvalidArgument, error.what());
  }
}

bool IsKnownRole(std::string_view role) {
  return role == "system" || role == "user" || role == "assistant" || role == "tool";
}

void CheckMessages(std::span<const ChatMessage> messages, const ChatTemplate& chat) {
  if (messages.empty()) Throw(ErrorCode::kInvalidArgument, "a conversation needs a message");
  for (size_t i = 0; i < messages.size(); ++i) {
    const ChatMessage& message = messages[i];
    if (!IsKnownRole(message.role)) {
      Throw(ErrorCode::kInvalidArgument,
            "message {}: unknown role \"{}\"; use system, user, assistant or tool", i,
            message.role);
    }
    if (chat.tool_call_format() == ToolCallFormat::kNone &&
        (message.role == "tool" || !message.tool_calls.empty())) {
      Throw(ErrorCode::kInvalidArgument, "message {}: the chat format of {} has no tools", i,
            chat.name());
    }
    for (const ToolCall& call : message.tool_calls) {
      if (message.role != "assistant" || call.name.empty()) {
        Throw(ErrorCode::kInvalidArgument,
              "message {}: tool_calls belong to the assistant, each with a name", i);
      }
    }
  }
}

void CheckThinking(std::optional<bool> thinking, const ChatTemplate& chat) {
  if (!thinking || chat.can_choose_thinking() || *thinking == chat.can_reason()) return;
  Throw(ErrorCode::kInvalidArgument, "{} cannot answer {} reasoning; leave the choice out",
        chat.name(), *thinking ? "with" : "without");
}

}  // namespace

void PromptBuilder::Content(std::string_view text) {
  if (text.empty()) return;
  if (pieces_.empty() || pieces_.back().is_control) pieces_.push_back({});
  pieces_.back().text += text;
}

void PromptBuilder::Markup(std::string_view text) {
  size_t plain = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t length = ControlNameLength(text.substr(at));
    if (length == 0) {
      ++at;
      continue;
    }
    Content(text.substr(plain, at - plain));
    pieces_.push_back({std::string(text.substr(at, length)), true});
    at += length;
    plain = at;
  }
  Content(text.substr(plain));
}

std::string ChatPrompt::Text() const {
  std::string text;
  for (const PromptPiece& piece : pieces) text += piece.text;
  return text;
}

ChatPrompt ChatTemplate::Render(std::span<const ChatMessage> messages,
                                const ChatTemplateOptions& options) const {
  CheckMessages(messages, *this);
  CheckThinking(options.thinking, *this);
  const JsonDocument document = ParseTools(options.tools_json);
  const std::vector<simdjson::dom::element> tools = ReadTools(document);
  if (!tools.empty() && tool_call_format() == ToolCallFormat::kNone) {
    Throw(ErrorCode::kInvalidArgument, "tools: the chat format of {} has no tools", name());
  }
  const RenderInput input{messages, tools, traits_, options.add_generation_prompt,
                          options.thinking.value_or(false)};
  PromptBuilder builder;
  ReasoningStart reasoning = ReasoningStart::kNone;
  switch (format_) {
    case ChatFormat::kDeepSeekV2:
      reasoning = RenderDeepSeekV2(input, builder);
      break;
    case ChatFormat::kDeepSeekV3:
      reasoning = RenderDeepSeekV3(input, false, builder);
      break;
    case ChatFormat::kDeepSeekR1:
      reasoning = RenderDeepSeekV3(input, true, builder);
      break;
    case ChatFormat::kDeepSeekV31:
      reasoning = RenderDeepSeekV31(input, builder);
      break;
    case ChatFormat::kMoonlight:
    case ChatFormat::kKimiK2First:
    case ChatFormat::kKimiK2:
    case ChatFormat::kKimiThinking:
      reasoning = RenderKimi(input, format_, builder);
      break;
  }
  return {builder.Take(), reasoning};
}

std::string_view ChatTemplate::name() const {
  switch (format_) {
    case ChatFormat::kDeepSeekV2:
      return "DeepSeek-V2";
    case ChatFormat::kDeepSeekV3:
      return "DeepSeek-V3";
    case ChatFormat::kDeepSeekR1:
      return "DeepSeek-R1";
    case ChatFormat::kDeepSeekV31:
      return "DeepSeek-V3.1";
    case ChatFormat::kMoonlight:
      return "Moonlight";
    case ChatFormat::kKimiK2First:
    case ChatFormat::kKimiK2:
      return "Kimi-K2";
    case ChatFormat::kKimiThinking:
      return "Kimi-K2-Thinking";
  }
  BALEEN_CHECK(false);
  return {};
}

bool ChatTemplate::can_reason() const {
  return format_ == ChatFormat::kDeepSeekR1 || format_ == ChatFormat::kDeepSeekV31 ||
         format_ == ChatFormat::kKimiThinking;
}

ToolCallFormat ChatTemplate::tool_call_format() const {
  switch (format_) {
    case ChatFormat::kDeepSeekV2:
    case ChatFormat::kMoonlight:
      return ToolCallFormat::kNone;
    case ChatFormat::kDeepSeekV3:
    case ChatFormat::kDeepSeekR1:
      return ToolCallFormat::kDeepSeekV3;
    case ChatFormat::kDeepSeekV31:
      return ToolCallFormat::kDeepSeekV31;
    case ChatFormat::kKimiK2First:
    case ChatFormat::kKimiK2:
    case ChatFormat::kKimiThinking:
      return ToolCallFormat::kKimiK2;
  }
  BALEEN_CHECK(false);
  return ToolCallFormat::kNone;
}

std::vector<std::string> ChatTemplate::stop_tokens() const {
  switch (format_) {
    case ChatFormat::kDeepSeekV2:
    case ChatFormat::kDeepSeekV3:
    case ChatFormat::kDeepSeekR1:
    case ChatFormat::kDeepSeekV31:
      return {"<｜end▁of▁sentence｜>"};
    case ChatFormat::kMoonlight:
    case ChatFormat::kKimiK2First:
    case ChatFormat::kKimiK2:
    case ChatFormat::kKimiThinking:
      return {"<|im_end|>", "[EOS]", "[EOT]"};
  }
  BALEEN_CHECK(false);
  return {};
}

}  // namespace baleen
