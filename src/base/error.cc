#include "baleen/error.h"

#include <fmt/format.h>

#include <string>

namespace baleen {

namespace {

bool IsControl(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

// The message without its middle, cut between characters of UTF-8.
std::string Cut(std::string_view message) {
  constexpr size_t kHead = 1400, kTail = 500;
  size_t head = kHead;
  size_t tail = message.size() - kTail;
  while (head > 0 && IsContinuation(message[head])) --head;
  while (tail < message.size() && IsContinuation(message[tail])) ++tail;
  return fmt::format("{} [{} bytes left out] {}", message.substr(0, head), tail - head,
                     message.substr(tail));
}

std::string OneLine(std::string_view message) {
  std::string line;
  for (const char c : message) {
    if (IsControl(c)) {
      line += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      line += c;
    }
  }
  return line.size() <= Error::kMaxMessageBytes ? line : Cut(line);
}

}  // namespace

Error::Error(ErrorCode code, std::string_view message)
    : std::runtime_error(OneLine(message)), code_(code) {}

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
