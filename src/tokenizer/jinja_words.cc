#include "tokenizer/jinja_words.h"

namespace baleen {
namespace {

constexpr std::string_view kWhiteSpace = " \t\n\r\f\v";

bool IsNameStart(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }

class Lexer {
 public:
  explicit Lexer(std::string_view program) : rest_(program) {}

  std::optional<JinjaWords> Run() {
    while (!rest_.empty()) {
      const size_t open = FindTag();
      if (open == std::string_view::npos) {
        AddText(rest_);
        break;
      }
      AddText(TextBefore(open));
      rest_.remove_prefix(open);
      if (!ReadTag()) return std::nullopt;
    }
    return std::move(words_);
  }

 private:
  size_t FindTag() const {
    for (size_t at = rest_.find('{'); at != std::string_view::npos; at = rest_.find('{', at + 1)) {
      if (at + 1 == rest_.size()) break;
      if (const char kind = rest_[at + 1]; kind == '{' || kind == '%' || kind == '#') return at;
    }
    return std::string_view::npos;
  }

  // The text before the tag at `open`, as the tag's own sign and lstrip_blocks leave it.
  std::string_view TextBefore(size_t open) const {
    std::string_view text = rest_.substr(0, open);
    const char kind = rest_[open + 1];
    const char sign = open + 2 < rest_.size() ? rest_[open + 2] : '\0';
    if (sign == '-') {
      const size_t last = text.find_last_not_of(kWhiteSpace);
      return text.substr(0, last == std::string_view::npos ? 0 : last + 1);
    }
    if (sign == '+' || kind == '{') return text;
    const size_t newline = text.rfind('\n');
    if (newline == std::string_view::npos && !at_line_start_) return text;
    const size_t line = newline == std::string_view::npos ? 0 : newline + 1;
    const bool blank = text.find_first_not_of(" \t", line) == std::string_view::npos;
    return blank ? text.substr(0, line) : text;
  }

  // Reads the tag at the front of rest_, and the whitespace that its end swallows.
  bool ReadTag() {
    const char kind = rest_[1];
    const char close = kind == '{' ? '}' : kind;
    rest_.remove_prefix(2);
    if (!rest_.empty() && (rest_[0] == '-' || rest_[0] == '+')) rest_.remove_prefix(1);
    char last = '\0';
    while (rest_.size() >= 2) {
      if (rest_[0] == close && rest_[1] == '}') {
        rest_.remove_prefix(2);
        SwallowAfter(kind, last);
        return true;
      }
      last = rest_[0];
      if (kind == '#') {
        rest_.remove_prefix(1);
      } else if (!ReadWord()) {
        return false;
      }
    }
    return false;
  }

  // A tag that ends in '-' swallows all whitespace after it; blocks and comments one newline.
  void SwallowAfter(char kind, char sign) {
    size_t length = 0;
    if (sign == '-') {
      length = std::min(rest_.find_first_not_of(kWhiteSpace), rest_.size());
    } else if (sign != '+' && kind != '{' && rest_.starts_with('\n')) {
      length = 1;
    }
    at_line_start_ = length > 0 && rest_[length - 1] == '\n';
    rest_.remove_prefix(length);
  }

  // Reads one string, name, number or other character inside a tag.
  bool ReadWord() {
    const char first = rest_[0];
    if (first == '\'' || first == '"') return ReadString();
    size_t length = 1;
    if (IsNameStart(first) || IsDigit(first)) {
      while (length < rest_.size() && (IsNameStart(rest_[length]) || IsDigit(rest_[length]))) {
        ++length;
      }
      words_.names.emplace(rest_.substr(0, length));
    }
    rest_.remove_prefix(length);
    return true;
  }

  bool ReadString() {
    const char quote = rest_[0];
    std::string text;
    for (size_t at = 1; at < rest_.size(); ++at) {
      const char c = rest_[at];
      if (c == quote) {
        words_.texts.insert(std::move(text));
        rest_.remove_prefix(at + 1);
        return true;
      }
      if (c == '\\' && at + 1 < rest_.size()) {
        AppendEscape(rest_[++at], text);
      } else {
        text += c;
      }
    }
    return false;
  }

  // Escapes that chat templates use; any other stays as written, which no format knows.
  static void AppendEscape(char c, std::string& text) {
    switch (c) {
      case 'n':
        text += '\n';
        break;
      case 't':
        text += '\t';
        break;
      case 'r':
        text += '\r';
        break;
      case '\\':
      case '\'':
      case '"':
        text += c;
        break;
      default:
        text.append({'\\', c});
    }
  }

  void AddText(std::string_view text) {
    if (!text.empty()) words_.texts.emplace(text);
  }

  std::string_view rest_;
  bool at_line_start_ = true;
  JinjaWords words_;
};

}  // namespace

std::optional<JinjaWords> ReadJinjaWords(std::string_view program) {
  // Jinja reads every newline as '\n' and drops one at the end.
  std::string text;
  text.reserve(program.size());
  for (size_t at = 0; at < program.size(); ++at) {
    if (program[at] != '\r') {
      text += program[at];
    } else {
      text += '\n';
      if (at + 1 < program.size() && program[at + 1] == '\n') ++at;
    }
  }
  if (text.ends_with('\n')) text.pop_back();
  return Lexer(text).Run();
}

}  // namespace baleen
