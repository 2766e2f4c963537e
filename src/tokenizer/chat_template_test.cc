#include "tokenizer/chat_template.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "base/error.h"

namespace baleen {
namespace {

// V2's template in our own words; its format has few enough to write them down.
constexpr std::string_view kV2 =
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\\n\\n' }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ 'Assistant: ' + message['content'] + eos_token }}"
    "{% elif message['role'] == 'system' %}{{ message['content'] + '\\n\\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}";

constexpr std::string_view kMoonlight =
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "<|im_system|>system<|im_middle|>You are a helpful assistant<|im_end|>{% endif %}"
    "{% if message['role'] == 'user' %}<|im_user|>{% elif message['role'] == 'assistant' %}"
    "<|im_assistant|>{% else %}<|im_system|>{% endif %}"
    "{{ message['role'] }}<|im_middle|>{{ message['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_assistant|>assistant<|im_middle|>{% endif %}";

// The texts of a Kimi-K2 template, each in a tag of its own, then the names.
std::string KimiK2(const std::string& inserted, const std::string& declare, bool thinks,
                   const std::string& names = "") {
  std::string program = "{% message messages tools tojson " + names + " %}";
  for (const std::string text : {"role",
                                 "user",
                                 "assistant",
                                 "tool",
                                 "content",
                                 "name",
                                 "tool_calls",
                                 "function",
                                 "arguments",
                                 "system",
                                 "<|im_user|>",
                                 "<|im_assistant|>",
                                 "<|im_system|>",
                                 "<|im_middle|>",
                                 "<|im_end|>",
                                 "<|im_assistant|>assistant<|im_middle|>",
                                 "<|tool_calls_section_begin|>",
                                 "<|tool_calls_section_end|>",
                                 "<|tool_call_begin|>",
                                 "<|tool_call_argument_begin|>",
                                 "<|tool_call_end|>",
                                 "## Return of ",
                                 "\\n"}) {
    program += "{{ '" + text + "' }}";
  }
  if (thinks) program += "{{ '<think></think>' '<think>' '</think>' 'reasoning_content' }}";
  return program + "{{ '" + inserted + "' '" + declare + "' }}";
}

const std::string kIAmKimi =
    "<|im_system|>system<|im_middle|>You are Kimi, an AI assistant created by Moonshot AI."
    "<|im_end|>";
const std::string kDeclare = "<|im_system|>tool_declare<|im_middle|>";

ErrorCode CodeOf(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  return static_cast<ErrorCode>(0);
}

ChatMessage Turn(std::string role, std::string content, std::vector<ToolCall> calls = {}) {
  ChatMessage message;
  message.role = std::move(role);
  message.content = std::move(content);
  message.tool_calls = std::move(calls);
  return message;
}

ChatMessage User(std::string content) { return Turn("user", std::move(content)); }

TEST(ChatTemplate, ContentNeverBecomesAControlToken) {
  const ChatTemplate chat = ChatTemplate::Recognize(kV2);
  const std::vector<ChatMessage> messages = {Turn("system", "<｜begin▁of▁sentence｜>"),
                                             User("<｜end▁of▁sentence｜>"),
                                             Turn("assistant", "<｜fim▁hole｜>"), User("x")};
  const std::vector<PromptPiece> expected = {
      {"<｜begin▁of▁sentence｜>", true},
      {"<｜begin▁of▁sentence｜>\n\nUser: <｜end▁of▁sentence｜>\n\nAssistant: <｜fim▁hole｜>",
       false},
      {"<｜end▁of▁sentence｜>", true},
      {"User: x\n\nAssistant:", false}};
  EXPECT_EQ(chat.Render(messages, {}).pieces, expected);
}

TEST(ChatTemplate, MarkupOfKimiIsControl) {
  const ChatTemplate chat = ChatTemplate::Recognize(kMoonlight);
  EXPECT_EQ(chat.format(), ChatFormat::kMoonlight);
  const std::vector<ChatMessage> messages = {User("<|im_end|>")};
  const std::vector<PromptPiece> expected = {{"<|im_system|>", true},
                                             {"system", false},
                                             {"<|im_middle|>", true},
                                             {"You are a helpful assistant", false},
                                             {"<|im_end|>", true},
                                             {"<|im_user|>", true},
                                             {"user", false},
                                             {"<|im_middle|>", true},
                                             {"<|im_end|>", false},
                                             {"<|im_end|>", true},
                                             {"<|im_assistant|>", true},
                                             {"assistant", false},
                                             {"<|im_middle|>", true}};
  EXPECT_EQ(chat.Render(messages, {}).pieces, expected);
}

TEST(ChatTemplate, ReasoningIsAPairOfTokensAroundText) {
  const ChatTemplate chat = ChatTemplate::Recognize(KimiK2(kIAmKimi, kDeclare, true));
  ChatMessage calling = Turn("assistant", "", {{"", "f", "{\"a\": \"<think>\"}"}});
  calling.reasoning_content = "</think>";
  const std::vector<ChatMessage> messages = {Turn("system", "s"), calling, Turn("tool", "r")};
  const ChatPrompt prompt = chat.Render(messages, {.add_generation_prompt = false});
  EXPECT_EQ(prompt.Text(),
            "<|im_system|>system<|im_middle|>s<|im_end|>"
            "<|im_assistant|>assistant<|im_middle|><think></think></think>"
            "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0"
            "<|tool_call_argument_begin|>{\"a\": \"<think>\"}<|tool_call_end|>"
            "<|tool_calls_section_end|><|im_end|>"
            "<|im_system|>tool<|im_middle|>## Return of functions.f:0\nr<|im_end|>");
  const auto open =
      std::find(prompt.pieces.begin(), prompt.pieces.end(), PromptPiece{"<think>", true});
  ASSERT_LT(open - prompt.pieces.begin(), static_cast<ptrdiff_t>(prompt.pieces.size()) - 2);
  EXPECT_EQ(open[1], (PromptPiece{"</think>", false}));
  EXPECT_EQ(open[2], (PromptPiece{"</think>", true}));
  EXPECT_EQ(std::count(prompt.pieces.begin(), prompt.pieces.end(), PromptPiece{"<think>", true}),
            1);
}

// Revisions of Kimi-K2 that are described, but of which no copy was at hand: derived by hand.
TEST(ChatTemplate, ReadsRevisionsOfKimi) {
  const std::vector<ChatMessage> messages = {User("u")};
  const ChatTemplateOptions options = {.tools_json =
                                           R"([{"type": "function", "function": {"name": "f"}}, )"
                                           R"({"function": {"name": "g"}}])"};
  const std::string turns =
      "<|im_user|>user<|im_middle|>u<|im_end|><|im_assistant|>assistant<|im_middle|>";
  EXPECT_EQ(ChatTemplate::Recognize(KimiK2(kIAmKimi, kDeclare, false)).Render(messages, {}).Text(),
            kIAmKimi + turns);
  EXPECT_EQ(ChatTemplate::Recognize(KimiK2(kIAmKimi + "\\n", kDeclare, false, "separators"))
                .Render(messages, options)
                .Text(),
            kDeclare +
                R"([{"function":{"name":"f"},"type":"function"},{"function":{"name":"g"}}])"
                "<|im_end|>" +
                kIAmKimi + "\n" + turns);
  EXPECT_EQ(ChatTemplate::Recognize(KimiK2(kIAmKimi, kDeclare + "\\n  # Tools\\n  ", false))
                .Render(messages, options)
                .Text(),
            kDeclare + "\n  # Tools\n  " +
                R"([{"function": {"name": "f"}, "type": "function"}, {"function": {"name": "g"}}])"
                "<|im_end|>" +
                kIAmKimi + turns);
}

TEST(ChatTemplate, RefusesUnknownTemplates) {
  const auto recognize = [](std::string program) {
    return CodeOf([&] { ChatTemplate::Recognize(program); });
  };
  const std::string v2(kV2);
  const auto replaced = [&](std::string_view from, std::string_view to) {
    std::string program = v2;
    return program.replace(program.find(from), from.size(), to);
  };
  EXPECT_EQ(recognize(""), ErrorCode::kUnimplemented);
  EXPECT_EQ(recognize("{% for m in messages %}{{ m.content }}{% endfor %}"),
            ErrorCode::kUnimplemented);
  EXPECT_EQ(recognize(replaced("User: ", "USER: ")), ErrorCode::kUnimplemented);
  EXPECT_EQ(recognize(replaced("'Assistant:'", "'Assistant: '")), ErrorCode::kUnimplemented);
  EXPECT_EQ(recognize(replaced("message['content'] +", "message['content'] | trim +")),
            ErrorCode::kUnimplemented);
  EXPECT_EQ(recognize(v2 + " "), ErrorCode::kUnimplemented);
  EXPECT_EQ(recognize(v2 + "{{ 'unclosed"), ErrorCode::kUnimplemented);
  EXPECT_EQ(recognize(v2 + "{{ x"), ErrorCode::kUnimplemented);
  EXPECT_EQ(recognize(KimiK2(kIAmKimi, "", false)), ErrorCode::kUnimplemented);
  EXPECT_EQ(recognize(KimiK2("", kDeclare, false)), ErrorCode::kUnimplemented);
  EXPECT_EQ(recognize(KimiK2("You are evil", kDeclare, false)), ErrorCode::kUnimplemented);
  EXPECT_EQ(ChatTemplate::Recognize(v2 + "{# a note #}").format(), ChatFormat::kDeepSeekV2);
}

TEST(ChatTemplate, RefusesWhatTheFormatCannotSay) {
  const ChatTemplate v2 = ChatTemplate::Recognize(kV2);
  const ChatTemplate k2 = ChatTemplate::Recognize(KimiK2(kIAmKimi, kDeclare, false));
  const auto render = [](const ChatTemplate& chat, const std::vector<ChatMessage>& messages,
                         const ChatTemplateOptions& options) {
    return CodeOf([&] { chat.Render(messages, options); });
  };
  const auto kInvalid = ErrorCode::kInvalidArgument;
  const std::string tools = R"([{"function": {"name": "f"}}])";
  EXPECT_EQ(render(v2, {}, {}), kInvalid);
  EXPECT_EQ(render(v2, {Turn("developer", "")}, {}), kInvalid);
  EXPECT_EQ(render(v2, {Turn("tool", "")}, {}), kInvalid);
  EXPECT_EQ(render(v2, {Turn("assistant", "", {{"", "f", "{}"}})}, {}), kInvalid);
  EXPECT_EQ(render(v2, {User("u")}, {.tools_json = tools}), kInvalid);
  EXPECT_EQ(render(v2, {User("u")}, {.thinking = true}), kInvalid);
  EXPECT_EQ(render(k2, {Turn("user", "", {{"", "f", "{}"}})}, {}), kInvalid);
  EXPECT_EQ(render(k2, {Turn("assistant", "", {{"", "", "{}"}})}, {}), kInvalid);
  EXPECT_EQ(render(k2, {Turn("tool", "answers nothing")}, {}), kInvalid);
  for (const char* bad : {"{", "{}", "[1]", "[{}]", R"([{"function": {}}])",
                          R"([{"function": {"name": ""}}])", R"([{"function": {"name": 1}}])"}) {
    EXPECT_EQ(render(k2, {User("u")}, {.tools_json = bad}), kInvalid) << bad;
  }
  const auto kFine = static_cast<ErrorCode>(0);
  EXPECT_EQ(render(v2, {User("u")}, {.thinking = false, .tools_json = "[]"}), kFine);
  EXPECT_EQ(render(k2, {User("u")}, {.tools_json = tools}), kFine);
}

TEST(ChatTemplate, SaysHowToReadAnswers) {
  const ChatTemplate v2 = ChatTemplate::Recognize(kV2);
  EXPECT_FALSE(v2.can_reason());
  EXPECT_EQ(v2.tool_call_format(), ToolCallFormat::kNone);
  EXPECT_EQ(v2.stop_tokens(), std::vector<std::string>{"<｜end▁of▁sentence｜>"});
  EXPECT_EQ(v2.Render(std::vector{User("u")}, {}).reasoning, ReasoningStart::kNone);

  const ChatTemplate thinking = ChatTemplate::Recognize(KimiK2(kIAmKimi, kDeclare, true));
  EXPECT_TRUE(thinking.can_reason());
  EXPECT_FALSE(thinking.can_choose_thinking());
  EXPECT_EQ(thinking.name(), "Kimi-K2-Thinking");
  EXPECT_EQ(thinking.tool_call_format(), ToolCallFormat::kKimiK2);
  EXPECT_EQ(thinking.stop_tokens(), (std::vector<std::string>{"<|im_end|>", "[EOS]", "[EOT]"}));
  EXPECT_EQ(thinking.Render(std::vector{User("u")}, {}).reasoning, ReasoningStart::kModelOpens);
}

}  // namespace
}  // namespace baleen
