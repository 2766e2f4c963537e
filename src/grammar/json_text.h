// grammar/json_text.h: how JSON spells strings and numbers, as automata over bytes.
#ifndef BALEEN_GRAMMAR_JSON_TEXT_H_
#define BALEEN_GRAMMAR_JSON_TEXT_H_

#include <optional>
#include <string>
#include <string_view>

#include "grammar/automaton.h"

namespace baleen::grammar {

// A character within a string, in every spelling of JSON but a lone surrogate.
Expr JsonCharacter();

// The strings whose characters `characters` matches, in quotes. Each has one spelling: escapes only
// where they are needed.
Dfa JsonString(const Dfa& characters);
// The same for one string.
std::string JsonString(std::string_view text);

// Bytes that spell the code points of `set` in UTF-8.
Expr Utf8(const SymbolSet& set);
// The texts of code points as texts of bytes.
Dfa ToUtf8(const Dfa& characters);

struct NumberBounds {
  std::optional<double> minimum, maximum;
  bool exclusive_minimum = false, exclusive_maximum = false;
  std::optional<double> multiple_of;

  bool operator==(const NumberBounds&) const = default;
};

// Numbers of at most 19 digits before the point, 17 behind it and two in the exponent, so that none
// is beyond a double. Bounded ones have no exponent. Error{kUnimplemented}: bounds beyond 1e18, or
// a multiple of neither a whole number up to 10,000 nor a power of ten below 1.
Dfa JsonNumber(const NumberBounds& bounds, bool integer);

}  // namespace baleen::grammar

#endif  // BALEEN_GRAMMAR_JSON_TEXT_H_
