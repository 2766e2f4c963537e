#include "tokenizer/pre_tokenizer_patterns.h"

#include <algorithm>
#include <iterator>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/deepseek_llm_letters.h"
#include "tokenizer/utf8.h"

namespace baleen {
namespace {

using Kind = PreTokenizerStep::Kind;

// Spec of each: spec/formats.md sections 6.1, 6.2 and 9.3. Characters beyond ASCII are written as
// their code points, so that no editor can normalise them.
constexpr std::string_view kV3Patterns[] = {
    R"(\p{N}{1,3})",
    "[\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF]+",
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+)"
    "|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\r\n]*"
    "|\\s*[\r\n]+"
    R"(|\s+(?!\S)|\s+)",
};

// The second pattern is "\\s?[letters]+", with the letters in any order and spelling.
constexpr std::string_view kV2Patterns[] = {
    "[\r\n]",
    "",
    "\\s?[!-/:-~\uFF01-\uFF0F\uFF1A-\uFF5E\u2018-\u201F\u3000-\u3002]+",
    "\\s+$",
    "[\u4E00-\u9FA5\u0800-\u4E00\uAC00-\uD7FF]+",
};

constexpr std::string_view kKimiPattern =
    R"([\p{Han}]+)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3})"
    R"(| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+)"
    R"(|\s+(?!\S))"
    R"(|\s+)";

// `ranges` in order, joined where they touch or overlap.
std::vector<CodePointRange> Joined(std::vector<CodePointRange> ranges) {
  std::sort(ranges.begin(), ranges.end(),
            [](const CodePointRange& a, const CodePointRange& b) { return a.first < b.first; });
  std::vector<CodePointRange> joined;
  for (const CodePointRange& range : ranges) {
    if (!joined.empty() && range.first <= joined.back().last + 1) {
      joined.back().last = std::max(joined.back().last, range.last);
    } else {
      joined.push_back(range);
    }
  }
  return joined;
}

// The set of code points of a class such as "a-zA-Zµ", without escapes. nullopt if it isn't one.
std::optional<std::vector<CodePointRange>> ParseClass(std::string_view text) {
  std::vector<uint32_t> code_points;
  while (!text.empty()) {
    const Utf8Char c = DecodeUtf8(text);
    if (c.code_point == Utf8Char::kBroken || c.code_point == '\\' || c.code_point == '[' ||
        c.code_point == '^' || c.code_point == '&') {
      return std::nullopt;
    }
    code_points.push_back(c.code_point);
    text.remove_prefix(c.num_bytes);
  }
  std::vector<CodePointRange> ranges;
  for (size_t i = 0; i < code_points.size();) {
    const bool is_range = i + 2 < code_points.size() && code_points[i + 1] == '-';
    ranges.push_back({code_points[i], code_points[is_range ? i + 2 : i]});
    i += is_range ? 3 : 1;
  }
  return Joined(std::move(ranges));
}

bool IsV2LetterPattern(std::string_view pattern) {
  constexpr std::string_view kPrefix = "\\s?[";
  constexpr std::string_view kSuffix = "]+";
  if (!pattern.starts_with(kPrefix) || !pattern.ends_with(kSuffix)) return false;
  pattern.remove_prefix(kPrefix.size());
  pattern.remove_suffix(kSuffix.size());
  const auto letters = ParseClass(pattern);
  return letters &&
         *letters == Joined({std::begin(kDeepseekLlmLetters), std::end(kDeepseekLlmLetters)});
}

bool IsSplit(const PreTokenizerStep& step, std::string_view pattern) {
  return step.kind == Kind::kSplit && step.pattern == pattern;
}

bool IsV2(std::span<const PreTokenizerStep> steps) {
  constexpr size_t kNumSplits = std::size(kV2Patterns);
  if (steps.size() != kNumSplits + 1 || steps.back().kind != Kind::kDigits) return false;
  for (size_t i = 0; i < kNumSplits; ++i) {
    const bool is_same = i == 1
                             ? steps[i].kind == Kind::kSplit && IsV2LetterPattern(steps[i].pattern)
                             : IsSplit(steps[i], kV2Patterns[i]);
    if (!is_same) return false;
  }
  return true;
}

bool IsV3(std::span<const PreTokenizerStep> steps) {
  return std::equal(steps.begin(), steps.end(), std::begin(kV3Patterns), std::end(kV3Patterns),
                    IsSplit);
}

}  // namespace

const char* PreTokenizerStep::Name() const {
  switch (kind) {
    case Kind::kSplit:
      return "Split";
    case Kind::kDigits:
      return "Digits";
    case Kind::kByteLevel:
      return "ByteLevel";
  }
  return "";
}

std::optional<PreTokenizer> RecognizePreTokenizer(std::span<const PreTokenizerStep> steps) {
  if (steps.empty() || steps.back().kind != Kind::kByteLevel) return std::nullopt;
  steps = steps.first(steps.size() - 1);
  if (IsV3(steps)) return PreTokenizer::kDeepseekV3;
  if (IsV2(steps)) return PreTokenizer::kDeepseekLlm;
  if (steps.size() == 1 && IsSplit(steps[0], kKimiPattern)) return PreTokenizer::kKimi;
  return std::nullopt;
}

}  // namespace baleen
