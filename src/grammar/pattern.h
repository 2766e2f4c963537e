// grammar/pattern.h: regular expressions as JSON Schema writes them (ECMA-262).
//
// Validators differ in the classes: Python's and Rust's \d, \w and \s know all of Unicode,
// JavaScript's do not, and so their complements differ too. What is produced here is what all of
// them accept: \d, \w and \s are ASCII, and \D, \W, \S and `.` leave out what any of them would
// leave out.
#ifndef BALEEN_GRAMMAR_PATTERN_H_
#define BALEEN_GRAMMAR_PATTERN_H_

#include <string_view>
#include <vector>

#include "grammar/automaton.h"

namespace baleen::grammar {

// The texts, in code points, in which the pattern is found: it is anchored by ^ and $ only. With
// `whole` it must match from end to end. Error{kUnimplemented} for what no automaton can do
// (backreferences, lookaround) and what this one cannot (word borders, \p{...}, flags);
// Error{kInvalidArgument} for a pattern that is broken.
Dfa CompilePattern(std::string_view pattern, bool whole = false);

// The pattern of JSON Schema's `format`; empty if it is not known.
std::string_view FormatPattern(std::string_view format);

// UTF-8, which is known to be valid, as code points.
std::vector<Symbol> CodePoints(std::string_view text);

}  // namespace baleen::grammar

#endif  // BALEEN_GRAMMAR_PATTERN_H_
