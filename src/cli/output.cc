#include "cli/output.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/error.h"

namespace baleen {

namespace {

[[noreturn]] void FailOutput() {
  Throw(ErrorCode::kResourceExhausted, "standard output: {}", std::strerror(errno));
}

std::string Scaled(double value, std::array<std::string_view, 5> units) {
  size_t i = 0;
  while (value >= 999.95 && i + 1 < units.size()) {
    value /= 1000;
    ++i;
  }
  return i == 0 ? fmt::format("{:.0f}{}", value, units[0])
                : fmt::format("{:.1f}{}", value, units[i]);
}

}  // namespace

Json ToJson(const Spread& spread) {
  return {{"median", spread.median}, {"min", spread.min}, {"max", spread.max}};
}

void Print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) FailOutput();
}

void PrintJson(const Json& json) {
  // Text of a model may end within a character.
  Print(json.dump(2, ' ', false, Json::error_handler_t::replace));
  Print("\n");
}

void FlushOutput() {
  if (std::fflush(stdout) != 0) FailOutput();
}

void Note(std::string_view line) { fmt::print(stderr, "{}\n", line); }

void PrintNotes(const ModelInfo& info) {
  for (const std::string& note : info.notes) Note(info.name + ": " + note);
}

bool StdinIsTerminal() { return isatty(STDIN_FILENO) != 0; }
bool StdoutIsTerminal() { return isatty(STDOUT_FILENO) != 0; }
bool StderrIsTerminal() { return isatty(STDERR_FILENO) != 0; }

std::string ForTerminal(std::string_view text) {
  std::string shown;
  shown.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const auto next = i + 1 < text.size() ? static_cast<unsigned char>(text[i + 1]) : 0;
    if ((byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7f) {
      // U+2400 and on: "control pictures"
      shown += byte == 0x7f ? "\u2421" : fmt::format("\xe2\x90{}", static_cast<char>(0x80 + byte));
    } else if (byte == 0xc2 && next >= 0x80 && next < 0xa0) {  // U+0080 to U+009F
      shown += "\ufffd";
      ++i;
    } else {
      shown += text[i];
    }
  }
  return shown;
}

std::string HumanBytes(uint64_t bytes) {
  return Scaled(static_cast<double>(bytes), {" bytes", " kB", " MB", " GB", " TB"});
}

std::string HumanCount(uint64_t count) {
  return Scaled(static_cast<double>(count), {"", " k", " M", " B", " T"});
}

std::string ReadStdin() {
  std::string text;
  std::array<char, 65536> buffer;
  while (const size_t count = std::fread(buffer.data(), 1, buffer.size(), stdin)) {
    text.append(buffer.data(), count);
    if (text.size() > kMaxTextBytes) {
      Throw(ErrorCode::kInvalidArgument, "standard input holds more than {} bytes; use a file",
            kMaxTextBytes);
    }
  }
  if (std::ferror(stdin)) {
    Throw(ErrorCode::kNotFound, "standard input: {}", std::strerror(errno));
  }
  return text;
}

}  // namespace baleen
