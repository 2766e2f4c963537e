#include "tokenizer/reasoning_parser.h"

#include <gtest/gtest.h>

namespace baleen {
namespace {

struct Split {
  std::string reasoning;
  std::string content;
  bool operator==(const Split&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Split& split) {
  return out << "[" << split.reasoning << "][" << split.content << "]";
}

// The split of `text` fed in pieces of `size` bytes.
Split Parse(ReasoningStart start, std::string_view text, size_t size) {
  ReasoningParser parser(start);
  Split split;
  const auto add = [&](const ReasoningDelta& delta) {
    split.reasoning += delta.reasoning;
    split.content += delta.content;
  };
  for (size_t at = 0; at < text.size(); at += size) add(parser.Push(text.substr(at, size)));
  add(parser.Flush());
  return split;
}

TEST(ReasoningParser, SplitsTheSameWhateverThePieces) {
  struct Case {
    ReasoningStart start;
    std::string_view text;
    Split expected;
  };
  const Case cases[] = {
      {ReasoningStart::kOpen, "Hm.\n</think>\n\nYes.", {"Hm.\n", "\n\nYes."}},
      {ReasoningStart::kOpen, "never ends </thin", {"never ends </thin", ""}},
      {ReasoningStart::kOpen, "a</think>b</think>c", {"a", "b</think>c"}},
      {ReasoningStart::kOpen, "a<</</think>b", {"a<</", "b"}},
      {ReasoningStart::kOpen, "</think>", {"", ""}},
      {ReasoningStart::kOpen, "", {"", ""}},
      {ReasoningStart::kOpen, "思考</think>答え", {"思考", "答え"}},
      {ReasoningStart::kNone, "<think>x</think>y", {"", "<think>x</think>y"}},
      {ReasoningStart::kModelOpens, "<think>x</think>y", {"x", "y"}},
      {ReasoningStart::kModelOpens, " \n<think>\nx</think>y", {"\nx", "y"}},
      {ReasoningStart::kModelOpens, "y <think>x</think>", {"", "y <think>x</think>"}},
      {ReasoningStart::kModelOpens, " \n<thin", {"", " \n<thin"}},
      {ReasoningStart::kModelOpens, " <thinner", {"", " <thinner"}},
      {ReasoningStart::kModelOpens, "<think></think>y", {"", "y"}},
      {ReasoningStart::kModelOpens, " ", {"", " "}},
  };
  for (const Case& c : cases) {
    for (size_t size = 1; size <= c.text.size() + 1; ++size) {
      EXPECT_EQ(Parse(c.start, c.text, size), c.expected) << c.text << " by " << size;
    }
  }
}

TEST(ReasoningParser, HoldsBackOnlyWhatCouldBecomeATag) {
  ReasoningParser parser(ReasoningStart::kOpen);
  EXPECT_EQ(parser.Push("abc</th").reasoning, "abc");
  EXPECT_EQ(parser.Push("e</think").reasoning, "</the");
  EXPECT_TRUE(parser.in_reasoning());
  const ReasoningDelta delta = parser.Push(">done");
  EXPECT_EQ(delta.reasoning, "");
  EXPECT_EQ(delta.content, "done");
  EXPECT_FALSE(parser.in_reasoning());
  EXPECT_EQ(parser.Push("</think").content, "</think");
}

TEST(ReasoningParser, FlushStartsAnew) {
  ReasoningParser parser(ReasoningStart::kModelOpens);
  EXPECT_EQ(parser.Push("<think>a</think>b").content, "b");
  parser.Flush();
  const ReasoningDelta delta = parser.Push("<think>c</think>d");
  EXPECT_EQ(delta.reasoning, "c");
  EXPECT_EQ(delta.content, "d");
}

}  // namespace
}  // namespace baleen
