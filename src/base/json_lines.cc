#include "base/json_lines.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace baleen {

bool IsBlank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n\f\v") == std::string_view::npos;
}

void ForEachJsonLine(std::string_view content, const std::string& path,
                     FunctionRef<void(const JsonLine&)> visit) {
  size_t number = 0;
  for (size_t begin = 0; begin < content.size();) {
    ++number;
    const size_t end = std::min(content.find('\n', begin), content.size());
    const std::string_view line = content.substr(begin, end - begin);
    const size_t offset = std::exchange(begin, end + 1);
    if (IsBlank(line)) continue;
    std::string name = fmt::format("{}, line {}", path, number);
    if (line.size() > kMaxJsonLineBytes) {
      Throw(ErrorCode::kCorruption, "{}: {} bytes, more than the {} that a line may have", name,
            line.size(), kMaxJsonLineBytes);
    }
    const JsonDocument document = JsonDocument::Parse(line, std::move(name));
    visit({document, offset, line.size()});
  }
}

}  // namespace baleen
