// Chat templates against jinja2: tests/golden/chat_templates.json (tools/golden/chat_templates.py).
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/jinja_words.h"

namespace baleen {
namespace {

using Element = simdjson::dom::element;

const JsonDocument& Golden() {
  static const JsonDocument golden = JsonDocument::Parse(
      ReadFile(BALEEN_SOURCE_DIR "/tests/golden/chat_templates.json", 16 << 20), "golden");
  return golden;
}

std::string TextOf(Element object, const char* key) {
  std::string_view text;
  return object[key].get(text) == simdjson::SUCCESS ? std::string(text) : "";
}

std::vector<ChatMessage> ReadMessages(Element list) {
  std::vector<ChatMessage> messages;
  for (const Element item : list.get_array()) {
    ChatMessage message{TextOf(item, "role"),
                        TextOf(item, "content"),
                        TextOf(item, "reasoning_content"),
                        TextOf(item, "name"),
                        {},
                        TextOf(item, "tool_call_id")};
    simdjson::dom::array calls;
    if (item["tool_calls"].get(calls) == simdjson::SUCCESS) {
      for (const Element call : calls) {
        message.tool_calls.push_back({TextOf(call, "id"), TextOf(call["function"], "name"),
                                      TextOf(call["function"], "arguments")});
      }
    }
    messages.push_back(std::move(message));
  }
  return messages;
}

JinjaWords ReadWords(Element item) {
  JinjaWords words;
  for (const Element text : item["texts"].get_array())
    words.texts.emplace(text.get_string().value());
  for (const Element name : item["names"].get_array())
    words.names.emplace(name.get_string().value());
  return words;
}

// A program of our own with exactly these words: it is recognised as the published one is.
std::string ProgramOf(const JinjaWords& words) {
  std::string program;
  for (const std::string& text : words.texts) {
    program += "{{ '";
    for (const char c : text) {
      if (c == '\'' || c == '\\') program += '\\';
      program += c;
    }
    program += "' }}";
  }
  program += "{% ";
  for (const std::string& name : words.names) program += name + " ";
  return program + "%}";
}

ChatFormat FormatOf(const std::string& name) {
  static const std::map<std::string, ChatFormat> kFormats = {
      {"kDeepSeekV2", ChatFormat::kDeepSeekV2}, {"kDeepSeekV3", ChatFormat::kDeepSeekV3},
      {"kDeepSeekR1", ChatFormat::kDeepSeekR1}, {"kDeepSeekV31", ChatFormat::kDeepSeekV31},
      {"kMoonlight", ChatFormat::kMoonlight},   {"kKimiK2First", ChatFormat::kKimiK2First},
      {"kKimiK2", ChatFormat::kKimiK2},         {"kKimiThinking", ChatFormat::kKimiThinking}};
  return kFormats.at(name);
}

bool IsRecognized(const std::string& program) {
  try {
    ChatTemplate::Recognize(program);
    return true;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnimplemented);
    return false;
  }
}

TEST(ChatTemplateGolden, WordsAreWhatJinjaReads) {
  for (const Element item : Golden().root()["lexer"].get_array()) {
    const std::string program = TextOf(item, "program");
    const std::optional<JinjaWords> words = ReadJinjaWords(program);
    simdjson::dom::array texts;
    const bool is_valid = item["texts"].get(texts) == simdjson::SUCCESS;
    ASSERT_EQ(words.has_value(), is_valid) << program;
    if (!is_valid) continue;
    EXPECT_EQ(words->texts, ReadWords(item).texts) << program;
    EXPECT_EQ(words->names, ReadWords(item).names) << program;
  }
}

TEST(ChatTemplateGolden, RecognizesPublishedWords) {
  for (const Element item : Golden().root()["templates"].get_array()) {
    const std::string program = ProgramOf(ReadWords(item));
    ASSERT_TRUE(IsRecognized(program)) << TextOf(item, "name");
    EXPECT_EQ(ChatTemplate::Recognize(program).format(), FormatOf(TextOf(item, "format")))
        << TextOf(item, "name");
  }
}

// Faults planted: any one word of a published template changed, or one more name in it.
TEST(ChatTemplateGolden, RefusesAlteredWords) {
  for (const Element item : Golden().root()["templates"].get_array()) {
    const JinjaWords words = ReadWords(item);
    const std::string name = TextOf(item, "name");
    for (const std::string& text : words.texts) {
      JinjaWords altered = words;
      altered.texts.erase(text);
      altered.texts.insert(text + "!");
      EXPECT_FALSE(IsRecognized(ProgramOf(altered))) << name << ": " << text;
    }
    for (const std::string& identifier : words.names) {
      JinjaWords altered = words;
      altered.names.erase(identifier);
      altered.names.insert(identifier + "_2");
      EXPECT_FALSE(IsRecognized(ProgramOf(altered))) << name << ": " << identifier;
    }
    JinjaWords trimmed = words;
    trimmed.names.insert("trim");
    EXPECT_FALSE(IsRecognized(ProgramOf(trimmed))) << name;
  }
}

TEST(ChatTemplateGolden, RendersWhatJinjaRenders) {
  std::map<std::string, ChatTemplate> templates;
  for (const Element item : Golden().root()["templates"].get_array()) {
    templates.emplace(TextOf(item, "name"), ChatTemplate::Recognize(ProgramOf(ReadWords(item))));
  }
  size_t num_cases = 0;
  for (const Element item : Golden().root()["cases"].get_array()) {
    const std::string conversation = TextOf(item, "conversation");
    ChatTemplateOptions options;
    options.add_generation_prompt = item["add_generation_prompt"].get_bool();
    bool thinking = false;
    if (item["thinking"].get(thinking) == simdjson::SUCCESS) options.thinking = thinking;
    options.tools_json = TextOf(item, "tools");
    const std::vector<ChatMessage> messages =
        ReadMessages(Golden().root()["conversations"].at_key(conversation));
    const ChatPrompt prompt = templates.at(TextOf(item, "template")).Render(messages, options);
    EXPECT_EQ(prompt.Text(), TextOf(item, "expected"))
        << TextOf(item, "template") << ", " << conversation;
    for (size_t i = 0; i < prompt.pieces.size(); ++i) {
      EXPECT_FALSE(prompt.pieces[i].text.empty());
      EXPECT_TRUE(i == 0 || prompt.pieces[i].is_control || prompt.pieces[i - 1].is_control);
    }
    ++num_cases;
  }
  EXPECT_GT(num_cases, 700u);
}

// The real program of V3, from its published tokenizer.
TEST(ChatTemplateGolden, RecognizesTheFileOfV3) {
  const std::string path =
      BALEEN_SOURCE_DIR "/../shared/data/tokenizers/deepseek-v3/tokenizer_config.json";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "no shared/data beside this checkout";
  const JsonDocument config = JsonDocument::Parse(ReadFile(path, 1 << 20), path);
  const std::string program = TextOf(config.root(), "chat_template");
  const ChatTemplate chat = ChatTemplate::Recognize(program);
  EXPECT_EQ(chat.format(), ChatFormat::kDeepSeekV3);
  EXPECT_TRUE(chat.traits().joins_systems);
  EXPECT_EQ(chat.traits().result_separator, "\n");
  EXPECT_FALSE(IsRecognized(program + "\nBe good."));
  EXPECT_FALSE(IsRecognized(program + "{{ 'x' }}"));
  EXPECT_TRUE(IsRecognized(program + "\n"));
}

// With the directory that the generator read, its programs themselves.
TEST(ChatTemplateGolden, RecognizesPublishedFiles) {
  const char* directory = std::getenv("BALEEN_CHAT_TEMPLATES");
  if (directory == nullptr) GTEST_SKIP() << "set BALEEN_CHAT_TEMPLATES to the templates' directory";
  for (const Element item : Golden().root()["templates"].get_array()) {
    const std::string name = TextOf(item, "name");
    const std::string program = ReadFile(std::string(directory) + "/" + name + ".jinja", 1 << 20);
    const std::optional<JinjaWords> words = ReadJinjaWords(program);
    ASSERT_TRUE(words.has_value()) << name;
    EXPECT_EQ(words->texts, ReadWords(item).texts) << name;
    EXPECT_EQ(words->names, ReadWords(item).names) << name;
    EXPECT_EQ(ChatTemplate::Recognize(program).format(), FormatOf(TextOf(item, "format"))) << name;
  }
}

}  // namespace
}  // namespace baleen
