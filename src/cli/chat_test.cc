#include "cli/chat.h"

#include <gtest/gtest.h>

#include "baleen/error.h"

namespace baleen {
namespace {

TEST(Conversation, SurvivesAFile) {
  const std::vector<ChatMessage> messages = {
      {.role = "system", .content = "Be brief."},
      {.role = "user", .content = "\"Hi\"\n世"},
      {.role = "assistant", .content = "Hello", .reasoning_content = "A greeting."}};
  const std::string json = ConversationToJson("some-model", messages);
  const std::vector<ChatMessage> read = ConversationFromJson(json, "file.json");
  ASSERT_EQ(read.size(), 3u);
  for (size_t i = 0; i < read.size(); ++i) {
    EXPECT_EQ(read[i].role, messages[i].role);
    EXPECT_EQ(read[i].content, messages[i].content);
    EXPECT_EQ(read[i].reasoning_content, messages[i].reasoning_content);
  }
}

TEST(Conversation, IsRefusedWithTheFileAndTheFault) {
  const std::string deep = std::string(100'000, '[');
  const std::string cases[] = {"",
                               "{",
                               "[]",
                               R"({"messages": 5})",
                               R"({"messages": [5]})",
                               R"({"messages": [{"role": "tool", "content": "x"}]})",
                               R"({"messages": [{"role": 1}]})",
                               deep};
  for (const std::string& json : cases) {
    try {
      ConversationFromJson(json, "file.json");
      ADD_FAILURE() << json.substr(0, 80);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kCorruption);
      EXPECT_EQ(std::string(error.what()).rfind("file.json: ", 0), 0u) << error.what();
    }
  }
}

}  // namespace
}  // namespace baleen
