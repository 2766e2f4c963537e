#include "tokenizer/utf8.h"

namespace baleen {

Utf8Char DecodeUtf8(std::string_view text) {
  const auto byte = [text](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return {lead, 1, false};

  // The second byte's range depends on the first: no overlong forms, no surrogates, no more than
  // U+10FFFF (Unicode standard, table 3-7).
  uint32_t length;
  uint32_t code_point;
  uint8_t low = 0x80;
  uint8_t high = 0xBF;
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
    code_point = lead & 0x1F;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    code_point = lead & 0x0F;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    code_point = lead & 0x07;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return {Utf8Char::kBroken, 1, false};
  }
  for (uint32_t i = 1; i < length; ++i) {
    if (i == text.size()) return {Utf8Char::kBroken, i, true};
    if (byte(i) < low || byte(i) > high) return {Utf8Char::kBroken, i, false};
    code_point = code_point << 6 | (byte(i) & 0x3F);
    low = 0x80;
    high = 0xBF;
  }
  return {code_point, length, false};
}

void AppendUtf8(uint32_t code_point, std::string* out) {
  const auto put = [out](uint32_t byte) { out->push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | code_point >> 6);
    put(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    put(0xE0 | code_point >> 12);
    put(0x80 | (code_point >> 6 & 0x3F));
    put(0x80 | (code_point & 0x3F));
  } else {
    put(0xF0 | code_point >> 18);
    put(0x80 | (code_point >> 12 & 0x3F));
    put(0x80 | (code_point >> 6 & 0x3F));
    put(0x80 | (code_point & 0x3F));
  }
}

size_t AppendValidUtf8(std::string_view text, std::string* out) {
  size_t pos = 0;
  size_t valid_begin = 0;  // from here to pos all is well-formed and not yet appended
  while (pos < text.size()) {
    const Utf8Char c = DecodeUtf8(text.substr(pos));
    if (c.code_point == Utf8Char::kBroken) {
      out->append(text, valid_begin, pos - valid_begin);
      if (c.is_truncated) return pos;
      out->append(kReplacementCharacter);
      valid_begin = pos + c.num_bytes;
    }
    pos += c.num_bytes;
  }
  out->append(text, valid_begin);
  return pos;
}

}  // namespace baleen
