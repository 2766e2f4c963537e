#include "training/documents.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "base/json_lines.h"
#include "tensor/mapped_file.h"
#include "tokenizer/utf8.h"
#include "training/find_files.h"

namespace baleen {
namespace {

// What makes `text` no text, for a message; nullopt if it is UTF-8 without zero bytes.
std::optional<std::string> ReasonAgainst(std::string_view text) {
  for (size_t pos = 0; pos < text.size();) {
    if (const auto byte = static_cast<uint8_t>(text[pos]); byte < 0x80) {
      if (byte == 0) return fmt::format("a zero byte at {}; it is binary", pos);
      ++pos;
      continue;
    }
    const Utf8Char c = DecodeUtf8(text.substr(pos));
    if (c.code_point == Utf8Char::kBroken) {
      return fmt::format("byte {} is not UTF-8; it is binary, or in another encoding", pos);
    }
    pos += c.num_bytes;
  }
  return std::nullopt;
}

// Where to end a part of `text`, which is longer than a document may be: after a line if possible,
// and never inside a character.
size_t EndOfPart(std::string_view text) {
  const size_t line_end = text.rfind('\n', Documents::kMaxTextBytes - 1);
  if (line_end != std::string_view::npos) return line_end + 1;
  size_t end = Documents::kMaxTextBytes;
  while ((static_cast<uint8_t>(text[end]) & 0xC0) == 0x80) --end;
  return end;
}

std::string_view View(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

}  // namespace

Documents::Documents(DocumentOptions options) : options_(std::move(options)) {
  if (options_.paths.empty()) Throw(ErrorCode::kInvalidArgument, "no data is named");
  std::set<std::string> seen;
  for (uint32_t path_idx = 0; path_idx < options_.paths.size(); ++path_idx) {
    FoundFiles found = FindFiles(options_.paths[path_idx]);
    for (std::string& file : found.paths) {
      if (!seen.insert(std::filesystem::weakly_canonical(file).string()).second) continue;
      const bool is_jsonl = file.ends_with(".jsonl") || file.ends_with(".ndjson");
      files_.push_back({std::move(file), is_jsonl, found.is_named, path_idx});
    }
  }
}

Documents::ScanResult Documents::Scan(
    uint32_t file, FunctionRef<void(const DocumentPlace&, std::string_view)> visit) const {
  const SourceFile& source = files_[file];
  const MappedFile mapped(source.path);
  const std::string_view content = View(mapped);
  ScanResult result{.bytes = content.size()};
  std::optional<std::string> reason;
  if (IsBlank(content)) {
    reason = content.empty() ? "the file is empty" : "the file has nothing but white space";
  } else if (!source.is_jsonl) {
    reason = ReasonAgainst(content);
  }
  if (reason) {
    if (source.is_named) Throw(ErrorCode::kCorruption, "{}: {}", source.path, *reason);
    result.is_text = false;
  } else if (source.is_jsonl) {
    ScanLines(file, content, visit, &result);
  } else {
    ScanText(file, content, visit, &result);
  }
  return result;
}

void Documents::ScanText(uint32_t file, std::string_view content,
                         FunctionRef<void(const DocumentPlace&, std::string_view)> visit,
                         ScanResult* result) const {
  const auto add = [&](size_t begin, size_t end) {
    const std::string_view text = content.substr(begin, end - begin);
    if (IsBlank(text)) {
      ++result->empty;
      return;
    }
    ++result->documents;
    visit({begin, static_cast<uint32_t>(text.size()), file}, text);
  };
  const std::string& separator = options_.separator;
  for (size_t begin = 0; begin < content.size();) {
    const size_t separator_begin = separator.empty()
                                       ? content.size()
                                       : std::min(content.find(separator, begin), content.size());
    while (separator_begin - begin > kMaxTextBytes) {
      const size_t end = begin + EndOfPart(content.substr(begin));
      add(begin, end);
      begin = end;
    }
    add(begin, separator_begin);
    begin = separator_begin + separator.size();
  }
}

void Documents::ScanLines(uint32_t file, std::string_view content,
                          FunctionRef<void(const DocumentPlace&, std::string_view)> visit,
                          ScanResult* result) const {
  ForEachJsonLine(content, files_[file].path, [&](const JsonLine& line) {
    const std::string_view text = line.document.String(options_.text_field);
    if (IsBlank(text)) {
      ++result->empty;
      return;
    }
    ++result->documents;
    visit({line.offset, static_cast<uint32_t>(line.size), file}, text);
  });
}

std::string Documents::Read(const DocumentPlace& place) const {
  const SourceFile& source = files_[place.file];
  std::ifstream stream(source.path, std::ios::binary);
  std::string bytes(place.size, '\0');
  stream.seekg(static_cast<std::streamoff>(place.offset));
  if (!stream.read(bytes.data(), static_cast<std::streamsize>(bytes.size()))) {
    Throw(ErrorCode::kCorruption, "{}: changed since training began, it is shorter now",
          source.path);
  }
  if (!source.is_jsonl) return bytes;
  return std::string(JsonDocument::Parse(bytes, source.path).String(options_.text_field));
}

}  // namespace baleen
