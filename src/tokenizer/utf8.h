// tokenizer/utf8.h: decoding of UTF-8 that may be broken.
//
// Broken input is cut as the Unicode standard recommends (section 3.9, "maximal subparts") and as
// Python's errors="replace" and Rust's from_utf8_lossy do: one U+FFFD for each maximal prefix of a
// well-formed sequence, or for a byte that starts none.
#ifndef BALEEN_TOKENIZER_UTF8_H_
#define BALEEN_TOKENIZER_UTF8_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace baleen {

// U+FFFD in UTF-8.
inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

struct Utf8Char {
  // What a broken sequence decodes to; no character has it.
  static constexpr uint32_t kBroken = 0x110000;

  uint32_t code_point;
  uint32_t num_bytes;  // at least 1
  bool is_truncated;   // broken only because the text ends: more bytes could complete it
};

// The first character of `text`, which is not empty.
Utf8Char DecodeUtf8(std::string_view text);

// Appends `code_point`, a Unicode scalar value.
void AppendUtf8(uint32_t code_point, std::string* out);

// Appends `text` with U+FFFD for what is broken. A truncated character at the end is left out;
// returns the number of bytes used, so that the caller can keep the rest for later.
size_t AppendValidUtf8(std::string_view text, std::string* out);

}  // namespace baleen

#endif  // BALEEN_TOKENIZER_UTF8_H_
