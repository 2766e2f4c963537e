// base/sanitized_testing.h: whether a test was built with a sanitizer, under which computing takes
// ten times as long. A test may then repeat itself less or use fewer tokens, on the same paths.
#ifndef BALEEN_BASE_SANITIZED_TESTING_H_
#define BALEEN_BASE_SANITIZED_TESTING_H_

namespace baleen {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

}  // namespace baleen

#endif  // BALEEN_BASE_SANITIZED_TESTING_H_
