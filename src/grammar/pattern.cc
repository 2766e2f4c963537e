#include "grammar/pattern.h"

#include <algorithm>
#include <optional>

#include "base/error.h"

namespace baleen::grammar {

namespace {

constexpr size_t kMaxPatternBytes = 16'384;
constexpr size_t kMaxGroupNesting = 64;
constexpr size_t kMaxRepeats = 4096;

// clang-format off
const SymbolSet kDigits = {{'0', '9'}};
const SymbolSet kWords = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
const SymbolSet kSpaces = {{'\t', '\r'}, {' ', ' '}};
// What any validator takes for a space or a line's end, a digit, a letter.
const SymbolSet kAllSpaces = {{0x09, 0x0d}, {0x1c, 0x20}, {0x85, 0x85}, {0xa0, 0xa0},
                              {0x1680, 0x1680}, {0x2000, 0x200a}, {0x2028, 0x2029},
                              {0x202f, 0x202f}, {0x205f, 0x205f}, {0x3000, 0x3000},
                              {0xfeff, 0xfeff}};
const SymbolSet kAllDigits = {{'0', '9'}, {0x660, kMaxCodePoint}};
const SymbolSet kAllWords = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'},
                             {0x80, kMaxCodePoint}};
const SymbolSet kLineEnds = {{'\n', '\n'}, {'\r', '\r'}, {0x85, 0x85}, {0x2028, 0x2029}};
// clang-format on

class Parser {
 public:
  explicit Parser(std::string_view pattern) : pattern_(pattern), text_(CodePoints(pattern)) {}

  Expr Parse() {
    Expr expression = Alternatives(0);
    if (at_ < text_.size()) Refuse("an unmatched )");
    return expression;
  }

 private:
  [[noreturn]] void Refuse(std::string_view what) const {
    Throw(ErrorCode::kInvalidArgument, "the pattern \"{}\" is not valid: {} at character {}",
          pattern_, what, at_);
  }
  [[noreturn]] void Decline(std::string_view what) const {
    Throw(ErrorCode::kUnimplemented, "the pattern \"{}\" has {}, which is not supported", pattern_,
          what);
  }

  bool Done() const { return at_ >= text_.size(); }
  Symbol Peek(size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : 0xffffffff;
  }
  bool Take(Symbol symbol) {
    if (Peek() != symbol) return false;
    ++at_;
    return true;
  }

  Expr Alternatives(size_t depth) {
    if (depth > kMaxGroupNesting) Refuse("groups nested too deep");
    std::vector<Expr> branches;
    do {
      std::vector<Expr> terms;
      while (!Done() && Peek() != '|' && Peek() != ')') terms.push_back(Term(depth));
      branches.push_back(Sequence(std::move(terms)));
    } while (Take('|'));
    return Choice(std::move(branches));
  }

  Expr Term(size_t depth) {
    if (Take('^')) return TextStart();
    if (Take('$')) return TextEnd();
    Expr atom = Atom(depth);
    for (;;) {
      const auto count = Quantifier();
      if (!count) return atom;
      atom = Repeat(std::move(atom), count->first, count->second);
      if (Take('?')) continue;  // lazy: the same texts
      if (Peek() == '+') Decline("a possessive quantifier");
    }
  }

  // {min, max} if one stands here.
  std::optional<std::pair<size_t, size_t>> Quantifier() {
    using Count = std::pair<size_t, size_t>;
    if (Take('*')) return Count{0, kUnlimited};
    if (Take('+')) return Count{1, kUnlimited};
    if (Take('?')) return Count{0, 1};
    if (Peek() != '{') return std::nullopt;
    const size_t begin = at_++;
    const auto min = Number();
    std::optional<size_t> max = min;
    if (Take(',')) max = Peek() == '}' ? kUnlimited : Number();
    if (!min || !max || !Take('}')) {
      at_ = begin;  // a brace and nothing more
      return std::nullopt;
    }
    if (*min > *max) Refuse("a count whose ends are the wrong way round");
    if (*min > kMaxRepeats || (*max != kUnlimited && *max > kMaxRepeats)) {
      Decline("a count above 4096");
    }
    return Count{*min, *max};
  }

  std::optional<size_t> Number() {
    size_t number = 0;
    const size_t begin = at_;
    while (Peek() >= '0' && Peek() <= '9' && at_ - begin < 9) {
      number = number * 10 + (Peek() - '0');
      ++at_;
    }
    if (at_ == begin) return std::nullopt;
    return number;
  }

  Expr Atom(size_t depth) {
    if (Take('(')) return Group(depth);
    if (Take('[')) return Symbols(Class());
    if (Take('.')) return Symbols(ComplementOfCharacters(kLineEnds));
    if (Take('\\')) return Symbols(Escape(false));
    const Symbol symbol = Peek();
    if (symbol == '*' || symbol == '+' || symbol == '?') Refuse("nothing to repeat");
    ++at_;
    return Symbols({{symbol, symbol}});
  }

  Expr Group(size_t depth) {
    if (Take('?')) {
      if (Peek() == 'P' && Peek(1) == '<') ++at_;
      if (Take('<')) {
        if (Peek() == '=' || Peek() == '!') Decline("a lookbehind");
        while (!Done() && Peek() != '>') ++at_;
        if (!Take('>')) Refuse("a group's name without an end");
      } else if (Peek() == '=' || Peek() == '!') {
        Decline("a lookahead");
      } else if (!Take(':')) {
        Decline("flags or a special group");
      }
    }
    Expr inner = Alternatives(depth + 1);
    if (!Take(')')) Refuse("a ( without its )");
    return inner;
  }

  SymbolSet Class() {
    const bool negated = Take('^');
    SymbolSet set;
    bool first = true;
    for (;; first = false) {
      if (Done()) Refuse("a [ without its ]");
      // In ECMAScript [] is empty; elsewhere the bracket would be the first of the class.
      if (Peek() == ']' && first) Decline("a class that begins with ]");
      if (Take(']')) break;
      SymbolSet item = ClassItem();
      const bool is_single = item.size() == 1 && item[0].first == item[0].last;
      if (is_single && Peek() == '-' && Peek(1) != ']' && at_ + 1 < text_.size()) {
        ++at_;
        const SymbolSet end = ClassItem();
        if (end.size() != 1 || end[0].first != end[0].last || end[0].first < item[0].first) {
          Refuse("a range whose ends do not fit");
        }
        item[0].last = end[0].first;
      }
      set.insert(set.end(), item.begin(), item.end());
    }
    set = Normalize(std::move(set));
    return negated ? ComplementOfCharacters(set) : set;
  }

  SymbolSet ClassItem() {
    if (Take('\\')) return Escape(true);
    if (Peek() == '[' && Peek(1) == ':') Decline("a named class");
    const Symbol symbol = Peek();
    ++at_;
    return {{symbol, symbol}};
  }

  SymbolSet Escape(bool in_class) {
    if (Done()) Refuse("a \\ at the end");
    const Symbol symbol = Peek();
    ++at_;
    const auto one = [](Symbol s) { return SymbolSet{{s, s}}; };
    switch (symbol) {
      case 'd':
        return kDigits;
      case 'w':
        return kWords;
      case 's':
        return kSpaces;
      case 'D':
        return ComplementOfCharacters(kAllDigits);
      case 'W':
        return ComplementOfCharacters(kAllWords);
      case 'S':
        return ComplementOfCharacters(kAllSpaces);
      case 't':
        return one('\t');
      case 'n':
        return one('\n');
      case 'v':
        return one('\v');
      case 'f':
        return one('\f');
      case 'r':
        return one('\r');
      case '0':
        return one(0);
      case 'x':
        return one(Hex(2));
      case 'u':
        return one(Take('{') ? BracedHex() : Hex(4));
      case 'b':
        if (in_class) return one('\b');
        Decline("a word border");
      case 'B':
        Decline("a word border");
      case 'p':
      case 'P':
        Decline("a Unicode property");
      default:
        break;
    }
    if (symbol >= '1' && symbol <= '9') Decline("a backreference");
    const bool is_letter = (symbol | 0x20) >= 'a' && (symbol | 0x20) <= 'z';
    if (is_letter) Decline("an escape of a letter that has no meaning here");
    return one(symbol);
  }

  Symbol Hex(size_t digits) {
    Symbol value = 0;
    for (size_t i = 0; i < digits; ++i) value = value * 16 + HexDigit();
    return value;
  }
  Symbol BracedHex() {
    Symbol value = 0;
    while (!Take('}')) {
      value = value * 16 + HexDigit();
      if (value > kMaxCodePoint) Refuse("a character beyond Unicode");
    }
    return value;
  }
  Symbol HexDigit() {
    const Symbol symbol = Peek();
    ++at_;
    if (symbol >= '0' && symbol <= '9') return symbol - '0';
    if ((symbol | 0x20) >= 'a' && (symbol | 0x20) <= 'f') return (symbol | 0x20) - 'a' + 10;
    Refuse("a hexadecimal digit that is none");
  }

  std::string_view pattern_;
  std::vector<Symbol> text_;
  size_t at_ = 0;
};

// clang-format off
constexpr std::string_view kDate =
    "(?:(?:19|20)[0-9]{2})-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    "|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))";
constexpr std::string_view kTime =
    "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,6})?"
    "(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])";
constexpr std::string_view kIpv4Byte = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
constexpr std::string_view kName = "[a-z0-9]{1,20}(?:-[a-z0-9]{1,10})?";
// clang-format on

std::string Anchored(std::string_view inner) { return "^(?:" + std::string(inner) + ")$"; }

std::string HostName() { return fmt::format("(?:{0})(?:\\.(?:{0})){{0,3}}", kName); }

}  // namespace

std::vector<Symbol> CodePoints(std::string_view text) {
  std::vector<Symbol> points;
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    Symbol point = length == 1 ? lead : lead & (0x7fu >> length);
    for (size_t k = 1; k < length && i + k < text.size(); ++k) {
      point = (point << 6) | (static_cast<unsigned char>(text[i + k]) & 0x3fu);
    }
    points.push_back(point);
    i += length;
  }
  return points;
}

Dfa CompilePattern(std::string_view pattern, bool whole) {
  if (pattern.size() > kMaxPatternBytes) {
    Throw(ErrorCode::kInvalidArgument, "a pattern has {} bytes; at most {} are taken",
          pattern.size(), kMaxPatternBytes);
  }
  const Expr inner = Parser(pattern).Parse();
  if (whole) return ToDfa(inner);
  const Expr any = Repeat(Symbols(ComplementOfCharacters({})), 0, kUnlimited);
  return ToDfa(Sequence({any, inner, any}));
}

std::string_view FormatPattern(std::string_view format) {
  struct Entry {
    std::string_view name;
    std::string pattern;
  };
  // Narrower than the RFCs where these allow what nobody writes.
  static const std::vector<Entry> entries = {
      {"date", Anchored(kDate)},
      {"time", Anchored(kTime)},
      {"date-time", Anchored(fmt::format("(?:{})T(?:{})", kDate, kTime))},
      {"duration",
       "^P(?:[0-9]{1,4}W|[0-9]{1,4}D(?:T[0-9]{1,4}H)?|T(?:[0-9]{1,4}H)?[0-9]{1,4}M"
       "|T[0-9]{1,4}S)$"},
      {"uuid", "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"},
      {"email",
       Anchored(fmt::format(
           "[A-Za-z0-9]{{1,16}}(?:[._+-][A-Za-z0-9]{{1,16}}){{0,2}}@(?:{0})\\.[a-z]{{2,8}}",
           HostName()))},
      {"hostname", Anchored(HostName())},
      {"ipv4", Anchored(fmt::format("{0}\\.{0}\\.{0}\\.{0}", kIpv4Byte))},
      {"ipv6", "^(?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}$"},
      {"uri", Anchored(fmt::format("https?://(?:{})(?:/[A-Za-z0-9._~-]*)*"
                                   "(?:\\?[A-Za-z0-9._~=&-]*)?(?:#[A-Za-z0-9._~-]*)?",
                                   HostName()))},
      {"json-pointer", "^(?:/(?:[^/~]|~0|~1)*)*$"},
  };
  for (const Entry& entry : entries) {
    if (entry.name == format) return entry.pattern;
  }
  return {};
}

}  // namespace baleen::grammar
