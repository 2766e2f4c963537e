#include "tokenizer/pre_tokenizer.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "tokenizer/deepseek_llm_letters.h"
#include "tokenizer/unicode.h"
#include "tokenizer/utf8.h"

namespace baleen {
namespace {

struct Char {
  uint32_t code_point;
  uint16_t flags;
  uint16_t num_bytes;  // 0: the end of the piece

  bool Is(uint16_t classes) const { return (flags & classes) != 0; }
  bool IsLineBreak() const { return code_point == '\r' || code_point == '\n'; }
};

// Reads characters and collects the pieces. The patterns see nothing beyond the `end` that they are
// given, as each works on one piece of the step before.
class Scanner {
 public:
  Scanner(std::string_view text, std::vector<uint32_t>* ends)
      : text_(text), classes_(CharClassTable::Get()), ends_(*ends) {}

  Char At(size_t pos, size_t end) const {
    if (pos >= end) return {Utf8Char::kBroken, 0, 0};
    const auto byte = static_cast<uint8_t>(text_[pos]);
    if (byte < 0x80) return {byte, classes_[byte], 1};
    const Utf8Char c = DecodeUtf8(text_.substr(pos, end - pos));
    return {c.code_point, classes_[c.code_point], static_cast<uint16_t>(c.num_bytes)};
  }

  // The end of the run of characters from `pos` for which `predicate` holds.
  template <typename Predicate>
  size_t SkipWhile(size_t pos, size_t end, Predicate predicate) const {
    for (Char c = At(pos, end); c.num_bytes != 0 && predicate(c); c = At(pos, end)) {
      pos += c.num_bytes;
    }
    return pos;
  }

  void Emit(size_t end) { ends_.push_back(static_cast<uint32_t>(end)); }

  std::string_view text() const { return text_; }

 private:
  std::string_view text_;
  const CharClassTable& classes_;
  std::vector<uint32_t>& ends_;
};

// One Split step with behavior "Isolated": match(pos, end) returns the end of the match that begins
// at pos, or pos if there is none. Matches, and what lies between them, go to next(begin, end).
template <typename Match, typename Next>
void Isolate(const Scanner& scan, size_t begin, size_t end, Match match, Next next) {
  size_t gap = begin;
  size_t pos = begin;
  while (pos < end) {
    const size_t match_end = match(pos, end);
    if (match_end == pos) {
      pos += scan.At(pos, end).num_bytes;
      continue;
    }
    if (gap < pos) next(gap, pos);
    next(pos, match_end);
    gap = pos = match_end;
  }
  if (gap < end) next(gap, end);
}

// \s*[\r\n]+|\s+(?!\S)|\s+   at a white-space character, the common tail of two patterns.
size_t MatchSpace(const Scanner& scan, size_t pos, size_t end) {
  size_t line_break_end = pos;
  size_t last = pos;  // where the last white-space character of the run begins
  size_t run_end = pos;
  for (Char c = scan.At(run_end, end); c.Is(kSpace); c = scan.At(run_end, end)) {
    last = run_end;
    run_end += c.num_bytes;
    if (c.IsLineBreak()) line_break_end = run_end;
  }
  if (line_break_end > pos) return line_break_end;
  if (run_end == end || last == pos) return run_end;
  return last;
}

// DeepSeek-V3 (spec/formats.md section 6.1). Steps 1 and 2 isolate \p{N}{1,3} and runs of common
// Han and kana; step 3 is MatchWord.
class DeepseekV3 {
 public:
  explicit DeepseekV3(Scanner* scan) : scan_(*scan) {}

  void Split() {
    const size_t end = scan_.text().size();
    size_t pos = 0;
    while (pos < end) {
      const Char first = scan_.At(pos, end);
      const size_t begin = pos;
      if (first.Is(kNumber)) {
        // No later step matches a number, so that this piece is final.
        for (int i = 0; i < 3 && scan_.At(pos, end).Is(kNumber); ++i) {
          pos += scan_.At(pos, end).num_bytes;
        }
        scan_.Emit(pos);
        continue;
      }
      const bool is_cjk = IsCommonCjk(first);
      pos = scan_.SkipWhile(
          pos, end, [is_cjk](const Char& c) { return !c.Is(kNumber) && IsCommonCjk(c) == is_cjk; });
      Isolate(
          scan_, begin, pos, [this](size_t at, size_t limit) { return MatchWord(at, limit); },
          [this](size_t, size_t piece_end) { scan_.Emit(piece_end); });
    }
  }

 private:
  static bool IsCommonCjk(const Char& c) {
    return (c.code_point >= 0x4E00 && c.code_point <= 0x9FA5) ||
           (c.code_point >= 0x3040 && c.code_point <= 0x30FF);
  }

  static bool IsAsciiLetter(const Char& c) { return c.code_point < 0x80 && c.Is(kUpper | kLower); }

  // [!-/:-~ without letters][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|
  // \s*[\r\n]+|\s+(?!\S)|\s+
  size_t MatchWord(size_t pos, size_t end) const {
    const auto in_word = [](const Char& c) { return c.Is(kLetter | kMark); };
    const auto in_punctuation = [](const Char& c) { return c.Is(kPunctOrSymbol); };
    const Char first = scan_.At(pos, end);
    const size_t second_pos = pos + first.num_bytes;
    const Char second = scan_.At(second_pos, end);

    if (first.code_point < 0x80 && first.Is(kPunctOrSymbol) && IsAsciiLetter(second)) {
      return scan_.SkipWhile(second_pos, end, IsAsciiLetter);
    }
    if (in_word(first) || (!first.IsLineBreak() && !first.Is(kPunctOrSymbol) && in_word(second))) {
      return scan_.SkipWhile(second_pos, end, in_word);
    }
    if (in_punctuation(first) || (first.code_point == ' ' && in_punctuation(second))) {
      return scan_.SkipWhile(scan_.SkipWhile(second_pos, end, in_punctuation), end,
                             [](const Char& c) { return c.IsLineBreak(); });
    }
    return first.Is(kSpace) ? MatchSpace(scan_, pos, end) : pos;
  }

  Scanner& scan_;
};

// DeepSeek-V2 and its base, deepseek-llm (spec/formats.md section 6.2): six steps, each on every
// piece of the one before.
class DeepseekLlm {
 public:
  explicit DeepseekLlm(Scanner* scan) : scan_(*scan) {}

  void Split() { SplitLineBreaks(0, scan_.text().size()); }

 private:
  static bool InRange(const Char& c, uint32_t first, uint32_t last) {
    return c.code_point >= first && c.code_point <= last;
  }

  static bool IsListedLetter(const Char& c) {
    if (c.code_point < 0x80) return c.Is(kUpper | kLower);
    const CodePointRange* range = std::upper_bound(
        std::begin(kDeepseekLlmLetters), std::end(kDeepseekLlmLetters), c.code_point,
        [](uint32_t value, const CodePointRange& r) { return value < r.first; });
    return range != std::begin(kDeepseekLlmLetters) && c.code_point <= std::prev(range)->last;
  }

  static bool IsListedPunctuation(const Char& c) {
    return InRange(c, 0x21, 0x2F) || InRange(c, 0x3A, 0x7E) || InRange(c, 0xFF01, 0xFF0F) ||
           InRange(c, 0xFF1A, 0xFF5E) || InRange(c, 0x2018, 0x201F) || InRange(c, 0x3000, 0x3002);
  }

  // The listed ranges U+4E00-9FA5, U+0800-4E00 and U+AC00-D7FF.
  static bool IsListedCjk(const Char& c) {
    return InRange(c, 0x0800, 0x9FA5) || InRange(c, 0xAC00, 0xD7FF);
  }

  // Step 1: [\r\n]
  void SplitLineBreaks(size_t begin, size_t end) {
    Isolate(
        scan_, begin, end,
        [this](size_t pos, size_t limit) {
          return scan_.At(pos, limit).IsLineBreak() ? pos + 1 : pos;
        },
        [this](size_t b, size_t e) { SplitLetters(b, e); });
  }

  // Step 2: \s?[letters]+
  void SplitLetters(size_t begin, size_t end) {
    Isolate(
        scan_, begin, end,
        [this](size_t pos, size_t limit) { return MatchAfterSpace(pos, limit, IsListedLetter); },
        [this](size_t b, size_t e) { SplitPunctuation(b, e); });
  }

  // Step 3: \s?[punctuation]+
  void SplitPunctuation(size_t begin, size_t end) {
    Isolate(
        scan_, begin, end,
        [this](size_t pos, size_t limit) {
          return MatchAfterSpace(pos, limit, IsListedPunctuation);
        },
        [this](size_t b, size_t e) { SplitTrailingSpace(b, e); });
  }

  // Step 4: \s+$
  void SplitTrailingSpace(size_t begin, size_t end) {
    size_t tail = begin;
    for (size_t pos = begin; pos < end;) {
      const Char c = scan_.At(pos, end);
      pos += c.num_bytes;
      if (!c.Is(kSpace)) tail = pos;
    }
    if (begin < tail) SplitCjk(begin, tail);
    if (tail < end) SplitCjk(tail, end);
  }

  // Step 5: [U+4E00-9FA5 U+0800-4E00 U+AC00-D7FF]+
  void SplitCjk(size_t begin, size_t end) {
    Isolate(
        scan_, begin, end,
        [this](size_t pos, size_t limit) { return scan_.SkipWhile(pos, limit, IsListedCjk); },
        [this](size_t b, size_t e) { SplitDigits(b, e); });
  }

  // Step 6: Digits, each alone
  void SplitDigits(size_t begin, size_t end) {
    Isolate(
        scan_, begin, end,
        [this](size_t pos, size_t limit) {
          const Char c = scan_.At(pos, limit);
          return c.Is(kDigit) ? pos + c.num_bytes : pos;
        },
        [this](size_t, size_t e) { scan_.Emit(e); });
  }

  template <typename Predicate>
  size_t MatchAfterSpace(size_t pos, size_t end, Predicate predicate) const {
    const Char first = scan_.At(pos, end);
    const size_t second_pos = pos + first.num_bytes;
    if (predicate(first) || (first.Is(kSpace) && predicate(scan_.At(second_pos, end)))) {
      return scan_.SkipWhile(second_pos, end, predicate);
    }
    return pos;
  }

  Scanner& scan_;
};

// Kimi-K2 and Moonlight (spec/formats.md section 9.3): one pattern, which matches everything.
class Kimi {
 public:
  explicit Kimi(Scanner* scan) : scan_(*scan) {}

  void Split(size_t begin, size_t end) {
    for (size_t pos = begin; pos < end;) {
      pos = MatchPiece(pos, end);
      scan_.Emit(pos);
    }
  }

  // As Moonshot's tokenizer calls the pattern (section 9.4): on blocks of kBlockChars characters,
  // cut again where a run of white space, or of anything else, grows beyond kMaxRunChars.
  void SplitChunked() {
    constexpr size_t kBlockChars = 400000;
    constexpr size_t kMaxRunChars = 25000;
    const size_t end = scan_.text().size();
    size_t chunk_begin = 0;
    size_t num_block_chars = 0;
    size_t num_run_chars = 0;
    bool is_run_space = false;
    for (size_t pos = 0; pos < end;) {
      const Char c = scan_.At(pos, end);
      const bool is_space = IsPythonSpace(c);
      if (num_block_chars == kBlockChars) {
        num_block_chars = num_run_chars = 0;
        Split(std::exchange(chunk_begin, pos), pos);
      } else if (is_space != is_run_space) {
        num_run_chars = 0;
      } else if (num_run_chars == kMaxRunChars) {
        num_run_chars = 0;
        Split(std::exchange(chunk_begin, pos), pos);
      }
      is_run_space = is_space;
      ++num_run_chars;
      ++num_block_chars;
      pos += c.num_bytes;
    }
    Split(chunk_begin, end);
  }

 private:
  // str.isspace() of Python: \s and four control characters.
  static bool IsPythonSpace(const Char& c) {
    return c.Is(kSpace) || (c.code_point >= 0x1C && c.code_point <= 0x1F);
  }

  // The two classes of the pattern overlap in letters without case and in marks; neither has Han.
  static bool IsUpperSide(const Char& c) { return c.Is(kUpper | kCaseless | kMark) && !c.Is(kHan); }
  static bool IsLowerSide(const Char& c) { return c.Is(kLower | kCaseless | kMark) && !c.Is(kHan); }
  static bool IsOther(const Char& c) { return !c.Is(kSpace | kLetter | kNumber); }

  size_t MatchPiece(size_t pos, size_t end) const {
    const Char first = scan_.At(pos, end);
    if (first.Is(kHan)) {
      return scan_.SkipWhile(pos, end, [](const Char& c) { return c.Is(kHan); });
    }
    if (const size_t word_end = MatchWord(first, pos, end); word_end > pos) return word_end;
    size_t next = pos + first.num_bytes;
    if (first.Is(kNumber)) {
      for (int i = 1; i < 3 && scan_.At(next, end).Is(kNumber); ++i) {
        next += scan_.At(next, end).num_bytes;
      }
      return next;
    }
    if (IsOther(first) || (first.code_point == ' ' && next < end && IsOther(scan_.At(next, end)))) {
      return scan_.SkipWhile(scan_.SkipWhile(next, end, IsOther), end,
                             [](const Char& c) { return c.IsLineBreak(); });
    }
    return MatchSpace(scan_, pos, end);
  }

  // P?U*L+C?|P?U+L*C? where P is [^\r\n\p{L}\p{N}], U and L are the upper and the lower side, and C
  // is a contraction. Returns `pos` if there is no match.
  size_t MatchWord(const Char& first, size_t pos, size_t end) const {
    const bool is_prefix = !first.IsLineBreak() && !first.Is(kLetter | kNumber);
    const size_t after_prefix = pos + first.num_bytes;
    // In the order of the pattern: the first form with the prefix and without, then the second.
    for (const auto match : {&Kimi::MatchEndingLower, &Kimi::MatchStartingUpper}) {
      for (const size_t begin : {after_prefix, pos}) {
        if (begin == after_prefix && !is_prefix) continue;
        const size_t word_end = (this->*match)(begin, end);
        if (word_end > begin) return SkipContraction(word_end, end);
      }
    }
    return pos;
  }

  // U*L+, or `pos`. U* takes all it can; if no L follows, it gives back up to the last of its
  // characters that are L as well, which then stands alone for L+.
  size_t MatchEndingLower(size_t pos, size_t end) const {
    size_t last_lower_end = pos;
    const size_t upper_end = scan_.SkipWhile(pos, end, IsUpperSide);
    const size_t lower_end = scan_.SkipWhile(upper_end, end, IsLowerSide);
    if (lower_end > upper_end) return lower_end;
    for (size_t at = pos; at < upper_end;) {
      const Char c = scan_.At(at, end);
      at += c.num_bytes;
      if (IsLowerSide(c)) last_lower_end = at;
    }
    return last_lower_end;
  }

  // U+L*, or `pos`.
  size_t MatchStartingUpper(size_t pos, size_t end) const {
    const size_t upper_end = scan_.SkipWhile(pos, end, IsUpperSide);
    return upper_end > pos ? scan_.SkipWhile(upper_end, end, IsLowerSide) : pos;
  }

  // (?i:'s|'t|'re|'ve|'m|'ll|'d)?
  size_t SkipContraction(size_t pos, size_t end) const {
    if (scan_.At(pos, end).code_point != '\'') return pos;
    const Char first = scan_.At(pos + 1, end);
    const size_t second_pos = pos + 1 + first.num_bytes;
    switch (AsciiLower(first)) {
      case 's':
      case 't':
      case 'm':
      case 'd':
        return second_pos;
      case 'r':
      case 'v':
        return AsciiLower(scan_.At(second_pos, end)) == 'e' ? second_pos + 1 : pos;
      case 'l':
        return AsciiLower(scan_.At(second_pos, end)) == 'l' ? second_pos + 1 : pos;
      default:
        return pos;
    }
  }

  // The ASCII letter that `c` equals when case is ignored; the long s folds to s. Else `c` itself.
  static uint32_t AsciiLower(const Char& c) {
    if (c.code_point >= 'A' && c.code_point <= 'Z') return c.code_point - 'A' + 'a';
    return c.code_point == 0x17F ? 's' : c.code_point;
  }

  Scanner& scan_;
};

}  // namespace

void SplitIntoPieces(PreTokenizer pre_tokenizer, std::string_view text,
                     std::vector<uint32_t>* ends) {
  ends->clear();
  Scanner scan(text, ends);
  switch (pre_tokenizer) {
    case PreTokenizer::kDeepseekLlm:
      return DeepseekLlm(&scan).Split();
    case PreTokenizer::kDeepseekV3:
      return DeepseekV3(&scan).Split();
    case PreTokenizer::kKimi:
      return Kimi(&scan).Split(0, text.size());
    case PreTokenizer::kKimiChunked:
      return Kimi(&scan).SplitChunked();
  }
}

}  // namespace baleen
