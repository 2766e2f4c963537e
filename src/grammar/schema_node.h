// grammar/schema_node.h: a JSON Schema as the set of constraints that it is.
//
// Several schemas may hold for one value ($ref with neighbours, allOf, a branch of anyOf and what
// stands beside it): such a Conjunction is read into one SchemaNode.
#ifndef BALEEN_GRAMMAR_SCHEMA_NODE_H_
#define BALEEN_GRAMMAR_SCHEMA_NODE_H_

#include <simdjson.h>

#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "grammar/automaton.h"
#include "grammar/json_text.h"

namespace baleen::grammar {

// A schema and where it stands ("#/properties/a").
struct SchemaItem {
  simdjson::dom::element schema;
  std::string path;
  bool any_of_chosen = false;  // a branch has been chosen: it stands beside
  bool one_of_chosen = false;
};
using Conjunction = std::vector<SchemaItem>;

enum SchemaType : unsigned {
  kNull = 1,
  kBoolean = 2,
  kInteger = 4,
  kFraction = 8,  // numbers that are not integers; "number" is both
  kString = 16,
  kArray = 32,
  kObject = 64,
  kEveryType = 127,
};

struct SchemaNode {
  struct ArraySource {
    std::vector<SchemaItem> prefix;
    Conjunction rest;
  };
  struct ObjectSource {
    std::vector<std::pair<std::string, SchemaItem>> properties;
    std::vector<std::pair<Dfa, SchemaItem>> patterns;
    std::optional<SchemaItem> additional;
  };

  bool is_false = false;
  unsigned types = kEveryType;
  std::optional<std::vector<simdjson::dom::element>> values;  // of enum and const
  NumberBounds numbers;
  size_t min_length = 0, max_length = kUnlimited;
  std::vector<Dfa> patterns;  // of formats too
  size_t min_items = 0, max_items = kUnlimited;
  bool unique_items = false;
  std::vector<ArraySource> arrays;
  size_t min_properties = 0, max_properties = kUnlimited;
  std::set<std::string> required;
  std::vector<std::string> required_order;
  std::vector<ObjectSource> objects;
  Conjunction property_names;
};

// Reads schemas. What it cannot enforce is an error under `strict`, and else goes into `ignored`.
class SchemaReader {
 public:
  SchemaReader(simdjson::dom::element root, bool strict, std::vector<std::string>& ignored)
      : root_(root), strict_(strict), ignored_(ignored) {}

  // Replaces references and allOf by what they stand for.
  Conjunction Flatten(const Conjunction& items) const;
  SchemaNode Read(const Conjunction& flat);
  // Throws Error{kUnimplemented} under strict, else notes it.
  void Unsupported(const std::string& what, const std::string& path);

 private:
  SchemaItem Resolve(std::string_view reference, const std::string& path) const;
  void ReadTypes(const SchemaItem& item, SchemaNode& node);
  void ReadValues(const SchemaItem& item, SchemaNode& node);
  void ReadNumbers(const SchemaItem& item, SchemaNode& node);
  void ReadStrings(const SchemaItem& item, SchemaNode& node);
  void ReadArrays(const SchemaItem& item, SchemaNode& node);
  void ReadObjects(const SchemaItem& item, SchemaNode& node);
  // Of `not`: nothing at all, types, and values of types that can be told apart by text.
  void Exclude(const SchemaItem& item, SchemaNode& node);
  bool ExcludeValue(simdjson::dom::element value, SchemaNode& node) const;
  void NoteUnsupported(const SchemaItem& item);

  simdjson::dom::element root_;
  bool strict_;
  std::vector<std::string>& ignored_;
};

// Error{kInvalidArgument} "the schema ... at <path>".
[[noreturn]] void RefuseSchema(const std::string& what, const std::string& path);

// The type of a value that is there.
SchemaType TypeOf(simdjson::dom::element value);

}  // namespace baleen::grammar

#endif  // BALEEN_GRAMMAR_SCHEMA_NODE_H_
