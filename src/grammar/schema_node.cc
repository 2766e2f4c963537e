#include "grammar/schema_node.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "grammar/pattern.h"

namespace baleen::grammar {

using simdjson::dom::array;
using simdjson::dom::element;
using simdjson::dom::object;

namespace {

constexpr size_t kMaxConjunction = 1000;

std::optional<element> Find(element schema, std::string_view key) {
  object fields;
  element value;
  if (schema.get_object().get(fields) || fields.at_key(key).get(value)) return std::nullopt;
  return value;
}

std::optional<double> Number(const SchemaItem& item, std::string_view key) {
  const auto value = Find(item.schema, key);
  if (!value || value->is_bool()) return std::nullopt;
  double number;
  if (value->get_double().get(number))
    RefuseSchema(std::string(key) + " must be a number", item.path);
  return number;
}

std::optional<size_t> Count(const SchemaItem& item, std::string_view key) {
  const auto number = Number(item, key);
  if (!number) return std::nullopt;
  if (*number < 0 || *number != std::floor(*number) || *number > 1e15) {
    RefuseSchema(std::string(key) + " must be a whole number from 0", item.path);
  }
  return static_cast<size_t>(*number);
}

// A name in a JSON pointer.
std::string Unescape(std::string_view token) {
  std::string name;
  for (size_t i = 0; i < token.size(); ++i) {
    if (token[i] == '~' && i + 1 < token.size() && (token[i + 1] == '0' || token[i + 1] == '1')) {
      name += token[++i] == '0' ? '~' : '/';
    } else if (token[i] == '%' && i + 2 < token.size()) {
      name +=
          static_cast<char>(std::strtol(std::string(token.substr(i + 1, 2)).c_str(), nullptr, 16));
      i += 2;
    } else {
      name += token[i];
    }
  }
  return name;
}

std::string Escape(std::string_view name) {
  std::string token;
  for (const char c : name) {
    if (c == '~') {
      token += "~0";
    } else if (c == '/') {
      token += "~1";
    } else {
      token += c;
    }
  }
  return token;
}

bool IsTrue(std::optional<element> value) {
  bool boolean = false;
  return value && !value->get_bool().get(boolean) && boolean;
}

bool IsFalse(std::optional<element> value) {
  bool boolean = true;
  return value && !value->get_bool().get(boolean) && !boolean;
}

array List(const SchemaItem& item, std::string_view key, element value) {
  array list;
  if (value.get_array().get(list)) RefuseSchema(std::string(key) + " must be a list", item.path);
  return list;
}

object Map(const SchemaItem& item, std::string_view key, element value) {
  object map;
  if (value.get_object().get(map)) RefuseSchema(std::string(key) + " must be an object", item.path);
  return map;
}

SchemaItem Child(const SchemaItem& item, std::string_view key, element schema) {
  return {schema, item.path + "/" + std::string(key)};
}

Dfa AllTextsBut(std::string_view text) {
  std::vector<Expr> points;
  for (const Symbol point : CodePoints(text)) points.push_back(Symbols({{point, point}}));
  const Expr any = Symbols(ComplementOfCharacters({}));
  return Difference(ToDfa(Repeat(any, 0, kUnlimited)), ToDfa(Sequence(std::move(points))));
}

unsigned TypesNamed(std::string_view name, const std::string& path) {
  if (name == "null") return kNull;
  if (name == "boolean") return kBoolean;
  if (name == "integer") return kInteger;
  if (name == "number") return kInteger | kFraction;
  if (name == "string") return kString;
  if (name == "array") return kArray;
  if (name == "object") return kObject;
  RefuseSchema("has an unknown type \"" + std::string(name) + "\"", path);
}

}  // namespace

void RefuseSchema(const std::string& what, const std::string& path) {
  Throw(ErrorCode::kInvalidArgument, "the schema is not valid: {} at {}", what, path);
}

SchemaType TypeOf(element value) {
  switch (value.type()) {
    case simdjson::dom::element_type::NULL_VALUE:
      return kNull;
    case simdjson::dom::element_type::BOOL:
      return kBoolean;
    case simdjson::dom::element_type::INT64:
    case simdjson::dom::element_type::UINT64:
      return kInteger;
    case simdjson::dom::element_type::DOUBLE: {
      const double number = value.get_double().value_unsafe();
      return number == std::floor(number) ? kInteger : kFraction;
    }
    case simdjson::dom::element_type::STRING:
      return kString;
    case simdjson::dom::element_type::ARRAY:
      return kArray;
    case simdjson::dom::element_type::OBJECT:
      return kObject;
  }
  return kNull;
}

void SchemaReader::Unsupported(const std::string& what, const std::string& path) {
  if (strict_) {
    Throw(ErrorCode::kUnimplemented,
          "the schema's {} at {} is not supported under strict; leave it out, or strict", what,
          path);
  }
  const std::string note = what + " at " + path;
  if (std::ranges::find(ignored_, note) == ignored_.end()) ignored_.push_back(note);
}

SchemaItem SchemaReader::Resolve(std::string_view reference, const std::string& path) const {
  if (!reference.starts_with('#')) {
    Throw(ErrorCode::kInvalidArgument,
          "the schema refers to \"{}\" at {}: only references within it (#/...) are followed",
          reference, path);
  }
  SchemaItem item{root_, "#"};
  std::string_view rest = reference.substr(1);
  while (!rest.empty()) {
    const bool is_pointer = rest.starts_with('/');
    rest.remove_prefix(1);
    const size_t end = std::min(rest.find('/'), rest.size());
    const std::string name = Unescape(rest.substr(0, end));
    rest.remove_prefix(end);
    array list;
    std::optional<element> next = Find(item.schema, name);
    if (!item.schema.get_array().get(list) && !name.empty() &&
        std::ranges::all_of(name, [](char c) { return c >= '0' && c <= '9'; }) && name.size() < 7) {
      element value;
      if (!list.at(std::stoul(name)).get(value)) next = value;
    }
    if (!next || !is_pointer) {
      RefuseSchema("$ref \"" + std::string(reference) + "\" leads nowhere", path);
    }
    item.schema = *next;
    item.path += "/" + Escape(name);
  }
  return item;
}

Conjunction SchemaReader::Flatten(const Conjunction& items) const {
  Conjunction flat;
  std::vector<SchemaItem> work(items.rbegin(), items.rend());
  std::set<std::string> seen;
  const auto key = [](const SchemaItem& item) {
    return item.path + (item.any_of_chosen ? "!a" : "") + (item.one_of_chosen ? "!o" : "");
  };
  while (!work.empty()) {
    const SchemaItem item = work.back();
    work.pop_back();
    if (!seen.insert(key(item)).second) continue;
    if (seen.size() > kMaxConjunction) RefuseSchema("too many schemas for one value", item.path);
    bool boolean;
    if (!item.schema.get_bool().get(boolean)) {
      if (!boolean) flat.push_back(item);
      continue;
    }
    if (!item.schema.is_object()) RefuseSchema("a schema must be an object", item.path);
    flat.push_back(item);
    if (const auto all = Find(item.schema, "allOf")) {
      std::vector<SchemaItem> parts;
      for (const element part : List(item, "allOf", *all)) {
        parts.push_back(Child(item, "allOf/" + std::to_string(parts.size()), part));
      }
      work.insert(work.end(), parts.rbegin(), parts.rend());  // the first comes off first
    }
    if (const auto reference = Find(item.schema, "$ref")) {
      std::string_view text;
      if (reference->get_string().get(text)) RefuseSchema("$ref must be a string", item.path);
      work.push_back(Resolve(text, item.path));
    }
  }
  return flat;
}

SchemaNode SchemaReader::Read(const Conjunction& flat) {
  SchemaNode node;
  for (const SchemaItem& item : flat) {
    if (IsFalse(item.schema)) {
      node.is_false = true;
      continue;
    }
    ReadTypes(item, node);
    ReadValues(item, node);
    ReadNumbers(item, node);
    ReadStrings(item, node);
    ReadArrays(item, node);
    ReadObjects(item, node);
    NoteUnsupported(item);
  }
  for (const SchemaItem& item : flat) Exclude(item, node);  // from what all together leave
  return node;
}

void SchemaReader::Exclude(const SchemaItem& item, SchemaNode& node) {
  const auto schema = Find(item.schema, "not");
  if (!schema || IsFalse(schema)) return;
  static constexpr std::string_view kNotes[] = {"title", "description", "$comment", "default"};
  std::optional<element> type, values;
  bool is_simple = true;
  object fields;
  if (!schema->get_object().get(fields)) {
    for (const auto [key, value] : fields) {
      if (key == "type") {
        type = value;
      } else if (key == "enum" || key == "const") {
        is_simple = is_simple && !values;
        values = value;
      } else {
        is_simple = is_simple && std::ranges::find(kNotes, key) != std::end(kNotes);
      }
    }
  } else if (!IsTrue(schema)) {
    RefuseSchema("a schema must be an object", item.path + "/not");
  }
  if (is_simple && !type && !values) {
    node.is_false = true;  // not: {}
    return;
  }
  if (is_simple && type && !values) {
    SchemaNode excluded;
    ReadTypes(Child(item, "not", *schema), excluded);
    const unsigned left = node.types & ~excluded.types;
    // Fractions alone cannot be written: 1.0 is an integer too.
    is_simple = (left & (kInteger | kFraction)) != kFraction || (node.types & kInteger) == 0;
    if (is_simple) node.types = left;
  } else if (is_simple && values && !type) {
    array list;
    if (Find(*schema, "enum") && values->get_array().get(list)) {
      RefuseSchema("enum must be a list", item.path + "/not");
    }
    if (Find(*schema, "const")) {
      is_simple = ExcludeValue(*values, node);
    } else {
      for (const element value : list) is_simple = ExcludeValue(value, node) && is_simple;
    }
  } else {
    is_simple = false;
  }
  if (!is_simple) Unsupported("not", item.path);
}

bool SchemaReader::ExcludeValue(element value, SchemaNode& node) const {
  if (node.values) {
    std::erase_if(*node.values, [&](element other) {
      return TypeOf(other) == TypeOf(value) && simdjson::minify(other) == simdjson::minify(value);
    });
    // Numbers, lists and objects may be equal though they are written differently.
    return (TypeOf(value) & (kInteger | kFraction | kArray | kObject)) == 0 ||
           std::ranges::none_of(*node.values,
                                [&](element other) { return (TypeOf(other) == TypeOf(value)); });
  }
  const SchemaType type = TypeOf(value);
  if ((node.types & type) == 0) return true;
  if (type == kNull) {
    node.types &= ~kNull;
    return true;
  }
  if (type != kString) return false;
  node.patterns.push_back(AllTextsBut(value.get_string().value()));
  return true;
}

void SchemaReader::ReadTypes(const SchemaItem& item, SchemaNode& node) {
  const auto value = Find(item.schema, "type");
  if (!value) return;
  unsigned types = 0;
  std::string_view name;
  if (!value->get_string().get(name)) {
    types = TypesNamed(name, item.path);
  } else {
    for (const element part : List(item, "type", *value)) {
      if (part.get_string().get(name)) RefuseSchema("type must be made of strings", item.path);
      types |= TypesNamed(name, item.path);
    }
  }
  if (IsTrue(Find(item.schema, "nullable"))) types |= kNull;  // OpenAPI's
  node.types &= types;
}

void SchemaReader::ReadValues(const SchemaItem& item, SchemaNode& node) {
  std::vector<element> values;
  const auto constant = Find(item.schema, "const");
  const auto listed = Find(item.schema, "enum");
  if (!constant && !listed) return;
  if (listed) {
    for (const element value : List(item, "enum", *listed)) values.push_back(value);
  }
  const auto text = [](element value) { return simdjson::minify(value); };
  if (constant && listed) {
    std::erase_if(values, [&](element value) { return text(value) != text(*constant); });
  } else if (constant) {
    values = {*constant};
  }
  if (node.values) {
    std::erase_if(values, [&](element value) {
      return std::ranges::none_of(*node.values,
                                  [&](element other) { return text(other) == text(value); });
    });
  }
  node.values = std::move(values);
}

void SchemaReader::ReadNumbers(const SchemaItem& item, SchemaNode& node) {
  NumberBounds& bounds = node.numbers;
  const auto raise = [&](double value, bool exclusive) {
    if (bounds.minimum &&
        (*bounds.minimum > value || (*bounds.minimum == value && bounds.exclusive_minimum))) {
      return;
    }
    bounds.minimum = value;
    bounds.exclusive_minimum = exclusive;
  };
  const auto lower = [&](double value, bool exclusive) {
    if (bounds.maximum &&
        (*bounds.maximum < value || (*bounds.maximum == value && bounds.exclusive_maximum))) {
      return;
    }
    bounds.maximum = value;
    bounds.exclusive_maximum = exclusive;
  };
  // Before draft 6 the exclusive ones were true or false.
  if (const auto value = Number(item, "minimum")) {
    raise(*value, IsTrue(Find(item.schema, "exclusiveMinimum")));
  }
  if (const auto value = Number(item, "maximum")) {
    lower(*value, IsTrue(Find(item.schema, "exclusiveMaximum")));
  }
  if (const auto value = Number(item, "exclusiveMinimum")) raise(*value, true);
  if (const auto value = Number(item, "exclusiveMaximum")) lower(*value, true);
  if (const auto value = Number(item, "multipleOf")) {
    if (!(*value > 0)) RefuseSchema("multipleOf must be above 0", item.path);
    if (bounds.multiple_of && *bounds.multiple_of != *value) {
      Unsupported("second multipleOf", item.path);
    } else {
      bounds.multiple_of = value;
    }
  }
}

void SchemaReader::ReadStrings(const SchemaItem& item, SchemaNode& node) {
  if (const auto value = Count(item, "minLength"))
    node.min_length = std::max(node.min_length, *value);
  if (const auto value = Count(item, "maxLength"))
    node.max_length = std::min(node.max_length, *value);
  std::string_view text;
  if (const auto value = Find(item.schema, "pattern")) {
    if (value->get_string().get(text)) RefuseSchema("pattern must be a string", item.path);
    try {
      node.patterns.push_back(CompilePattern(text));
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kUnimplemented) throw;
      Unsupported("pattern (" + std::string(error.what()) + ")", item.path);
    }
  }
  if (const auto value = Find(item.schema, "format")) {
    if (value->get_string().get(text)) RefuseSchema("format must be a string", item.path);
    // A format that is not known is an annotation, as JSON Schema has it.
    if (const std::string_view pattern = FormatPattern(text); !pattern.empty()) {
      node.patterns.push_back(CompilePattern(pattern));
    }
  }
}

void SchemaReader::ReadArrays(const SchemaItem& item, SchemaNode& node) {
  if (const auto value = Count(item, "minItems")) node.min_items = std::max(node.min_items, *value);
  if (const auto value = Count(item, "maxItems")) node.max_items = std::min(node.max_items, *value);
  if (IsTrue(Find(item.schema, "uniqueItems"))) node.unique_items = true;
  SchemaNode::ArraySource source;
  // Before 2020-12 a list of `items` was what prefixItems is now.
  auto items = Find(item.schema, "items");
  const bool is_old = items && items->is_array();
  const std::string_view prefix_key = is_old ? "items" : "prefixItems";
  if (const auto prefix = Find(item.schema, prefix_key)) {
    for (const element part : List(item, prefix_key, *prefix)) {
      const std::string name = std::string(prefix_key) + "/" + std::to_string(source.prefix.size());
      source.prefix.push_back(Child(item, name, part));
    }
  }
  const std::string_view rest_key = is_old ? "additionalItems" : "items";
  if (const auto rest = Find(item.schema, rest_key)) source.rest = {Child(item, rest_key, *rest)};
  if (!source.prefix.empty() || !source.rest.empty()) node.arrays.push_back(std::move(source));
}

void SchemaReader::ReadObjects(const SchemaItem& item, SchemaNode& node) {
  if (const auto value = Count(item, "minProperties")) {
    node.min_properties = std::max(node.min_properties, *value);
  }
  if (const auto value = Count(item, "maxProperties")) {
    node.max_properties = std::min(node.max_properties, *value);
  }
  if (const auto required = Find(item.schema, "required"); required && !required->is_bool()) {
    for (const element part : List(item, "required", *required)) {
      std::string_view name;
      if (part.get_string().get(name)) RefuseSchema("required must be made of strings", item.path);
      if (node.required.emplace(name).second) node.required_order.emplace_back(name);
    }
  }
  if (const auto names = Find(item.schema, "propertyNames")) {
    node.property_names.push_back(Child(item, "propertyNames", *names));
  }
  SchemaNode::ObjectSource source;
  if (const auto properties = Find(item.schema, "properties")) {
    for (const auto [name, schema] : Map(item, "properties", *properties)) {
      source.properties.emplace_back(name, Child(item, "properties/" + Escape(name), schema));
    }
  }
  if (const auto patterns = Find(item.schema, "patternProperties")) {
    for (const auto [pattern, schema] : Map(item, "patternProperties", *patterns)) {
      const SchemaItem child = Child(item, "patternProperties/" + Escape(pattern), schema);
      try {
        source.patterns.emplace_back(CompilePattern(pattern), child);
      } catch (const Error& error) {
        if (error.code() != ErrorCode::kUnimplemented) throw;
        Unsupported("patternProperties (" + std::string(error.what()) + ")", item.path);
      }
    }
  }
  if (const auto additional = Find(item.schema, "additionalProperties")) {
    source.additional = Child(item, "additionalProperties", *additional);
  }
  if (!source.properties.empty() || !source.patterns.empty() || source.additional) {
    node.objects.push_back(std::move(source));
  }
}

void SchemaReader::NoteUnsupported(const SchemaItem& item) {
  static constexpr std::string_view kUnsupported[] = {
      "if",          "dependentSchemas", "dependentRequired", "dependencies",  "contains",
      "minContains", "maxContains",      "$dynamicRef",       "$recursiveRef", "unevaluatedItems"};
  for (const std::string_view key : kUnsupported) {
    if (Find(item.schema, key)) Unsupported(std::string(key), item.path);
  }
  // One property more than those that are named is never written unless it is asked for.
  const auto unevaluated = Find(item.schema, "unevaluatedProperties");
  if (unevaluated && !IsFalse(unevaluated)) Unsupported("unevaluatedProperties", item.path);
}

}  // namespace baleen::grammar
