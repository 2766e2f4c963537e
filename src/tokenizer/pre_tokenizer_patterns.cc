#include "tokenizer/pre_tokenizer_patterns.h"

#include <algorithm>
#include <string_view>

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
  if (std::equal(steps.begin(), steps.end(), std::begin(kV3Patterns), std::end(kV3Patterns),
                 [](const PreTokenizerStep& step, std::string_view pattern) {
                   return step.kind == Kind::kSplit && step.pattern == pattern;
                 })) {
    return PreTokenizer::kDeepseekV3;
  }
  return std::nullopt;
}

}  // namespace baleen
