#include "tokenizer/reasoning_parser.h"

#include <algorithm>
#include <utility>

namespace baleen {
namespace {

constexpr std::string_view kOpenTag = "<think>";
constexpr std::string_view kCloseTag = "</think>";

// Length of the longest end of `text` that is a proper beginning of `tag`.
size_t HeldLength(std::string_view text, std::string_view tag) {
  size_t length = std::min(text.size(), tag.size() - 1);
  while (length > 0 && !text.ends_with(tag.substr(0, length))) --length;
  return length;
}

}  // namespace

ReasoningParser::State ReasoningParser::First(ReasoningStart start) {
  switch (start) {
    case ReasoningStart::kNone:
      return State::kContent;
    case ReasoningStart::kModelOpens:
      return State::kUndecided;
    case ReasoningStart::kOpen:
      return State::kReasoning;
  }
  return State::kContent;
}

ReasoningDelta ReasoningParser::Push(std::string_view text) {
  ReasoningDelta delta;
  held_ += text;
  if (state_ == State::kUndecided) {
    const size_t first = std::min(held_.find_first_not_of(" \t\r\n"), held_.size());
    const std::string_view answer = std::string_view(held_).substr(first);
    if (answer.starts_with(kOpenTag)) {
      held_.erase(0, first + kOpenTag.size());
      state_ = State::kReasoning;
    } else if (!kOpenTag.starts_with(answer)) {
      state_ = State::kContent;
    }
  }
  if (state_ == State::kReasoning) {
    const size_t close = held_.find(kCloseTag);
    const bool closed = close != std::string::npos;
    const size_t length = closed ? close : held_.size() - HeldLength(held_, kCloseTag);
    delta.reasoning = held_.substr(0, length);
    held_.erase(0, length + (closed ? kCloseTag.size() : 0));
    if (closed) state_ = State::kContent;
  }
  if (state_ == State::kContent) delta.content = std::exchange(held_, {});
  return delta;
}

ReasoningDelta ReasoningParser::Flush() {
  ReasoningDelta delta;
  (state_ == State::kReasoning ? delta.reasoning : delta.content) = std::exchange(held_, {});
  state_ = First(start_);
  return delta;
}

}  // namespace baleen
