// baleen/error.h: the one exception type of the library.
//
// Thrown for anything that the outside can cause: a path, a file's content, a request, the size of
// the machine. The message is one line that says what, where, and what to do; it is fit to be shown
// to a user as it is. Our own bugs are not Errors (see base/check.h). The library never prints and
// never exits.
#ifndef BALEEN_ERROR_H_
#define BALEEN_ERROR_H_

#include <stdexcept>
#include <string>

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
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace baleen

#endif  // BALEEN_ERROR_H_
