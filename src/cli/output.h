// cli/output.h: what the verbs write, and where: results on standard output, all else on standard
// error.
#ifndef BALEEN_CLI_OUTPUT_H_
#define BALEEN_CLI_OUTPUT_H_

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "baleen/engine.h"
#include "evaluation/throughput.h"

namespace baleen {

// Keys stay in the order in which they were set.
using Json = nlohmann::ordered_json;

// {"median": .., "min": .., "max": ..}
Json ToJson(const Spread& spread);

// Writes to standard output; Error{kResourceExhausted} if nobody takes it (a full disk).
void Print(std::string_view text);
void PrintJson(const Json& json);
void FlushOutput();

// One line on standard error.
void Note(std::string_view line);
// What Engine::Open found that a user should know.
void PrintNotes(const ModelInfo& info);

bool StdinIsTerminal();
bool StdoutIsTerminal();
bool StderrIsTerminal();

// Text from outside that is shown on a terminal: control characters, which could rewrite the screen
// or the clipboard, become visible signs. Newlines and tabs stay.
std::string ForTerminal(std::string_view text);

// "1.5 GB", by powers of ten.
std::string HumanBytes(uint64_t bytes);
// "15.7 B", "2.1 M": numbers of parameters.
std::string HumanCount(uint64_t count);

// The items with `separator` between them. (fmt::join makes GCC 12 warn of fmt itself.)
template <typename Range>
std::string Join(const Range& items, std::string_view separator) {
  std::string joined;
  for (const auto& item : items) {
    if (!joined.empty()) joined += separator;
    joined += fmt::format("{}", item);
  }
  return joined;
}

// The most that is read of a text, from a file or from standard input.
inline constexpr size_t kMaxTextBytes = 1'000'000'000;
// All of standard input. Error{kInvalidArgument} beyond kMaxTextBytes.
std::string ReadStdin();

}  // namespace baleen

#endif  // BALEEN_CLI_OUTPUT_H_
