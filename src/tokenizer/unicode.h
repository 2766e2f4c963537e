// tokenizer/unicode.h: the character classes that the pre-tokenizers' patterns name.
//
// Unicode 16 as the engine of the pinned `tokenizers` has it (tools/unicode_tables.py).
#ifndef BALEEN_TOKENIZER_UNICODE_H_
#define BALEEN_TOKENIZER_UNICODE_H_

#include <array>
#include <cstdint>

namespace baleen {

// A set of flags; the first seven exclude each other. Values are those of unicode_tables.inc.
enum CharClass : uint16_t {
  kUpper = 0x01,          // \p{Lu} \p{Lt}
  kLower = 0x02,          // \p{Ll}
  kCaseless = 0x04,       // \p{Lm} \p{Lo}
  kMark = 0x08,           // \p{M}
  kNumber = 0x10,         // \p{N}
  kPunctOrSymbol = 0x20,  // \p{P} \p{S}
  kSpace = 0x40,          // \s
  kHan = 0x80,            // \p{Han}, the script
  kDigit = 0x100,         // what the Digits pre-tokenizer isolates: \p{N} and a few more

  kLetter = kUpper | kLower | kCaseless,
};

// Immutable and shared; made at the first call of Get().
class CharClassTable {
 public:
  static const CharClassTable& Get();

  // The flags of any value; 0 for an unassigned code point and for what is no code point.
  uint16_t operator[](uint32_t code_point) const {
    return code_point < bmp_.size() ? bmp_[code_point] : Supplementary(code_point);
  }

 private:
  CharClassTable();
  static uint16_t Supplementary(uint32_t code_point);

  std::array<uint16_t, 0x10000> bmp_;
};

}  // namespace baleen

#endif  // BALEEN_TOKENIZER_UNICODE_H_
