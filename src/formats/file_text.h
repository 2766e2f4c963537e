// formats/file_text.h: text as bytes of a file and back, and files that are taken for another kind.
#ifndef BALEEN_FORMATS_FILE_TEXT_H_
#define BALEEN_FORMATS_FILE_TEXT_H_

#include <cstddef>
#include <span>
#include <string_view>

namespace baleen {

inline std::string_view AsText(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

inline std::span<const std::byte> AsBytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// What people hand over instead of the format that is read, by its first bytes.
struct Lookalike {
  std::string_view magic;
  const char* advice;
};

}  // namespace baleen

#endif  // BALEEN_FORMATS_FILE_TEXT_H_
