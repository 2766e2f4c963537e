// base/sanitized_testing.h: whether the code under test was built with a sanitizer, with which it
// takes ten times as long. A test may then repeat itself less or use fewer tokens, on the same
// paths.
#ifndef BALEEN_BASE_SANITIZED_TESTING_H_
#define BALEEN_BASE_SANITIZED_TESTING_H_

#include <string_view>

namespace baleen {

inline constexpr std::string_view kSanitizer = BALEEN_SANITIZER;  // "address", "thread" or none
inline constexpr bool kSanitized = !kSanitizer.empty();

}  // namespace baleen

#endif  // BALEEN_BASE_SANITIZED_TESTING_H_
