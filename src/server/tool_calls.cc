#include "server/tool_calls.h"

#include <fmt/format.h>

#include <algorithm>

#include "server/api_error.h"

namespace baleen {

using simdjson::dom::element;
using simdjson::dom::object;

namespace {

constexpr size_t kMaxTools = 512;
constexpr size_t kMaxNameBytes = 128;

// A section holds calls; a call is its beginning, a header that names the function, the arguments,
// and its end.
struct Marks {
  std::string_view section_begin;  // empty: calls stand alone
  std::string_view call_begin;
  std::string_view before_name;  // fixed text of the header
  std::string_view after_name;   // ... and what ends it
  std::string_view call_end;
  std::string_view between;  // two calls
  std::string_view section_end;
};

const Marks& MarksOf(ToolCallFormat format) {
  static const Marks deepseek_v3 = {.section_begin = "<｜tool▁calls▁begin｜>",
                                    .call_begin = "<｜tool▁call▁begin｜>",
                                    .before_name = "function<｜tool▁sep｜>",
                                    .after_name = "\n```json\n",
                                    .call_end = "\n```<｜tool▁call▁end｜>",
                                    .between = "\n",
                                    .section_end = "<｜tool▁calls▁end｜>"};
  static const Marks deepseek_v31 = {.section_begin = "<｜tool▁calls▁begin｜>",
                                     .call_begin = "<｜tool▁call▁begin｜>",
                                     .before_name = "",
                                     .after_name = "<｜tool▁sep｜>",
                                     .call_end = "<｜tool▁call▁end｜>",
                                     .between = "",
                                     .section_end = "<｜tool▁calls▁end｜>"};
  static const Marks kimi = {.section_begin = "<|tool_calls_section_begin|>",
                             .call_begin = "<|tool_call_begin|>",
                             .before_name = "functions.",
                             .after_name = "<|tool_call_argument_begin|>",
                             .call_end = "<|tool_call_end|>",
                             .between = "",
                             .section_end = "<|tool_calls_section_end|>"};
  static const Marks plain = {.section_begin = "",
                              .call_begin = "<tool_call>",
                              .before_name = "\n{\"name\": \"",
                              .after_name = "\", \"arguments\": ",
                              .call_end = "}\n</tool_call>",
                              .between = "\n",
                              .section_end = ""};
  switch (format) {
    case ToolCallFormat::kDeepSeekV3:
      return deepseek_v3;
    case ToolCallFormat::kDeepSeekV31:
      return deepseek_v31;
    case ToolCallFormat::kKimiK2:
      return kimi;
    case ToolCallFormat::kNone:
      break;
  }
  return plain;
}

std::string_view FirstMark(const Marks& marks) {
  return marks.section_begin.empty() ? marks.call_begin : marks.section_begin;
}

// Names of control tokens within a mark, and the text around them.
GrammarSpec SpecOfMark(std::string_view mark) {
  std::vector<GrammarSpec> parts;
  while (!mark.empty()) {
    const size_t begin = std::min(mark.find("<｜"), mark.find("<|"));
    if (begin != 0) {
      parts.push_back(GrammarSpec::Literal(std::string(mark.substr(0, begin))));
      if (begin == std::string_view::npos) break;
      mark.remove_prefix(begin);
      continue;
    }
    const size_t end = mark.find('>') + 1;
    parts.push_back(GrammarSpec::Control(std::string(mark.substr(0, end))));
    mark.remove_prefix(end);
  }
  return GrammarSpec::Sequence(std::move(parts));
}

GrammarSpec SpecOfCall(ToolCallFormat format, const Tool& tool) {
  const Marks& marks = MarksOf(format);
  std::vector<GrammarSpec> parts = {SpecOfMark(marks.call_begin), SpecOfMark(marks.before_name),
                                    GrammarSpec::Literal(tool.name)};
  if (format == ToolCallFormat::kKimiK2) parts.push_back(GrammarSpec::Pattern(":[0-9]{1,4}"));
  parts.push_back(SpecOfMark(marks.after_name));
  parts.push_back(GrammarSpec::JsonSchema(tool.parameters_json, tool.strict));
  parts.push_back(SpecOfMark(marks.call_end));
  return GrammarSpec::Sequence(std::move(parts));
}

GrammarSpec SpecOfSection(ToolCallFormat format, const ToolRequest& request) {
  const Marks& marks = MarksOf(format);
  std::vector<GrammarSpec> calls;
  for (const Tool& tool : request.tools) {
    const bool is_other =
        request.choice == ToolRequest::Choice::kNamed && tool.name != request.name;
    if (!is_other) calls.push_back(SpecOfCall(format, tool));
  }
  const GrammarSpec call = GrammarSpec::Choice(std::move(calls));
  std::vector<GrammarSpec> parts = {SpecOfMark(marks.section_begin), call};
  if (request.parallel && request.choice != ToolRequest::Choice::kNamed) {
    parts.push_back(
        GrammarSpec::Repeat(GrammarSpec::Sequence({SpecOfMark(marks.between), call}), 0, 0));
  }
  parts.push_back(SpecOfMark(marks.section_end));
  return GrammarSpec::Sequence(std::move(parts));
}

Tool ReadTool(const Fields& fields) {
  if (fields.String("type").value_or("function") != "function") {
    fields.Refuse("type", "function: there are no other tools here");
  }
  const auto function = fields.Object("function");
  if (!function) fields.Refuse("function", "an object");
  Tool tool;
  tool.name = function->String("name").value_or("");
  const auto is_fit = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
  };
  if (tool.name.empty() || tool.name.size() > kMaxNameBytes ||
      !std::ranges::all_of(tool.name, is_fit)) {
    function->Refuse("name",
                     fmt::format("1 to {} letters, digits, '_', '-' or '.'", kMaxNameBytes));
  }
  function->String("description");
  tool.strict = function->Bool("strict").value_or(false);
  tool.function_json = simdjson::minify(function->object());
  tool.parameters_json = R"({"type":"object","additionalProperties":false})";
  if (const auto parameters = function->Object("parameters")) {
    std::string json = simdjson::minify(parameters->object());
    // Arguments are an object even where the schema takes it for granted.
    if (!parameters->Any("type")) {
      json = (json == "{}" ? R"({"type":"object")" : R"({"type":"object",)") + json.substr(1);
    }
    tool.parameters_json = std::move(json);
  }
  return tool;
}

void ReadChoice(const Fields& fields, ToolRequest& request) {
  using Choice = ToolRequest::Choice;
  const char* const kinds = "none, auto, required, or {type: function, function: {name}}";
  request.choice = request.tools.empty() ? Choice::kNone : Choice::kAuto;
  const auto value = fields.Any("tool_choice");
  if (!value) return;
  if (value->is_string()) {
    const std::string word = *fields.String("tool_choice");
    if (word == "none") {
      request.choice = Choice::kNone;
    } else if (word == "required") {
      request.choice = Choice::kRequired;
    } else if (word != "auto") {
      fields.Refuse("tool_choice", kinds);
    }
  } else {
    const Fields choice = *fields.Object("tool_choice");
    const auto function = choice.Object("function");
    const auto name = (function ? *function : choice).String("name");
    if (!name) fields.Refuse("tool_choice", kinds);
    request.choice = Choice::kNamed;
    request.name = *name;
  }
  const auto is_named = [&](const Tool& tool) { return tool.name == request.name; };
  if (request.choice == Choice::kNamed && std::ranges::none_of(request.tools, is_named)) {
    fields.Refuse("tool_choice", "the name of one of the tools");
  }
  if (request.choice == Choice::kRequired && request.tools.empty()) {
    fields.Refuse("tool_choice", "none or auto where there are no tools");
  }
}

// How much of the end of `text` could be the beginning of `mark`.
size_t HeldBack(std::string_view text, std::string_view mark) {
  for (size_t length = std::min(text.size(), mark.size() - 1); length > 0; --length) {
    if (text.ends_with(mark.substr(0, length))) return length;
  }
  return 0;
}

std::string_view Trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

}  // namespace

ToolRequest ReadTools(const Fields& fields) {
  ToolRequest request;
  if (const auto list = fields.Array("tools"); list && list->size() > 0) {
    if (list->size() > kMaxTools)
      fields.Refuse("tools", fmt::format("at most {} tools", kMaxTools));
    for (const element item : *list) {
      object tool;
      if (item.get_object().get(tool)) fields.Refuse("tools", "a list of objects");
      const std::string path = fields.PathOf(fmt::format("tools[{}].", request.tools.size()));
      request.tools.push_back(ReadTool(Fields(tool, path)));
      for (size_t i = 0; i + 1 < request.tools.size(); ++i) {
        if (request.tools[i].name != request.tools.back().name) continue;
        fields.Refuse("tools", "made of tools with different names");
      }
    }
    request.tools_json = simdjson::minify(*list);
  }
  ReadChoice(fields, request);
  request.parallel = fields.Bool("parallel_tool_calls").value_or(true);
  return request;
}

GrammarSpec AnswerWithCalls(ToolCallFormat format, const ToolRequest& request,
                            const GrammarSpec* content) {
  const GrammarSpec text =
      content != nullptr ? *content : GrammarSpec::Text(std::string(FirstMark(MarksOf(format))));
  if (request.choice == ToolRequest::Choice::kNone) return text;
  // Some models put white space before whatever they say.
  const GrammarSpec section =
      GrammarSpec::Sequence({GrammarSpec::Pattern("[ \\n]{0,2}"), SpecOfSection(format, request)});
  if (request.choice != ToolRequest::Choice::kAuto) return section;
  if (content != nullptr) return GrammarSpec::Choice({text, section});
  return GrammarSpec::Sequence({text, GrammarSpec::Repeat(SpecOfSection(format, request), 0, 1)});
}

void SpellToolsAsText(const ToolRequest& request, std::vector<ChatMessage>& messages) {
  for (ChatMessage& message : messages) {
    if (message.role == "tool") {
      message.role = "user";
      message.content = "<tool_response>\n" + message.content + "\n</tool_response>";
    }
    for (const ToolCall& call : message.tool_calls) {
      if (!message.content.empty()) message.content += "\n";
      message.content +=
          fmt::format("<tool_call>\n{{\"name\": \"{}\", \"arguments\": {}}}\n</tool_call>",
                      call.name, call.arguments_json);
    }
    message.tool_calls.clear();
  }
  if (request.tools.empty()) return;
  std::string text = "# Tools\nThese functions can be called:\n";
  for (const Tool& tool : request.tools) text += tool.function_json + "\n";
  text +=
      "\nTo call one, answer with a block of this form, and with one block for each call:\n"
      "<tool_call>\n{\"name\": \"NAME\", \"arguments\": {\"PARAMETER\": VALUE}}\n</tool_call>\n"
      "What a function returns comes back between <tool_response> and </tool_response>.";
  if (!messages.empty() && messages[0].role == "system") {
    messages[0].content += "\n\n" + text;
  } else {
    ChatMessage system;
    system.role = "system";
    system.content = std::move(text);
    messages.insert(messages.begin(), std::move(system));
  }
}

ToolCallParser::ToolCallParser(ToolCallFormat format) : format_(format) {}

void ToolCallParser::TakeContent(std::string text, Delta& delta) {
  if (!has_content_) {
    blank_ += text;
    if (Trim(blank_).empty()) return;
    text = std::exchange(blank_, {});
    has_content_ = true;
  }
  delta.content += text;
}

// The header without its end: "function<｜tool▁sep｜>NAME", "NAME", "functions.NAME:3", ...
void ToolCallParser::BeginCall(std::string_view header, Delta& delta) {
  Call call;
  call.index = num_calls_++;
  call.begins = true;
  const std::string_view before = Trim(MarksOf(format_).before_name);
  if (format_ == ToolCallFormat::kKimiK2) {
    header = Trim(header);
    call.id = header;
    const size_t colon = header.rfind(':');
    if (colon != std::string_view::npos) header = header.substr(0, colon);
  }
  if (const size_t at = header.find(before); !before.empty() && at != std::string_view::npos) {
    header.remove_prefix(at + before.size());
  }
  call.name = Trim(header);
  delta.calls.push_back(std::move(call));
}

// Takes what is decided off the front of held_; false when more text is needed.
bool ToolCallParser::Advance(Delta& delta) {
  const Marks& marks = MarksOf(format_);
  const auto cut = [&](size_t at, std::string_view mark) {
    std::string before = held_.substr(0, at);
    held_.erase(0, at + mark.size());
    return before;
  };
  const auto take_all_but = [&](std::string_view mark) {
    const size_t kept = HeldBack(held_, mark);
    std::string text = held_.substr(0, held_.size() - kept);
    held_.erase(0, text.size());
    return text;
  };
  switch (state_) {
    case State::kContent: {
      const std::string_view mark = FirstMark(marks);
      const size_t at = held_.find(mark);
      if (at == std::string::npos) {
        TakeContent(take_all_but(mark), delta);
        return false;
      }
      TakeContent(cut(at, mark), delta);
      state_ = marks.section_begin.empty() ? State::kHeader : State::kBetween;
      return true;
    }
    case State::kBetween: {
      // Nothing but a call, or the section's end, counts here.
      const size_t call = held_.find(marks.call_begin);
      const size_t end =
          marks.section_end.empty() ? std::string::npos : held_.find(marks.section_end);
      if (call == std::string::npos && end == std::string::npos) return false;
      if (call < end) {
        cut(call, marks.call_begin);
        state_ = State::kHeader;
      } else {
        cut(end, marks.section_end);
        state_ = State::kContent;
      }
      return true;
    }
    case State::kHeader: {
      const size_t at = held_.find(marks.after_name);
      if (at == std::string::npos) return false;
      BeginCall(cut(at, marks.after_name), delta);
      state_ = State::kArguments;
      return true;
    }
    case State::kArguments: {
      const size_t at = held_.find(marks.call_end);
      std::string text =
          at == std::string::npos ? take_all_but(marks.call_end) : cut(at, marks.call_end);
      if (!text.empty()) {
        if (delta.calls.empty()) delta.calls.push_back({.index = num_calls_ - 1});
        delta.calls.back().arguments += text;
      }
      if (at == std::string::npos) return false;
      state_ = State::kBetween;
      return true;
    }
  }
  return false;
}

ToolCallParser::Delta ToolCallParser::Push(std::string_view text) {
  held_ += text;
  Delta delta;
  while (Advance(delta)) {
  }
  return delta;
}

ToolCallParser::Delta ToolCallParser::Flush() {
  Delta delta;
  if (state_ == State::kContent) TakeContent(std::exchange(held_, {}), delta);
  // White space is content when it is all that there is.
  if (num_calls_ == 0 && !has_content_) delta.content += std::exchange(blank_, {});
  return delta;
}

}  // namespace baleen
