// base/json_lines.h: files with a JSON object a line (.jsonl, .ndjson).
#ifndef BALEEN_BASE_JSON_LINES_H_
#define BALEEN_BASE_JSON_LINES_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "base/function_ref.h"
#include "base/json.h"

namespace baleen {

// A line may be this long.
inline constexpr size_t kMaxJsonLineBytes = size_t{1} << 26;

// White space that ASCII has, and nothing else.
bool IsBlank(std::string_view text);

struct JsonLine {
  const JsonDocument& document;  // its source is "PATH, line N"
  size_t offset = 0;             // in the content
  size_t size = 0;               // without the newline
};

// Calls `visit` for each line of `content` that is not blank. Error{kCorruption}, with `path` and
// the line's number: a line that is not valid JSON or too long.
void ForEachJsonLine(std::string_view content, const std::string& path,
                     FunctionRef<void(const JsonLine&)> visit);

}  // namespace baleen

#endif  // BALEEN_BASE_JSON_LINES_H_
