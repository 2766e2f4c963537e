#include "base/json.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/quote.h"

namespace baleen {

JsonDocument JsonDocument::Parse(std::string_view text, std::string source) {
  JsonDocument document;
  document.source_ = std::move(source);
  document.parser_ = std::make_unique<simdjson::dom::parser>();
  auto error = document.parser_->allocate(text.size() + 1, kMaxDepth);
  if (!error) error = document.parser_->parse(text.data(), text.size()).get(document.root_);
  if (error) {
    Throw(ErrorCode::kCorruption, "{}: not valid JSON: {}", document.source_,
          simdjson::error_message(error));
  }
  return document;
}

simdjson::dom::object JsonDocument::object() const {
  simdjson::dom::object object;
  if (root_.get(object)) {
    Throw(ErrorCode::kCorruption, "{}: expected a JSON object at the top level", source_);
  }
  return object;
}

std::string_view JsonDocument::String(std::string_view key) const {
  simdjson::dom::element value;
  if (object()[key].get(value)) {
    Throw(ErrorCode::kCorruption, "{}: the object has no field {}", source_, Quote(key));
  }
  std::string_view text;
  if (value.get(text)) {
    Throw(ErrorCode::kCorruption, "{}: the field {} is not a string", source_, Quote(key));
  }
  return text;
}

std::string ReadFile(const std::string& path, size_t max_bytes) {
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored) && !std::filesystem::is_regular_file(path, ignored)) {
    Throw(ErrorCode::kNotFound, "{}: not a regular file", path);  // opening a pipe would wait
  }
  std::ifstream stream(path, std::ios::binary | std::ios::ate);
  if (!stream) {
    Throw(ErrorCode::kNotFound, "{}: cannot be opened: {}", path, std::strerror(errno));
  }
  const std::streamoff size = stream.tellg();
  if (size < 0) Throw(ErrorCode::kNotFound, "{}: cannot be read", path);
  if (static_cast<size_t>(size) > max_bytes) {
    Throw(ErrorCode::kCorruption, "{}: {} bytes, more than the {} that such a file may have", path,
          size, max_bytes);
  }
  std::string content(static_cast<size_t>(size), '\0');
  stream.seekg(0);
  if (size > 0 && !stream.read(content.data(), size)) {
    Throw(ErrorCode::kNotFound, "{}: cannot be read: {}", path, std::strerror(errno));
  }
  return content;
}

}  // namespace baleen
