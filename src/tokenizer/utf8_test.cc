#include "tokenizer/utf8.h"

#include <gtest/gtest.h>

#include <string>

#include "tokenizer/byte_level.h"
#include "tokenizer/unicode.h"

namespace baleen {
namespace {

// `text` with U+FFFD shown as '?', and what is left at the end as a number.
std::string Shown(std::string_view text) {
  std::string valid;
  const size_t used = AppendValidUtf8(text, &valid);
  std::string shown;
  while (!valid.empty()) {
    const bool is_replacement = valid.starts_with(kReplacementCharacter);
    shown += is_replacement ? "?" : valid.substr(0, 1);
    valid.erase(0, is_replacement ? 3 : 1);
  }
  return shown + std::to_string(text.size() - used);
}

// Expected values: Python's bytes.decode(errors="replace"), and what an incremental decoder keeps.
TEST(Utf8Test, BrokenSequences) {
  EXPECT_EQ(Shown("abc"), "abc0");
  EXPECT_EQ(Shown("a\xFF"
                  "b"),
            "a?b0");
  EXPECT_EQ(Shown("\x80\xBFz"), "??z0");
  EXPECT_EQ(Shown("\xC0\xAFz"), "??z0");            // overlong
  EXPECT_EQ(Shown("\xE0\x80\x80z"), "???z0");       // overlong
  EXPECT_EQ(Shown("\xED\xA0\x80z"), "???z0");       // surrogate
  EXPECT_EQ(Shown("\xF4\x90\x80\x80z"), "????z0");  // beyond U+10FFFF
  EXPECT_EQ(Shown("\xE4\xB8z"), "?z0");             // one for a maximal prefix
  EXPECT_EQ(Shown("\xF0\x9F\x98z"), "?z0");
  EXPECT_EQ(Shown("a\xF0\x9F\x98"), "a3");
  EXPECT_EQ(Shown("a\xC3"), "a1");
  EXPECT_EQ(Shown("a\xED\xA0"), "a??0");
}

TEST(Utf8Test, RoundTripOfAllScalarValues) {
  for (uint32_t code_point = 0; code_point < 0x110000; ++code_point) {
    if (code_point >= 0xD800 && code_point < 0xE000) continue;
    std::string text;
    AppendUtf8(code_point, &text);
    const Utf8Char c = DecodeUtf8(text);
    ASSERT_EQ(c.code_point, code_point);
    ASSERT_EQ(c.num_bytes, text.size());
  }
}

TEST(ByteLevelTest, Spellings) {
  std::string bytes = "x";
  EXPECT_TRUE(
      AppendFromByteLevel("\u0120the\u010A\u0100\u0143\u00FF", &bytes));  // GPT-2's encoder.py
  EXPECT_EQ(bytes, std::string("x the\n\0\xAD\xFF", 9));
  for (const char* not_spelled : {"a b", "\u0144", "\u00AD", "<\uFF5C>", "\xC4", "\xFF", "\n"}) {
    EXPECT_FALSE(AppendFromByteLevel(not_spelled, &bytes)) << not_spelled;
    EXPECT_EQ(bytes.size(), 9u);
  }
}

// Code points whose classes are known from the Unicode Character Database.
TEST(CharClassTableTest, KnownCharacters) {
  const CharClassTable& classes = CharClassTable::Get();
  EXPECT_EQ(classes['A'], kUpper);
  EXPECT_EQ(classes['z'], kLower);
  EXPECT_EQ(classes['7'], kNumber | kDigit);
  EXPECT_EQ(classes['\n'], kSpace);
  EXPECT_EQ(classes[0x1C], 0);
  EXPECT_EQ(classes[0x01C5], kUpper);  // titlecase
  EXPECT_EQ(classes[0x4E2D], kCaseless | kHan);
  EXPECT_EQ(classes[0x3007], kNumber | kDigit | kHan);
  EXPECT_EQ(classes[0x0301], kMark);
  EXPECT_EQ(classes[0x1F600], kPunctOrSymbol);
  EXPECT_EQ(classes[0x20000], kCaseless | kHan);
  EXPECT_EQ(classes[0x0378], 0);  // unassigned
  EXPECT_EQ(classes[0x10FFFF], 0);
  EXPECT_EQ(classes[Utf8Char::kBroken], 0);
  EXPECT_EQ(classes[0x1C89], kUpper);  // new in Unicode 16
}

}  // namespace
}  // namespace baleen
