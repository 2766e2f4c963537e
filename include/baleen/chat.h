// baleen/chat.h: a conversation, as the chat APIs and the command line hand it over.
//
// Plain data; the standard library only.
#ifndef BALEEN_CHAT_H_
#define BALEEN_CHAT_H_

#include <string>
#include <vector>

namespace baleen {

// A call of a tool that the model asked for.
struct ToolCall {
  std::string id;              // as given to the client; empty: none
  std::string name;            // of the function
  std::string arguments_json;  // a JSON object as text, used as it is
};

// One turn. `role` is "system", "user", "assistant" or "tool"; other roles are refused by templates
// that do not know them.
struct ChatMessage {
  std::string role;
  std::string content;
  std::string reasoning_content;     // assistant: what stood between <think> and </think>
  std::string name;                  // optional, of the speaker or the tool
  std::vector<ToolCall> tool_calls;  // assistant
  std::string tool_call_id;          // tool: which call this answers
};

// How a model writes a call of a tool.
enum class ToolCallFormat {
  kNone,         // no way of its own
  kDeepSeekV3,   // type, name, and a fenced JSON block between the markers
  kDeepSeekV31,  // name and bare JSON between the markers
  kKimiK2,       // id "functions.NAME:INDEX" and bare JSON between the markers
};

}  // namespace baleen

#endif  // BALEEN_CHAT_H_
