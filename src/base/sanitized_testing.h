// base/sanitized_testing.h: whether the code under test was built with a sanitizer, with which it
// takes ten times as long. A test may then repeat itself less or use fewer tokens, on the same
// paths.
#ifndef BALEEN_BASE_SANITIZED_TESTING_H_
#define BALEEN_BASE_SANITIZED_TESTING_H_

namespace baleen {

inline constexpr bool kSanitized = BALEEN_SANITIZED;

}  // namespace baleen

#endif  // BALEEN_BASE_SANITIZED_TESTING_H_
