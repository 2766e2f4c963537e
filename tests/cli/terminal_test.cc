// The chat, with a person's keys.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "cli/program.h"

namespace baleen::cli_test {
namespace {

constexpr const char* kPrompt = ">>> ";
constexpr const char* kCtrlC = "\x03";
constexpr const char* kCtrlD = "\x04";
constexpr const char* kUp = "\x1b[A";

class ChatTest : public testing::Test {
 protected:
  void SetUp() override { MakeChatModel(model_.path(), GoldenTemplate("deepseek-v3.1-rev1")); }

  Arguments Chat(Arguments more = {}) const {
    Arguments arguments = {"run", model_.path(), "--temperature", "0", "--max-tokens", "8"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }

  ScratchDirectory model_;
  ScratchDirectory state_;
};

TEST_F(ChatTest, AnswersAndLeaves) {
  Terminal terminal(Chat(), state_.path());
  ASSERT_TRUE(terminal.WaitFor(kPrompt)) << terminal.pending();
  terminal.Type("Once upon a time\r");
  ASSERT_TRUE(terminal.WaitFor(kPrompt)) << terminal.pending();
  terminal.Type("/stats\r");
  ASSERT_TRUE(terminal.WaitFor("of 512 tokens used")) << terminal.pending();
  EXPECT_NE(terminal.seen().find("answers  8 tokens"), std::string::npos) << terminal.seen();
  ASSERT_TRUE(terminal.WaitFor(kPrompt));
  terminal.Type(kCtrlD);
  EXPECT_EQ(terminal.WaitForEnd(), 0) << terminal.pending();
}

TEST_F(ChatTest, SavesAndLoadsTheConversation) {
  const std::string file = state_.path() + "/talk.json";
  Terminal terminal(Chat({"--system", "Be brief."}), state_.path());
  ASSERT_TRUE(terminal.WaitFor(kPrompt));
  terminal.Type("Hello\r");
  ASSERT_TRUE(terminal.WaitFor(kPrompt));
  terminal.Type("/save " + file + "\r");
  ASSERT_TRUE(terminal.WaitFor("saved 3 messages")) << terminal.pending();
  ASSERT_TRUE(terminal.WaitFor(kPrompt));
  std::ifstream stream(file);
  const nlohmann::json saved = nlohmann::json::parse(stream);
  EXPECT_EQ(saved["messages"][0]["content"], "Be brief.");
  EXPECT_EQ(saved["messages"][1]["content"], "Hello");
  EXPECT_EQ(saved["messages"][2]["role"], "assistant");

  terminal.Type("/system Be kind.\r");
  ASSERT_TRUE(terminal.WaitFor(kPrompt));
  terminal.Type("/clear\r");
  ASSERT_TRUE(terminal.WaitFor(kPrompt));
  terminal.Type("/system\r");
  ASSERT_TRUE(terminal.WaitFor("\nBe kind.")) << terminal.pending();
  ASSERT_TRUE(terminal.WaitFor(kPrompt));
  terminal.Type("/load " + file + "\r");
  ASSERT_TRUE(terminal.WaitFor("loaded 3 messages")) << terminal.pending();
  ASSERT_TRUE(terminal.WaitFor(kPrompt));
  terminal.Type("/system\r");
  ASSERT_TRUE(terminal.WaitFor("\nBe brief.")) << terminal.pending();
}

TEST_F(ChatTest, GoesOnAfterAnError) {
  Terminal terminal(Chat(), state_.path());
  ASSERT_TRUE(terminal.WaitFor(kPrompt));
  terminal.Type("/load /no/such/file\r");
  ASSERT_TRUE(terminal.WaitFor("baleen run: /no/such/file")) << terminal.pending();
  terminal.Type("/dance\r");
  ASSERT_TRUE(terminal.WaitFor("baleen run: /dance: no such command")) << terminal.pending();
  ASSERT_TRUE(terminal.WaitFor(kPrompt));
  std::string long_text;
  for (int i = 0; i < 150; ++i) long_text += "zebra quartz ";
  terminal.Type(long_text + "\r");
  ASSERT_TRUE(terminal.WaitFor("but the context holds 512")) << terminal.pending();
  ASSERT_TRUE(terminal.WaitFor(kPrompt));
  // The turn that failed is not part of the conversation.
  terminal.Type("Hello\r");
  ASSERT_TRUE(terminal.WaitFor(kPrompt));
  EXPECT_EQ(terminal.seen().find("context holds"), std::string::npos) << terminal.seen();
}

TEST_F(ChatTest, DimsReasoning) {
  Terminal terminal(Chat({"--think"}), state_.path());
  ASSERT_TRUE(terminal.WaitFor(kPrompt));
  terminal.Type("Hello\r");
  ASSERT_TRUE(terminal.WaitFor("\x1b[2m")) << terminal.pending();
  ASSERT_TRUE(terminal.WaitFor("\x1b[0m")) << terminal.pending();
}

TEST_F(ChatTest, StopsTheAnswerThenTheProgram) {
  Terminal terminal(
      {"run", StoriesModel(), "--temperature", "0", "--isa", "scalar", "--precision", "f32"},
      state_.path());
  ASSERT_TRUE(terminal.WaitFor(kPrompt));
  terminal.Type("Once upon a time\r");
  ASSERT_TRUE(terminal.WaitFor(", there")) << terminal.pending();
  terminal.Type(kCtrlC);
  ASSERT_TRUE(terminal.WaitFor(kPrompt)) << terminal.pending();
  terminal.Type("/stats\r");  // alive, and this was no second Ctrl-C in a row
  ASSERT_TRUE(terminal.WaitFor(kPrompt)) << terminal.pending();
  terminal.Type(kCtrlC);
  ASSERT_TRUE(terminal.WaitFor("Ctrl-C again")) << terminal.pending();
  ASSERT_TRUE(terminal.WaitFor(kPrompt));
  terminal.Type(kCtrlC);
  EXPECT_EQ(terminal.WaitForEnd(), 130) << terminal.pending();
}

TEST_F(ChatTest, KeepsAHistoryForItsOwnerOnly) {
  {
    Terminal terminal(Chat(), state_.path());
    ASSERT_TRUE(terminal.WaitFor(kPrompt));
    terminal.Type("/system wörds to find\r");
    ASSERT_TRUE(terminal.WaitFor(kPrompt));
    terminal.Type(kCtrlD);
    EXPECT_EQ(terminal.WaitForEnd(), 0) << terminal.pending();
  }
  struct stat status = {};
  ASSERT_EQ(stat((state_.path() + "/baleen/history").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  Terminal terminal(Chat(), state_.path());
  ASSERT_TRUE(terminal.WaitFor(kPrompt));
  terminal.Type(kUp);
  EXPECT_TRUE(terminal.WaitFor("wörds to find")) << terminal.pending();
}

TEST_F(ChatTest, JoinsLinesThatEndInABackslash) {
  Terminal terminal(Chat(), state_.path());
  ASSERT_TRUE(terminal.WaitFor(kPrompt));
  terminal.Type("/system one\\\r");
  ASSERT_TRUE(terminal.WaitFor("... ")) << terminal.pending();
  terminal.Type("two\r");
  ASSERT_TRUE(terminal.WaitFor(kPrompt));
  terminal.Type("/system\r");
  EXPECT_TRUE(terminal.WaitFor("one\r\ntwo")) << terminal.pending();
}

}  // namespace
}  // namespace baleen::cli_test
