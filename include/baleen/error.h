// baleen/error.h: the one exception type of the library.
//
// Thrown for anything that the outside can cause: a path, a file's content, a request, the size of
// the machine. The message is one line that says what, where, and what to do; it is fit to be shown
// to a user as it is, even where it repeats names from a hostile file: the constructor escapes
// control characters and cuts the middle out of what is longer than kMaxMessageBytes. Our own bugs
// are not Errors (see base/check.h). The library never prints and never exits.
#ifndef BALEEN_ERROR_H_
#define BALEEN_ERROR_H_

#include <cstddef>
#include <stdexcept>
#include <string_view>

namespace baleen {

// The value is the exit code of the command line for that code.
enum class ErrorCode {
  kInternal = 1,           // our own fault
  kInvalidArgument = 2,    // wrong use: an option out of range, a prompt too long, a busy port
  kNotFound = 3,           // a file or model that is not there
  kCorruption = 4,         // a file that is damaged or contradicts itself
  kUnimplemented = 5,      // valid, but not something this build computes
  kResourceExhausted = 6,  // not enough memory or disk
  kFailed = 7,             // the work itself failed (NaN loss, database gone)
  kCancelled = 130,        // interrupted by the user
};

// "invalid argument", "not found", ...
const char* ErrorCodeName(ErrorCode code);

class Error : public std::runtime_error {
 public:
  static constexpr size_t kMaxMessageBytes = 2000;

  Error(ErrorCode code, std::string_view message);
  ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace baleen

#endif  // BALEEN_ERROR_H_
