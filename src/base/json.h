// base/json.h: strict JSON for files that come from outside (simdjson underneath).
//
// Errors: Error{kCorruption} with the source's name, and the key where there is one. Depth is
// limited to kMaxDepth. Duplicate keys stay visible to whoever iterates an object.
// Threads: a JsonDocument is immutable after Parse.
#ifndef BALEEN_BASE_JSON_H_
#define BALEEN_BASE_JSON_H_

#include <simdjson.h>

#include <memory>
#include <string>
#include <string_view>

namespace baleen {

class JsonDocument {
 public:
  static constexpr size_t kMaxDepth = 64;

  // Parses all of `text`; `source` names the file in errors. The text is copied.
  static JsonDocument Parse(std::string_view text, std::string source);

  simdjson::dom::element root() const { return root_; }
  // The root as an object; throws when it is something else.
  simdjson::dom::object object() const;
  // A string of the root, which must be an object; lives as long as this.
  std::string_view String(std::string_view key) const;
  const std::string& source() const { return source_; }

 private:
  JsonDocument() = default;

  std::unique_ptr<simdjson::dom::parser> parser_;
  simdjson::dom::element root_;
  std::string source_;
};

// Reads a whole file, refusing one larger than `max_bytes`. Error{kNotFound} if it can't be read,
// Error{kCorruption} if it is larger.
std::string ReadFile(const std::string& path, size_t max_bytes);

}  // namespace baleen

#endif  // BALEEN_BASE_JSON_H_
