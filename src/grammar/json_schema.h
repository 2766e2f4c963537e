// grammar/json_schema.h: the rules of the JSON that a schema accepts.
//
// What is produced is a part of what the schema accepts, never more: properties come in the order
// in which they are declared; properties that are not declared come only where additionalProperties
// or patternProperties ask for them, or nothing is declared at all; a key or a patterned string has
// one spelling. docs/serving.md lists what is supported.
#ifndef BALEEN_GRAMMAR_JSON_SCHEMA_H_
#define BALEEN_GRAMMAR_JSON_SCHEMA_H_

#include <string>
#include <string_view>
#include <vector>

#include "grammar/json_rules.h"

namespace baleen::grammar {

constexpr size_t kMaxSchemaBytes = size_t{1} << 20;

// Adds rules to json.rules() and returns the first. What cannot be enforced: Error{kUnimplemented}
// that names it under `strict`, else a note in `ignored`. Error{kInvalidArgument} for a schema that
// is broken, too large, or satisfied by nothing.
int AddSchema(std::string_view schema, bool strict, JsonRules& json,
              std::vector<std::string>& ignored);

}  // namespace baleen::grammar

#endif  // BALEEN_GRAMMAR_JSON_SCHEMA_H_
