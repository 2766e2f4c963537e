#include "grammar/expression.h"

#include <algorithm>

namespace baleen::grammar {

namespace {

constexpr Symbol kFirstSurrogate = 0xd800;
constexpr Symbol kLastSurrogate = 0xdfff;

Expr Make(Expression expression) {
  return std::make_shared<const Expression>(std::move(expression));
}

}  // namespace

SymbolSet Normalize(SymbolSet set) {
  std::ranges::sort(set, {}, &SymbolRange::first);
  SymbolSet merged;
  for (const SymbolRange& range : set) {
    if (!merged.empty() && range.first <= merged.back().last + 1) {
      merged.back().last = std::max(merged.back().last, range.last);
    } else {
      merged.push_back(range);
    }
  }
  return merged;
}

SymbolSet ComplementOfCharacters(const SymbolSet& set) {
  SymbolSet taken = set;
  taken.push_back({kFirstSurrogate, kLastSurrogate});
  SymbolSet rest;
  Symbol next = 0;
  for (const SymbolRange& range : Normalize(taken)) {
    if (range.first > next) rest.push_back({next, range.first - 1});
    next = range.last + 1;
  }
  if (next <= kMaxCodePoint) rest.push_back({next, kMaxCodePoint});
  return rest;
}

SymbolSet Intersect(const SymbolSet& a, const SymbolSet& b) {
  SymbolSet both;
  for (const SymbolRange& x : a) {
    for (const SymbolRange& y : b) {
      const Symbol first = std::max(x.first, y.first);
      const Symbol last = std::min(x.last, y.last);
      if (first <= last) both.push_back({first, last});
    }
  }
  return Normalize(both);
}

Expr Symbols(SymbolSet set) {
  return Make({.kind = Expression::Kind::kSymbols, .symbols = Normalize(std::move(set))});
}

Expr Sequence(std::vector<Expr> parts) {
  if (parts.size() == 1) return parts[0];
  return Make({.kind = Expression::Kind::kSequence, .parts = std::move(parts)});
}

Expr Choice(std::vector<Expr> parts) {
  if (parts.size() == 1) return parts[0];
  return Make({.kind = Expression::Kind::kChoice, .parts = std::move(parts)});
}

Expr Repeat(Expr part, size_t min, size_t max) {
  return Make(
      {.kind = Expression::Kind::kRepeat, .parts = {std::move(part)}, .min = min, .max = max});
}

Expr Optional(Expr part) { return Repeat(std::move(part), 0, 1); }

Expr Empty() { return Sequence({}); }

Expr Bytes(std::string_view text) {
  std::vector<Expr> parts;
  for (const char c : text) {
    const Symbol byte = static_cast<unsigned char>(c);
    parts.push_back(Symbols({{byte, byte}}));
  }
  return Sequence(std::move(parts));
}

Expr Call(int rule) {
  const Symbol symbol = kFirstCall + static_cast<Symbol>(rule);
  return Symbols({{symbol, symbol}});
}

Expr TextStart() { return Make({.kind = Expression::Kind::kTextStart}); }
Expr TextEnd() { return Make({.kind = Expression::Kind::kTextEnd}); }

}  // namespace baleen::grammar
