#include "server/fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "server/api_error.h"

namespace baleen {

using simdjson::dom::array;
using simdjson::dom::element;

namespace {

// As a whole number, also when it is written 1.0 or 1e3.
std::optional<int64_t> ToInteger(element value) {
  int64_t integer;
  if (!value.get_int64().get(integer)) return integer;
  double real;
  if (value.get_double().get(real) || real != std::floor(real)) return std::nullopt;
  if (!(real >= -0x1p53 && real <= 0x1p53)) return std::nullopt;
  return static_cast<int64_t>(real);
}

}  // namespace

void Fields::Refuse(std::string_view name, std::string_view what) const {
  const std::string path = PathOf(name);
  throw ApiError(400, fmt::format("{} must be {}", path, what), path);
}

std::optional<element> Fields::Any(std::string_view name) const {
  read_->insert(PathOf(name));
  element value;
  if (object_.at_key(name).get(value) || value.is_null()) return std::nullopt;
  return value;
}

std::optional<std::string> Fields::String(std::string_view name) const {
  const auto value = Any(name);
  if (!value) return std::nullopt;
  std::string_view text;
  if (value->get_string().get(text)) Refuse(name, "a string");
  return std::string(text);
}

std::optional<bool> Fields::Bool(std::string_view name) const {
  const auto value = Any(name);
  if (!value) return std::nullopt;
  bool boolean;
  if (value->get_bool().get(boolean)) Refuse(name, "true or false");
  return boolean;
}

std::optional<int64_t> Fields::Integer(std::string_view name, int64_t min, int64_t max) const {
  const auto value = Any(name);
  if (!value) return std::nullopt;
  const auto integer = ToInteger(*value);
  if (!integer || *integer < min || *integer > max) {
    Refuse(name, max == std::numeric_limits<int64_t>::max()
                     ? fmt::format("an integer, at least {}", min)
                     : fmt::format("an integer from {} to {}", min, max));
  }
  return integer;
}

std::optional<double> Fields::Number(std::string_view name, double min, double max) const {
  const auto value = Any(name);
  if (!value) return std::nullopt;
  double number;
  if (value->get_double().get(number) || !(number >= min && number <= max)) {
    Refuse(name, fmt::format("a number from {} to {}", min, max));
  }
  return number;
}

std::optional<Fields> Fields::Object(std::string_view name) const {
  const auto value = Any(name);
  if (!value) return std::nullopt;
  simdjson::dom::object object;
  if (value->get_object().get(object)) Refuse(name, "an object");
  Fields fields(object, PathOf(name) + ".");
  fields.read_ = read_;
  return fields;
}

std::optional<array> Fields::Array(std::string_view name) const {
  const auto value = Any(name);
  if (!value) return std::nullopt;
  array list;
  if (value->get_array().get(list)) Refuse(name, "an array");
  return list;
}

std::vector<std::string> Fields::Unread() const {
  std::vector<std::string> unread;
  for (const auto [name, value] : object_) {
    const std::string path = PathOf(name);
    if (value.is_null()) continue;
    if (!read_->contains(path)) {
      unread.push_back(path);
      continue;
    }
    simdjson::dom::object object;
    const auto within = read_->lower_bound(path + ".");
    const bool is_read_within = within != read_->end() && within->starts_with(path + ".");
    if (!is_read_within || value.get_object().get(object)) continue;
    Fields fields(object, path + ".");
    fields.read_ = read_;
    std::ranges::move(fields.Unread(), std::back_inserter(unread));
  }
  return unread;
}

std::vector<int32_t> Fields::Ids(std::string_view name) const {
  const auto list = Array(name);
  return list ? IdsOf(*list, PathOf(name)) : std::vector<int32_t>{};
}

std::vector<int32_t> IdsOf(array list, const std::string& param) {
  std::vector<int32_t> ids;
  for (const element item : list) {
    const auto id = ToInteger(item);
    if (!id || *id < 0 || *id > std::numeric_limits<int32_t>::max()) {
      throw ApiError(400, fmt::format("{} must be a list of token ids", param), param);
    }
    ids.push_back(static_cast<int32_t>(*id));
  }
  return ids;
}

JsonDocument ParseBody(const std::string& body) {
  try {
    JsonDocument document = JsonDocument::Parse(body, "the body of the request");
    document.object();
    return document;
  } catch (const Error& error) {
    throw ApiError(400, error.what(), "", "invalid_json");
  }
}

}  // namespace baleen
