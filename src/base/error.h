// base/error.h: formatting helpers for baleen::Error.
#ifndef BALEEN_BASE_ERROR_H_
#define BALEEN_BASE_ERROR_H_

#include <fmt/format.h>

#include <utility>

#include "baleen/error.h"

namespace baleen {

// Throws Error{code} with a formatted message. Use: Throw(ErrorCode::kCorruption, "{}: ...", path).
template <typename... Args>
[[noreturn]] void Throw(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace baleen

#endif  // BALEEN_BASE_ERROR_H_
