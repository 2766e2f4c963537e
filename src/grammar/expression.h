// grammar/expression.h: regular expressions as trees, over bytes, characters, and more.
//
// One alphabet serves all stages: Unicode code points while patterns are combined, bytes once they
// are spelled as JSON, and beside the bytes calls of other rules and tokens of the vocabulary.
#ifndef BALEEN_GRAMMAR_EXPRESSION_H_
#define BALEEN_GRAMMAR_EXPRESSION_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

namespace baleen::grammar {

using Symbol = uint32_t;

constexpr Symbol kMaxCodePoint = 0x10ffff;
// A call of rule r is the symbol kFirstCall + r; the token with id t is kFirstToken + t.
constexpr Symbol kFirstCall = 0x01000000;
constexpr Symbol kFirstToken = 0x02000000;
constexpr Symbol kLastToken = 0x02ffffff;

constexpr size_t kUnlimited = SIZE_MAX;

struct SymbolRange {
  Symbol first;
  Symbol last;
  bool operator==(const SymbolRange&) const = default;
};

// Sorted, disjoint and not touching.
using SymbolSet = std::vector<SymbolRange>;
SymbolSet Normalize(SymbolSet set);
// Code points outside `set`, surrogates excepted.
SymbolSet ComplementOfCharacters(const SymbolSet& set);
SymbolSet Intersect(const SymbolSet& a, const SymbolSet& b);

struct Expression;
using Expr = std::shared_ptr<const Expression>;

struct Expression {
  enum class Kind { kSymbols, kSequence, kChoice, kRepeat, kTextStart, kTextEnd };
  Kind kind;
  SymbolSet symbols;
  std::vector<Expr> parts;  // none: kSequence matches the empty text, kChoice nothing
  size_t min = 0;
  size_t max = 0;
};

Expr Symbols(SymbolSet set);
Expr Sequence(std::vector<Expr> parts);
Expr Choice(std::vector<Expr> parts);
Expr Repeat(Expr part, size_t min, size_t max);
Expr Optional(Expr part);
Expr Empty();
Expr Bytes(std::string_view text);  // one symbol a byte
Expr Call(int rule);
// ^ and $ of a pattern.
Expr TextStart();
Expr TextEnd();

}  // namespace baleen::grammar

#endif  // BALEEN_GRAMMAR_EXPRESSION_H_
