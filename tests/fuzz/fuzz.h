// tests/fuzz/fuzz.h: what every fuzz target holds its parser to.
//
// Outside input may be refused only by an Error that blames it (kCorruption, kUnimplemented or
// kInvalidArgument), in one line of bounded length. Anything else, like a crash, ends the run and
// leaves the input behind.
#ifndef BALEEN_TESTS_FUZZ_FUZZ_H_
#define BALEEN_TESTS_FUZZ_FUZZ_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "baleen/error.h"
#include "base/check.h"

namespace baleen::fuzz {

inline std::string_view Text(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// Runs `parse`; true if it accepted the input.
template <typename Parse>
bool Accepts(const Parse& parse) {
  try {
    parse();
    return true;
  } catch (const Error& error) {
    const std::string_view message = error.what();
    BALEEN_CHECK(error.code() == ErrorCode::kCorruption ||
                 error.code() == ErrorCode::kUnimplemented ||
                 error.code() == ErrorCode::kInvalidArgument);
    BALEEN_CHECK(!message.empty() && message.size() <= Error::kMaxMessageBytes);
    for (const char c : message) BALEEN_CHECK(static_cast<unsigned char>(c) >= 0x20);
    return false;
  }
}

}  // namespace baleen::fuzz

#endif  // BALEEN_TESTS_FUZZ_FUZZ_H_
