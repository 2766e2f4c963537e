// server/tool_calls.h: tools as a client states them, and the calls that models write.
//
// Each family of models has its own marks around a call; they are listed once, and the grammar that
// holds an answer to them and the parser that reads them back are made of the same list. A model
// without marks of its own gets a prompt that states some (docs/serving.md).
// Token path: engine -> ReasoningSplitter -> [ToolCallParser] -> deltas.
#ifndef BALEEN_SERVER_TOOL_CALLS_H_
#define BALEEN_SERVER_TOOL_CALLS_H_

#include <string>
#include <string_view>
#include <vector>

#include "baleen/chat.h"
#include "baleen/grammar.h"
#include "server/fields.h"

namespace baleen {

struct Tool {
  std::string name;
  std::string function_json;    // as the client sent it
  std::string parameters_json;  // a JSON Schema of an object
  bool strict = false;
};

// `tools`, `tool_choice` and `parallel_tool_calls` of a request.
struct ToolRequest {
  enum class Choice { kNone, kAuto, kRequired, kNamed };
  std::vector<Tool> tools;
  std::string tools_json;  // the list as it was sent; empty: none
  Choice choice = Choice::kNone;
  std::string name;  // kNamed
  bool parallel = true;
};

// ApiError 400 for what is wrong with them.
ToolRequest ReadTools(const Fields& fields);

// What may stand in an answer: with kNone and kAuto, text; with all but kNone, calls. `content` is
// the form of the text, if one was asked for.
GrammarSpec AnswerWithCalls(ToolCallFormat format, const ToolRequest& request,
                            const GrammarSpec* content);

// For a model without a format of its own: states tools in the system's message, and spells calls
// and results in the history as text.
void SpellToolsAsText(const ToolRequest& request, std::vector<ChatMessage>& messages);

// Reads an answer while it grows. Marks may be cut anywhere; text that could still become one is
// held back. An answer that ends within a call leaves what there is of it.
class ToolCallParser {
 public:
  struct Call {
    size_t index = 0;     // of the call in the answer
    bool begins = false;  // then the id and the name are set, and come no more
    std::string id;       // the model's, where the format has one; else empty
    std::string name;
    std::string arguments;  // more of them
  };
  struct Delta {
    std::string content;
    std::vector<Call> calls;
  };

  explicit ToolCallParser(ToolCallFormat format);

  Delta Push(std::string_view text);
  Delta Flush();

 private:
  enum class State { kContent, kBetween, kHeader, kArguments };

  bool Advance(Delta& delta);
  void TakeContent(std::string text, Delta& delta);
  void BeginCall(std::string_view header, Delta& delta);

  ToolCallFormat format_;
  State state_ = State::kContent;
  std::string held_;
  std::string blank_;  // white space at the answer's beginning: no content if calls follow
  bool has_content_ = false;
  size_t num_calls_ = 0;
};

}  // namespace baleen

#endif  // BALEEN_SERVER_TOOL_CALLS_H_
