#include "server/tool_calls.h"

#include <gtest/gtest.h>

#include "server/api_error.h"

namespace baleen {
namespace {

struct Parsed {
  std::string content;
  std::vector<ToolCall> calls;
};

// The text in pieces of `size` bytes.
Parsed Parse(ToolCallFormat format, std::string_view text, size_t size) {
  ToolCallParser parser(format);
  Parsed parsed;
  const auto add = [&](const ToolCallParser::Delta& delta) {
    parsed.content += delta.content;
    for (const ToolCallParser::Call& call : delta.calls) {
      if (call.begins) parsed.calls.push_back({call.id, call.name, ""});
      ASSERT_LT(call.index, parsed.calls.size());
      parsed.calls[call.index].arguments_json += call.arguments;
    }
  };
  for (size_t i = 0; i < text.size(); i += size) add(parser.Push(text.substr(i, size)));
  add(parser.Flush());
  return parsed;
}

constexpr const char* kV3 =
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n"
    "{\"city\": "
    "\"Ulm\\n```\"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n"
    "```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
constexpr const char* kV31 =
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{\"city\": \"Ulm\"}"
    "<｜tool▁call▁end｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜><"
    "｜tool▁calls▁end｜>";
constexpr const char* kKimi =
    "<|tool_calls_section_begin|><|tool_call_begin|> functions.get_weather:3 "
    "<|tool_call_argument_begin|>{\"city\": \"Ulm\"}<|tool_call_end|><|tool_call_begin|>now:4"
    "<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>";
constexpr const char* kPlain =
    "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"}</tool_call>\"}}\n"
    "</tool_call>\n<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";

TEST(ToolCallParser, EachFormatInPiecesOfAnySize) {
  struct Case {
    ToolCallFormat format;
    const char* text;
    const char* first_arguments;
    const char* first_id;
  };
  const Case cases[] = {
      {ToolCallFormat::kDeepSeekV3, kV3, "{\"city\": \"Ulm\\n```\"}", ""},
      {ToolCallFormat::kDeepSeekV31, kV31, "{\"city\": \"Ulm\"}", ""},
      {ToolCallFormat::kKimiK2, kKimi, "{\"city\": \"Ulm\"}", "functions.get_weather:3"},
      {ToolCallFormat::kNone, kPlain, "{\"city\": \"}</tool_call>\"}", ""},
  };
  for (const Case& c : cases) {
    for (const size_t size : {1, 2, 3, 7, 1000}) {
      const Parsed parsed = Parse(c.format, std::string("Let me see.\n\n") + c.text, size);
      EXPECT_EQ(parsed.content, "Let me see.\n\n") << size;
      ASSERT_EQ(parsed.calls.size(), 2u) << size;
      EXPECT_EQ(parsed.calls[0].name, "get_weather");
      EXPECT_EQ(parsed.calls[0].arguments_json, c.first_arguments);
      EXPECT_EQ(parsed.calls[0].id, c.first_id);
      EXPECT_EQ(parsed.calls[1].name, "now");
      EXPECT_EQ(parsed.calls[1].arguments_json, "{}");
    }
  }
}

TEST(ToolCallParser, TextThatOnlyLooksLikeACall) {
  for (const char* text : {"<tool_cal", "a < b", "<tool", " \n", "  x"}) {
    for (const size_t size : {1, 100}) {
      const Parsed parsed = Parse(ToolCallFormat::kNone, text, size);
      EXPECT_EQ(parsed.content, text);
      EXPECT_TRUE(parsed.calls.empty());
    }
  }
}

TEST(ToolCallParser, WhiteSpaceBeforeCallsIsNoContent) {
  EXPECT_EQ(Parse(ToolCallFormat::kNone, std::string("\n ") + kPlain, 1).content, "");
}

// An answer may be cut anywhere: what was sent stays a beginning of the whole.
TEST(ToolCallParser, CutAnswers) {
  const std::string text = kV3;
  const Parsed whole = Parse(ToolCallFormat::kDeepSeekV3, text, 1000);
  for (size_t length = 0; length < text.size(); ++length) {
    const Parsed cut = Parse(ToolCallFormat::kDeepSeekV3, text.substr(0, length), 5);
    ASSERT_LE(cut.calls.size(), 2u);
    for (size_t i = 0; i < cut.calls.size(); ++i) {
      EXPECT_EQ(cut.calls[i].name, whole.calls[i].name);
      EXPECT_TRUE(whole.calls[i].arguments_json.starts_with(cut.calls[i].arguments_json));
    }
  }
  // A model that forgets the section's end has called all the same.
  const std::string open = text.substr(0, text.size() - std::string("<｜tool▁calls▁end｜>").size());
  EXPECT_EQ(Parse(ToolCallFormat::kDeepSeekV3, open, 4).calls.size(), 2u);
}

std::string ParamOf(const char* body) {
  const JsonDocument document = ParseBody(body);
  try {
    ReadTools(Fields(document.object()));
  } catch (const ApiError& error) {
    return error.param();
  }
  return "none";
}

TEST(ReadTools, NamesWhatIsWrong) {
  EXPECT_EQ(ParamOf(R"({"tools": {}})"), "tools");
  EXPECT_EQ(ParamOf(R"({"tools": [1]})"), "tools");
  EXPECT_EQ(ParamOf(R"({"tools": [{"type": "web_search"}]})"), "tools[0].type");
  EXPECT_EQ(ParamOf(R"({"tools": [{"type": "function"}]})"), "tools[0].function");
  EXPECT_EQ(ParamOf(R"({"tools": [{"function": {"name": "a b"}}]})"), "tools[0].function.name");
  EXPECT_EQ(ParamOf(R"({"tools": [{"function": {"name": "a", "parameters": 1}}]})"),
            "tools[0].function.parameters");
  EXPECT_EQ(ParamOf(R"({"tools": [{"function": {"name": "a"}}, {"function": {"name": "a"}}]})"),
            "tools");
  EXPECT_EQ(ParamOf(R"({"tool_choice": "required"})"), "tool_choice");
  EXPECT_EQ(ParamOf(R"({"tool_choice": "maybe"})"), "tool_choice");
  EXPECT_EQ(ParamOf(R"({"tools": [{"function": {"name": "a"}}],
                        "tool_choice": {"type": "function", "function": {"name": "b"}}})"),
            "tool_choice");
  EXPECT_EQ(ParamOf(R"({"parallel_tool_calls": 1})"), "parallel_tool_calls");
  EXPECT_EQ(ParamOf(R"({"tool_choice": "none"})"), "none");
}

TEST(ReadTools, ChoiceAndParameters) {
  const JsonDocument document = ParseBody(R"({"tools": [{"type": "function", "function":
      {"name": "a", "parameters": {"properties": {}}}}, {"function": {"name": "b"}}],
      "tool_choice": {"type": "function", "function": {"name": "b"}}, "parallel_tool_calls": false})");
  const ToolRequest request = ReadTools(Fields(document.object()));
  EXPECT_EQ(request.choice, ToolRequest::Choice::kNamed);
  EXPECT_EQ(request.name, "b");
  EXPECT_FALSE(request.parallel);
  EXPECT_EQ(request.tools[0].parameters_json, R"({"type":"object","properties":{}})");
  EXPECT_EQ(request.tools[1].parameters_json, R"({"type":"object","additionalProperties":false})");
}

TEST(SpellToolsAsText, HistoryAndPrompt) {
  const JsonDocument document =
      ParseBody(R"({"tools": [{"function": {"name": "a", "parameters": {}}}]})");
  const ToolRequest request = ReadTools(Fields(document.object()));
  std::vector<ChatMessage> messages(3);
  messages[0].role = "user";
  messages[1].role = "assistant";
  messages[1].tool_calls = {{"call_1", "a", "{}"}};
  messages[2].role = "tool";
  messages[2].content = "7";
  SpellToolsAsText(request, messages);
  ASSERT_EQ(messages.size(), 4u);
  EXPECT_EQ(messages[0].role, "system");
  EXPECT_NE(messages[0].content.find(R"({"name":"a","parameters":{}})"), std::string::npos);
  EXPECT_EQ(messages[2].content, "<tool_call>\n{\"name\": \"a\", \"arguments\": {}}\n</tool_call>");
  EXPECT_TRUE(messages[2].tool_calls.empty());
  EXPECT_EQ(messages[3].role, "user");
  EXPECT_EQ(messages[3].content, "<tool_response>\n7\n</tool_response>");
}

}  // namespace
}  // namespace baleen
