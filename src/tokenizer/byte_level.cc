#include "tokenizer/byte_level.h"

#include <array>
#include <cstdint>

#include "tokenizer/utf8.h"

namespace baleen {
namespace {

constexpr int kNumSpellings = 0x100 + 68;  // one past the last character that spells a byte
constexpr int16_t kNone = -1;

constexpr std::array<int16_t, kNumSpellings> MakeByteOfCharacter() {
  std::array<int16_t, kNumSpellings> byte_of{};
  byte_of.fill(kNone);
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool is_printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
    byte_of[is_printable ? byte : next++] = static_cast<int16_t>(byte);
  }
  return byte_of;
}

constexpr std::array<int16_t, kNumSpellings> kByteOfCharacter = MakeByteOfCharacter();

constexpr std::array<uint16_t, 256> MakeCharacterOfByte() {
  std::array<uint16_t, 256> character_of{};
  for (int character = 0; character < kNumSpellings; ++character) {
    const int byte = kByteOfCharacter[character];
    if (byte != kNone) character_of[byte] = static_cast<uint16_t>(character);
  }
  return character_of;
}

constexpr std::array<uint16_t, 256> kCharacterOfByte = MakeCharacterOfByte();

constexpr std::array<uint8_t, 256> MakeByteLevelOrder() {
  std::array<uint8_t, 256> order{};
  size_t size = 0;
  for (const int byte : kByteOfCharacter) {
    if (byte != kNone) order[size++] = static_cast<uint8_t>(byte);
  }
  return order;
}

constexpr std::array<uint8_t, 256> kByteLevelOrder = MakeByteLevelOrder();

}  // namespace

bool AppendFromByteLevel(std::string_view spelling, std::string* bytes) {
  const size_t size_before = bytes->size();
  for (size_t i = 0; i < spelling.size(); ++i) {
    // All spellings are below U+0800, so that one or two bytes decide. Other bytes map to kNone.
    int character = static_cast<uint8_t>(spelling[i]);
    if (character >= 0xC2 && character <= 0xC5 && i + 1 < spelling.size()) {
      const int tail = static_cast<uint8_t>(spelling[i + 1]);
      character = (tail & 0xC0) == 0x80 ? (character & 0x1F) << 6 | (tail & 0x3F) : kNumSpellings;
      ++i;
    } else if (character >= 0x80) {
      character = kNumSpellings;
    }
    if (character >= kNumSpellings || kByteOfCharacter[character] == kNone) {
      bytes->resize(size_before);
      return false;
    }
    bytes->push_back(static_cast<char>(kByteOfCharacter[character]));
  }
  return true;
}

void AppendByteLevel(std::string_view bytes, std::string* spelling) {
  for (const char byte : bytes) AppendUtf8(kCharacterOfByte[static_cast<uint8_t>(byte)], spelling);
}

const std::array<uint8_t, 256>& ByteLevelOrder() { return kByteLevelOrder; }

}  // namespace baleen
