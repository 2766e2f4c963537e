// grammar/grammar_testing.h: a small vocabulary, and texts held against grammars.
#ifndef BALEEN_GRAMMAR_GRAMMAR_TESTING_H_
#define BALEEN_GRAMMAR_GRAMMAR_TESTING_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "grammar/compile.h"

namespace baleen::grammar {

// Token b is the byte b; then come longer texts, then two control tokens.
inline const std::vector<std::string>& LongTokens() {
  static const std::vector<std::string> tokens = {
      "\"a", "\":", "\": ", "\",", "\"}",   "true", "tru",   "{\"", "[[",     "]]",     "12",
      "abc", "a\"", "null", ", ",  "\":\"", "\\\"", "\\u00", "é",   "\xc3",   "\xa9\"", "\n  ",
      "0.",  "5}",  "1,",   "ab",  "name",  "</",   "think", ">",   "hello ", "{}",     "\"]}"};
  return tokens;
}
constexpr int32_t kFirstControl = 300;

inline std::shared_ptr<const TokenTable> TestTokens() {
  std::vector<std::string> bytes;
  for (int b = 0; b < 256; ++b) bytes.emplace_back(1, static_cast<char>(b));
  bytes.insert(bytes.end(), LongTokens().begin(), LongTokens().end());
  bytes.resize(kFirstControl);
  bytes.emplace_back("<|call|>");
  bytes.emplace_back("<|end|>");
  return std::make_shared<TokenTable>(bytes, std::vector<int32_t>{kFirstControl, kFirstControl + 1},
                                      320);
}

inline std::shared_ptr<const CompiledGrammar> TestGrammar(const GrammarSpec& spec) {
  static const auto tokens = TestTokens();
  return Compile(spec, tokens);
}

enum class Match { kNo, kBegins, kWhole };

// Byte by byte.
inline Match MatchText(const std::shared_ptr<const CompiledGrammar>& grammar,
                       std::string_view text) {
  Matcher matcher(grammar);
  for (const char c : text) {
    if (!matcher.Accept(static_cast<unsigned char>(c))) return Match::kNo;
  }
  return matcher.at_end() ? Match::kWhole : Match::kBegins;
}

inline bool Accepts(const std::string& schema, std::string_view text) {
  return MatchText(TestGrammar(GrammarSpec::JsonSchema(schema, true)), text) == Match::kWhole;
}

}  // namespace baleen::grammar

#endif  // BALEEN_GRAMMAR_GRAMMAR_TESTING_H_
