// bench/grammar_bench.cc: what structured output costs a token.
//
//   grammar_bench TOKENIZER_JSON
//
// Walks random answers through grammars and prints, for each, the time to compile, and the time of
// a mask on a row of logits: median, mean, 99th percentile and the slowest, in microseconds.
// "first" is the first walk, in which each state's tokens are found, "again" all later ones.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "base/json.h"
#include "grammar/compile.h"
#include "tokenizer/tokenizer.h"

namespace baleen {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kVocabSize = 129'280;

double Microseconds(Clock::time_point begin) {
  return std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
}

struct Case {
  const char* name;
  GrammarSpec spec;
};

std::vector<Case> Cases() {
  return {
      {"json_object", GrammarSpec::JsonObject()},
      {"object of strings and numbers",
       GrammarSpec::JsonSchema(R"({"type": "object", "properties": {
           "name": {"type": "string"}, "age": {"type": "integer", "minimum": 0, "maximum": 130},
           "email": {"type": "string", "format": "email"}, "score": {"type": "number"},
           "tags": {"type": "array", "items": {"type": "string", "maxLength": 40}, "maxItems": 8}},
           "required": ["name", "age", "email", "score", "tags"]})")},
      {"long bounded text",
       GrammarSpec::JsonSchema(R"({"type": "object", "properties": {"text": {"type": "string",
           "minLength": 200, "maxLength": 2000}}, "required": ["text"]})")},
      {"recursive tree",
       GrammarSpec::JsonSchema(R"({"$defs": {"n": {"type": "object", "properties": {
           "v": {"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "null"}]},
           "c": {"type": "array", "items": {"$ref": "#/$defs/n"}, "maxItems": 4}},
           "required": ["v", "c"]}}, "$ref": "#/$defs/n"})")},
      {"reasoning, then an object",
       GrammarSpec::Sequence({GrammarSpec::TextUntil("</think>"), GrammarSpec::JsonObject()})},
  };
}

void Print(const char* name, const char* when, std::vector<double> times) {
  std::ranges::sort(times);
  double sum = 0;
  for (const double time : times) sum += time;
  std::printf("%-32s %-6s tokens %6zu  median %7.1f  mean %7.1f  p99 %7.1f  max %8.1f us\n", name,
              when, times.size(), times[times.size() / 2], sum / static_cast<double>(times.size()),
              times[times.size() * 99 / 100], times.back());
}

// One answer of at most 200 tokens. Logits fall with the id, so that common tokens are likely.
void Walk(const std::shared_ptr<const grammar::CompiledGrammar>& grammar, std::mt19937& random,
          std::vector<double>& times) {
  grammar::Matcher matcher(grammar);
  std::vector<float> logits(kVocabSize);
  for (int step = 0; step < 200 && !matcher.is_finished(); ++step) {
    std::ranges::fill(logits, 0.0f);
    const auto begin = Clock::now();
    matcher.Mask(logits, {});
    const double mask_time = Microseconds(begin);
    std::vector<int32_t> allowed;
    for (size_t i = 0; i < logits.size(); ++i) {
      if (logits[i] == 0) allowed.push_back(static_cast<int32_t>(i));
    }
    if (allowed.empty()) break;
    const int32_t token = allowed[random() % allowed.size()];
    const auto accept = Clock::now();
    matcher.Accept(token);
    times.push_back(mask_time + Microseconds(accept));
  }
}

int Run(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "use: grammar_bench TOKENIZER_JSON\n");
    return 2;
  }
  const auto tokenizer = Tokenizer::FromJson(ReadFile(argv[1], Tokenizer::kMaxFileBytes), argv[1]);
  std::vector<std::string> bytes(kVocabSize);
  std::vector<int32_t> control;
  for (int32_t id = 0; id < tokenizer->vocab_size(); ++id) {
    bytes[static_cast<size_t>(id)] = tokenizer->TokenBytes(id);
    if (tokenizer->IsAdded(id)) control.push_back(id);
  }
  auto begin = Clock::now();
  const auto tokens = std::make_shared<grammar::TokenTable>(bytes, control, kVocabSize);
  std::printf("vocabulary of %zu: %.0f ms, once\n", kVocabSize, Microseconds(begin) / 1000);
  std::mt19937 random(1);
  for (const Case& c : Cases()) {
    begin = Clock::now();
    const auto grammar = grammar::Compile(c.spec, tokens);
    std::printf("%-32s compiled in %.1f ms\n", c.name, Microseconds(begin) / 1000);
    std::vector<double> first, again;
    Walk(grammar, random, first);
    for (int i = 0; i < 30; ++i) Walk(grammar, random, again);
    Print(c.name, "first", first);
    Print(c.name, "again", again);
  }
  return 0;
}

}  // namespace
}  // namespace baleen

int main(int argc, char** argv) { return baleen::Run(argc, argv); }
