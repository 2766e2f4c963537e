// tokenizer/reasoning_parser.h: splits an answer into reasoning and content while it streams.
//
// Feed the detokenized text as it comes; a tag may be cut anywhere. Text that could still become a
// tag is held back until the next Push or Flush. Everything up to the first </think> is reasoning,
// everything after it is content, whatever it contains; the tags themselves are dropped.
// Threads: one owner.
#ifndef BALEEN_TOKENIZER_REASONING_PARSER_H_
#define BALEEN_TOKENIZER_REASONING_PARSER_H_

#include <string>
#include <string_view>

#include "tokenizer/chat_template.h"

namespace baleen {

struct ReasoningDelta {
  std::string reasoning;
  std::string content;
};

class ReasoningParser {
 public:
  // `start` is what ChatPrompt::reasoning says. With kModelOpens an answer that does not begin with
  // <think> (whitespace apart) is content from its first byte.
  explicit ReasoningParser(ReasoningStart start) : start_(start) {}

  ReasoningDelta Push(std::string_view text);
  // The end of the answer: what was held back. Then the parser is ready for a next answer.
  ReasoningDelta Flush();

  // Whether the text so far ends inside reasoning.
  bool in_reasoning() const { return state_ == State::kReasoning; }

 private:
  enum class State { kUndecided, kReasoning, kContent };
  static State First(ReasoningStart start);

  ReasoningStart start_;
  State state_ = First(start_);
  std::string held_;  // kUndecided: all so far; kReasoning: a proper prefix of </think>
};

}  // namespace baleen

#endif  // BALEEN_TOKENIZER_REASONING_PARSER_H_
