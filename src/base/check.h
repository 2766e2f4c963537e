// base/check.h: checks for our own bugs. What outside input can cause is a baleen::Error instead.
//
// CHECK is always on and stands at module borders; DCHECK is for loops and is compiled out of
// release builds. Both abort with the expression and its place.
#ifndef BALEEN_BASE_CHECK_H_
#define BALEEN_BASE_CHECK_H_

namespace baleen {

[[noreturn]] void CheckFailed(const char* expression, const char* file, int line);

}  // namespace baleen

#define BALEEN_CHECK(condition) \
  ((condition) ? (void)0 : ::baleen::CheckFailed(#condition, __FILE__, __LINE__))

#ifdef NDEBUG
#define BALEEN_DCHECK(condition) ((void)0)
#else
#define BALEEN_DCHECK(condition) BALEEN_CHECK(condition)
#endif

#endif  // BALEEN_BASE_CHECK_H_
