// server/fields.h: reads a JSON object from a client, field by field.
//
// A field that is absent or null is unset; one of the wrong type or out of range is ApiError 400
// with its path as `param`. Fields that nobody asks for are ignored, as every client expects; which
// these were, Unread says.
// simdjson underneath: depth is limited, strings are valid UTF-8.
#ifndef BALEEN_SERVER_FIELDS_H_
#define BALEEN_SERVER_FIELDS_H_

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace baleen {

class Fields {
 public:
  // `path` stands before names in errors: "messages[0].".
  explicit Fields(simdjson::dom::object object, std::string path = "")
      : object_(object), path_(std::move(path)) {}

  std::optional<std::string> String(std::string_view name) const;
  std::optional<bool> Bool(std::string_view name) const;
  std::optional<int64_t> Integer(std::string_view name, int64_t min, int64_t max) const;
  std::optional<double> Number(std::string_view name, double min, double max) const;
  std::optional<Fields> Object(std::string_view name) const;
  std::optional<simdjson::dom::array> Array(std::string_view name) const;
  // Whatever it is.
  std::optional<simdjson::dom::element> Any(std::string_view name) const;
  // A list of integers such as token ids.
  std::vector<int32_t> Ids(std::string_view name) const;

  // Paths of what was given and nobody has asked for, also within objects whose fields were asked
  // for. What stands in lists has Fields of its own.
  std::vector<std::string> Unread() const;

  const simdjson::dom::object& object() const { return object_; }
  std::string PathOf(std::string_view name) const { return path_ + std::string(name); }
  // Throws ApiError 400: `name` must be `what`.
  [[noreturn]] void Refuse(std::string_view name, std::string_view what) const;

 private:
  simdjson::dom::object object_;
  std::string path_;
  // Paths that were asked for; shared with the objects within this one.
  std::shared_ptr<std::set<std::string, std::less<>>> read_ =
      std::make_shared<std::set<std::string, std::less<>>>();
};

// The ids of a list; ApiError 400 for `param`.
std::vector<int32_t> IdsOf(simdjson::dom::array list, const std::string& param);

// Parses a request's body, which must be an object. ApiError 400.
JsonDocument ParseBody(const std::string& body);

}  // namespace baleen

#endif  // BALEEN_SERVER_FIELDS_H_
