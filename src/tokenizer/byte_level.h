// tokenizer/byte_level.h: the printable spelling of bytes in vocabulary files.
//
// Byte-level BPE files write each byte of a token as one character: the printable bytes 21-7E,
// A1-AC and AE-FF as themselves, the other 68 as U+0100 and up, in order (openai/gpt-2,
// encoder.py).
#ifndef BALEEN_TOKENIZER_BYTE_LEVEL_H_
#define BALEEN_TOKENIZER_BYTE_LEVEL_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace baleen {

// Appends the bytes that `spelling` stands for. False, with `bytes` as before, if it has a
// character that stands for no byte, as the names of most special tokens do.
bool AppendFromByteLevel(std::string_view spelling, std::string* bytes);

// Appends the spelling of `bytes`.
void AppendByteLevel(std::string_view bytes, std::string* spelling);

// All bytes in the order of the characters that spell them, which is that of their ids in
// vocabularies that `tokenizers` has trained.
const std::array<uint8_t, 256>& ByteLevelOrder();

}  // namespace baleen

#endif  // BALEEN_TOKENIZER_BYTE_LEVEL_H_
