#include "baleen/error.h"

namespace baleen {

const char* ErrorCodeName(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInternal:
      return "internal error";
    case ErrorCode::kInvalidArgument:
      return "invalid argument";
    case ErrorCode::kNotFound:
      return "not found";
    case ErrorCode::kCorruption:
      return "damaged file";
    case ErrorCode::kUnimplemented:
      return "not supported";
    case ErrorCode::kResourceExhausted:
      return "not enough memory or disk";
    case ErrorCode::kFailed:
      return "failed";
    case ErrorCode::kCancelled:
      return "interrupted";
  }
  return "unknown error";
}

}  // namespace baleen
