// cli/chat.h: a conversation in the terminal.
//
// Each turn gives the engine the whole conversation. A model without a chat template gets each line
// as a text to go on with.
#ifndef BALEEN_CLI_CHAT_H_
#define BALEEN_CLI_CHAT_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "baleen/engine.h"
#include "cli/answer.h"

namespace baleen {

struct ChatSettings {
  std::string system;  // the first message; empty: none
  ChatOptions template_options;
  AnswerOptions answer;
  bool completion = false;  // lines are texts to go on with
};

// Reads standard input, a terminal, until Ctrl-D (0) or a Ctrl-C that follows another (130).
int RunChat(Engine& engine, ChatSettings settings);

// Conversations as files: {"model": .., "messages": [{"role": .., "content": ..}, ..]}.
std::string ConversationToJson(std::string_view model, const std::vector<ChatMessage>& messages);
// `source` names the file in errors. Error{kCorruption}.
std::vector<ChatMessage> ConversationFromJson(std::string_view json, const std::string& source);

// The prompt of one turn or text, ready for Answer.
Prompt MakeChatPrompt(const Engine& engine, const std::vector<ChatMessage>& messages,
                      const ChatOptions& options);
Prompt MakeTextPrompt(const Engine& engine, std::string_view text);

}  // namespace baleen

#endif  // BALEEN_CLI_CHAT_H_
