#include "grammar/json_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace baleen::grammar {

namespace {

constexpr size_t kMaxWholeDigits = 19;
constexpr size_t kMaxFractionDigits = 17;
constexpr double kMaxBound = 1e18;
constexpr double kMaxMultiple = 10'000;

Expr Range(Symbol first, Symbol last) { return Symbols({{first, last}}); }

Expr HexDigits(size_t count) {
  return Repeat(Symbols({{'0', '9'}, {'A', 'F'}, {'a', 'f'}}), count, count);
}

// Splits a range of code points where the number of bytes, or of fixed leading bytes, changes.
void AddUtf8Range(Symbol first, Symbol last, std::vector<Expr>& choices) {
  for (const Symbol limit : {0x7fu, 0x7ffu, 0xffffu}) {
    if (first <= limit && last > limit) {
      AddUtf8Range(first, limit, choices);
      AddUtf8Range(limit + 1, last, choices);
      return;
    }
  }
  if (last <= 0x7f) {
    choices.push_back(Range(first, last));
    return;
  }
  const size_t length = last <= 0x7ff ? 2 : last <= 0xffff ? 3 : 4;
  for (size_t tail = 1; tail < length; ++tail) {
    const Symbol mask = (Symbol{1} << (6 * tail)) - 1;
    if ((first & ~mask) == (last & ~mask)) continue;
    if ((first & mask) != 0) {
      AddUtf8Range(first, first | mask, choices);
      AddUtf8Range((first | mask) + 1, last, choices);
      return;
    }
    if ((last & mask) != mask) {
      AddUtf8Range(first, (last & ~mask) - 1, choices);
      AddUtf8Range(last & ~mask, last, choices);
      return;
    }
  }
  std::vector<Expr> bytes;
  const Symbol lead = length == 2 ? 0xc0 : length == 3 ? 0xe0 : 0xf0;
  for (size_t i = 0; i < length; ++i) {
    const size_t shift = 6 * (length - 1 - i);
    const Symbol mark = i == 0 ? lead : 0x80;
    const Symbol mask = i == 0 ? 0xff : 0x3f;
    bytes.push_back(Range(mark | ((first >> shift) & mask), mark | ((last >> shift) & mask)));
  }
  choices.push_back(Sequence(std::move(bytes)));
}

constexpr Symbol kShortEscapes[][2] = {{'"', '"'},  {'\\', '\\'}, {'\b', 'b'}, {'\t', 't'},
                                       {'\n', 'n'}, {'\f', 'f'},  {'\r', 'r'}};

std::string EscapeOf(Symbol control) {
  for (const auto& [symbol, letter] : kShortEscapes) {
    if (symbol == control) return {'\\', static_cast<char>(letter)};
  }
  return fmt::format("\\u{:04x}", control);
}

SymbolSet PlainInJson() { return ComplementOfCharacters({{0, 0x1f}, {'"', '"'}, {'\\', '\\'}}); }

// The bytes of one character within a JSON string.
Expr CharacterBytes(const SymbolSet& set) {
  std::vector<Expr> choices = {Utf8(Intersect(set, PlainInJson()))};
  for (const SymbolRange& range : Intersect(set, SymbolSet{{0, 0x1f}, {'"', '"'}, {'\\', '\\'}})) {
    for (Symbol s = range.first; s <= range.last; ++s) choices.push_back(Bytes(EscapeOf(s)));
  }
  return Choice(std::move(choices));
}

template <typename Spell>
Dfa Respell(const Dfa& characters, std::string_view open, std::string_view close, Spell spell) {
  if (characters.empty()) return {};
  Nfa nfa;
  int32_t begin = nfa.AddState();
  begin = nfa.AddBytes(begin, open);
  std::vector<int32_t> names;
  for (size_t i = 0; i < characters.states.size(); ++i) names.push_back(nfa.AddState());
  nfa.AddEpsilon(begin, names[0]);
  for (size_t i = 0; i < characters.states.size(); ++i) {
    for (const Dfa::Edge& edge : characters.states[i].edges) {
      const Expr bytes = spell(SymbolSet{edge.range});
      nfa.AddEpsilon(nfa.AddExpression(names[i], *bytes), names[static_cast<size_t>(edge.to)]);
    }
    if (characters.states[i].accepts) nfa.Accept(nfa.AddBytes(names[i], close));
  }
  return nfa.Determinize();
}

// Numbers without a sign.

Expr Digit(char first, char last) {
  return Range(static_cast<Symbol>(first), static_cast<Symbol>(last));
}
Expr Digits(size_t min, size_t max) { return Repeat(Digit('0', '9'), min, max); }

Expr WholeNumber() {
  return Choice({Bytes("0"), Sequence({Digit('1', '9'), Digits(0, kMaxWholeDigits - 1)})});
}

// Decimal digits of a bound that is at least 0.
struct Decimal {
  std::string whole;
  std::string fraction;  // without zeros at its end
};

Decimal ToDecimal(double value) {
  const std::string text = fmt::format("{:.{}f}", value, 17);
  // The shortest text that means the same double has no digits that nobody wrote.
  std::string exact = fmt::format("{}", value);
  if (exact.find('e') != std::string::npos) exact = text;
  const size_t point = exact.find('.');
  Decimal decimal{exact.substr(0, point),
                  point == std::string::npos ? "" : exact.substr(point + 1)};
  while (decimal.fraction.ends_with('0')) decimal.fraction.pop_back();
  return decimal;
}

// What stands behind equal whole parts: from the point on, more or less than `fraction`.
Expr FractionAbove(const std::string& fraction, bool exclusive) {
  std::vector<Expr> choices;
  for (size_t i = 0; i < fraction.size(); ++i) {
    if (fraction[i] == '9') continue;
    choices.push_back(
        Sequence({Bytes("." + fraction.substr(0, i)),
                  Digit(static_cast<char>(fraction[i] + 1), '9'), Digits(0, kMaxFractionDigits)}));
  }
  const Expr equal = fraction.empty() ? Empty() : Bytes("." + fraction);
  const Expr begin = fraction.empty() ? Bytes(".") : Bytes("." + fraction);
  // Equal so far, then something that is not zero.
  choices.push_back(Sequence({begin, Repeat(Bytes("0"), 0, kMaxFractionDigits), Digit('1', '9'),
                              Digits(0, kMaxFractionDigits)}));
  if (!exclusive) {
    choices.push_back(equal);
    choices.push_back(Sequence({begin, Repeat(Bytes("0"), 1, kMaxFractionDigits)}));
  }
  return Choice(std::move(choices));
}

Expr FractionBelow(const std::string& fraction, bool exclusive) {
  std::vector<Expr> choices;
  for (size_t i = 0; i < fraction.size(); ++i) {
    const std::string head = fraction.substr(0, i);
    if (fraction[i] > '0') {
      choices.push_back(Sequence({Bytes("." + head), Digit('0', static_cast<char>(fraction[i] - 1)),
                                  Digits(0, kMaxFractionDigits)}));
    }
    choices.push_back(i == 0 ? Empty() : Bytes("." + head));  // ends before: less
  }
  if (!exclusive) {
    const std::string begin = fraction.empty() ? "." : "." + fraction;
    choices.push_back(fraction.empty() ? Empty() : Bytes(begin));
    choices.push_back(Sequence({Bytes(begin), Repeat(Bytes("0"), 1, kMaxFractionDigits)}));
  }
  return Choice(std::move(choices));
}

// Whole numbers above `whole`, and those below it.
Expr WholeAbove(const std::string& whole) {
  std::vector<Expr> choices;
  if (whole.size() < kMaxWholeDigits) {
    choices.push_back(Sequence({Digit('1', '9'), Digits(whole.size(), kMaxWholeDigits - 1)}));
  }
  for (size_t i = 0; i < whole.size(); ++i) {
    if (whole[i] == '9') continue;
    const size_t rest = whole.size() - i - 1;
    choices.push_back(Sequence({Bytes(whole.substr(0, i)),
                                Digit(static_cast<char>(whole[i] + 1), '9'), Digits(rest, rest)}));
  }
  return Choice(std::move(choices));
}

Expr WholeBelow(const std::string& whole) {
  std::vector<Expr> choices;
  if (whole != "0") choices.push_back(Bytes("0"));
  if (whole.size() > 1) {
    choices.push_back(Sequence({Digit('1', '9'), Digits(0, whole.size() - 2)}));
  }
  for (size_t i = 0; i < whole.size(); ++i) {
    const char least = i == 0 ? '1' : '0';
    if (whole[i] <= least) continue;
    const size_t rest = whole.size() - i - 1;
    choices.push_back(
        Sequence({Bytes(whole.substr(0, i)), Digit(least, static_cast<char>(whole[i] - 1)),
                  Digits(rest, rest)}));
  }
  return Choice(std::move(choices));
}

Expr AnyFraction() { return Optional(Sequence({Bytes("."), Digits(1, kMaxFractionDigits)})); }

// Magnitudes from `bound` on (or up to it).
Expr Magnitudes(double bound, bool above, bool exclusive) {
  const Decimal decimal = ToDecimal(bound);
  const Expr other = above ? WholeAbove(decimal.whole) : WholeBelow(decimal.whole);
  const Expr tail = above ? FractionAbove(decimal.fraction, exclusive)
                          : FractionBelow(decimal.fraction, exclusive);
  return Choice({Sequence({other, AnyFraction()}), Sequence({Bytes(decimal.whole), tail})});
}

// "-0" is left out: what it is worth beside a bound of 0 is nobody's wish.
Expr Negative(Expr magnitude) { return Sequence({Bytes("-"), std::move(magnitude)}); }

Expr AtLeast(double bound, bool exclusive) {
  const Expr all = Sequence({WholeNumber(), AnyFraction()});
  if (bound < 0) return Choice({all, Negative(Magnitudes(-bound, false, exclusive))});
  return Magnitudes(bound, true, exclusive);
}

Expr AtMost(double bound, bool exclusive) {
  const Expr all = Sequence({WholeNumber(), AnyFraction()});
  if (bound < 0) return Negative(Magnitudes(-bound, true, exclusive));
  return Choice({Negative(all), Magnitudes(bound, false, exclusive)});
}

// Whole numbers by their remainder.
Dfa MultiplesOf(int32_t divisor) {
  Nfa nfa;
  const int32_t start = nfa.AddState();
  const int32_t sign = nfa.AddState();
  const int32_t zero = nfa.AddState();
  nfa.AddEdge(start, {'-', '-'}, sign);
  nfa.AddEpsilon(start, sign);
  nfa.AddEdge(sign, {'0', '0'}, zero);
  nfa.Accept(zero);
  std::vector<int32_t> remainders;
  for (int32_t i = 0; i < divisor; ++i) remainders.push_back(nfa.AddState());
  const auto add = [&](int32_t from, int32_t remainder, int32_t least) {
    for (int32_t digit = least; digit <= 9; ++digit) {
      const auto symbol = static_cast<Symbol>('0' + digit);
      nfa.AddEdge(from, {symbol, symbol},
                  remainders[static_cast<size_t>((remainder * 10 + digit) % divisor)]);
    }
  };
  add(sign, 0, 1);
  for (int32_t i = 0; i < divisor; ++i) add(remainders[static_cast<size_t>(i)], i, 0);
  nfa.Accept(remainders[0]);
  return nfa.Determinize();
}

Dfa Multiples(double of) {
  if (of >= 1 && of <= kMaxMultiple && of == std::floor(of)) {
    return MultiplesOf(static_cast<int32_t>(of));
  }
  for (size_t digits = 1; digits <= 9; ++digits) {
    if (of != std::stod(fmt::format("1e-{}", digits))) continue;
    const Expr fraction = Optional(Sequence({Bytes("."), Digits(1, digits)}));
    return ToDfa(Sequence({Optional(Bytes("-")), WholeNumber(), fraction}));
  }
  Throw(ErrorCode::kUnimplemented, "multipleOf {}", of);
}

}  // namespace

Expr Utf8(const SymbolSet& set) {
  std::vector<Expr> choices;
  for (const SymbolRange& range : set) AddUtf8Range(range.first, range.last, choices);
  return Choice(std::move(choices));
}

Dfa ToUtf8(const Dfa& characters) { return Respell(characters, "", "", Utf8); }

Expr JsonCharacter() {
  const Expr high = Sequence({Symbols({{'d', 'd'}, {'D', 'D'}}),
                              Symbols({{'8', '9'}, {'a', 'b'}, {'A', 'B'}}), HexDigits(2)});
  const Expr low = Sequence(
      {Symbols({{'d', 'd'}, {'D', 'D'}}), Symbols({{'c', 'f'}, {'C', 'F'}}), HexDigits(2)});
  const Expr other =
      Choice({Sequence({Symbols({{'0', '9'}, {'a', 'c'}, {'e', 'f'}, {'A', 'C'}, {'E', 'F'}}),
                        HexDigits(3)}),
              Sequence({Symbols({{'d', 'd'}, {'D', 'D'}}), Symbols({{'0', '7'}}), HexDigits(2)})});
  const SymbolSet letters = {{'"', '"'}, {'\\', '\\'}, {'/', '/'}, {'b', 'b'},
                             {'f', 'f'}, {'n', 'n'},   {'r', 'r'}, {'t', 't'}};
  return Choice({Utf8(PlainInJson()), Sequence({Bytes("\\"), Symbols(letters)}),
                 Sequence({Bytes("\\u"), other}),
                 Sequence({Bytes("\\u"), high, Bytes("\\u"), low})});
}

Dfa JsonString(const Dfa& characters) { return Respell(characters, "\"", "\"", CharacterBytes); }

std::string JsonString(std::string_view text) {
  std::string spelled = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || c == '"' || c == '\\') {
      spelled += EscapeOf(byte);
    } else {
      spelled += c;
    }
  }
  return spelled + "\"";
}

Dfa JsonNumber(const NumberBounds& bounds, bool integer) {
  for (const auto& bound : {bounds.minimum, bounds.maximum}) {
    if (bound && !(std::abs(*bound) <= kMaxBound)) {
      Throw(ErrorCode::kUnimplemented, "a bound of {}", *bound);
    }
  }
  const bool is_bounded = bounds.minimum || bounds.maximum || bounds.multiple_of;
  const Expr sign = Optional(Bytes("-"));
  const Expr exponent =
      Optional(Sequence({Symbols({{'e', 'e'}, {'E', 'E'}}),
                         Optional(Symbols({{'+', '+'}, {'-', '-'}})), Digits(1, 2)}));
  Dfa numbers = integer      ? ToDfa(Sequence({sign, WholeNumber()}))
                : is_bounded ? ToDfa(Sequence({sign, WholeNumber(), AnyFraction()}))
                             : ToDfa(Sequence({sign, WholeNumber(), AnyFraction(), exponent}));
  if (bounds.minimum) {
    numbers = Intersect(numbers, ToDfa(AtLeast(*bounds.minimum, bounds.exclusive_minimum)));
  }
  if (bounds.maximum) {
    numbers = Intersect(numbers, ToDfa(AtMost(*bounds.maximum, bounds.exclusive_maximum)));
  }
  if (bounds.multiple_of) numbers = Intersect(numbers, Multiples(*bounds.multiple_of));
  return numbers;
}

}  // namespace baleen::grammar
