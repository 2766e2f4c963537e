#include "grammar/compile.h"

#include "base/error.h"
#include "grammar/json_schema.h"
#include "grammar/json_text.h"
#include "grammar/pattern.h"

namespace baleen::grammar {

namespace {

constexpr size_t kMaxNesting = 100;
constexpr size_t kMaxSteps = 12'000'000;  // about a second
constexpr size_t kMaxMarkBytes = 1000;

class SpecCompiler {
 public:
  explicit SpecCompiler(const TokenTable& tokens) : tokens_(tokens), json_(rules_) {}

  int RuleOf(const GrammarSpec& spec) { return rules_.Add(ToDfa(Build(spec, 0))); }
  std::vector<Rule> TakeRules() { return std::move(rules_.rules()); }
  std::vector<std::string> TakeIgnored() { return std::move(ignored_); }

 private:
  Expr Build(const GrammarSpec& spec, size_t depth);
  Dfa Text(const std::string& mark, bool until);

  const TokenTable& tokens_;
  RuleSet rules_;
  JsonRules json_;
  std::vector<std::string> ignored_;
};

Expr SpecCompiler::Build(const GrammarSpec& spec, size_t depth) {
  if (depth > kMaxNesting) Throw(ErrorCode::kInvalidArgument, "the grammar is nested too deep");
  std::vector<Expr> parts;
  for (const GrammarSpec& part : spec.parts) parts.push_back(Build(part, depth + 1));
  switch (spec.kind) {
    case GrammarSpec::Kind::kText:
    case GrammarSpec::Kind::kTextUntil:
      return Call(rules_.Add(Text(spec.text, spec.kind == GrammarSpec::Kind::kTextUntil)));
    case GrammarSpec::Kind::kLiteral:
      return Bytes(spec.text);
    case GrammarSpec::Kind::kControl: {
      const int32_t token = tokens_.FindControl(spec.text);
      if (token < 0) return Bytes(spec.text);
      const Symbol symbol = kFirstToken + static_cast<Symbol>(token);
      return Symbols({{symbol, symbol}});
    }
    case GrammarSpec::Kind::kPattern:
      return Call(rules_.Add(ToUtf8(CompilePattern(spec.text, true))));
    case GrammarSpec::Kind::kJsonObject:
      return Call(json_.Object());
    case GrammarSpec::Kind::kJsonSchema:
      return Call(AddSchema(spec.text, spec.strict, json_, ignored_));
    case GrammarSpec::Kind::kSequence:
      return Sequence(std::move(parts));
    case GrammarSpec::Kind::kChoice:
      return Choice(std::move(parts));
    case GrammarSpec::Kind::kRepeat:
      if (parts.size() != 1) Throw(ErrorCode::kInvalidArgument, "a repetition has one part");
      return Repeat(parts[0], spec.min, spec.max == 0 ? kUnlimited : spec.max);
  }
  Throw(ErrorCode::kInternal, "a grammar of an unknown kind");
}

// Any bytes, with an eye on the mark: states say how much of it has been read.
// The mark counts whether it is one token or spelled.
Dfa SpecCompiler::Text(const std::string& mark, bool until) {
  if (mark.size() > kMaxMarkBytes || (until && mark.empty())) {
    Throw(ErrorCode::kInvalidArgument, "the text to look for must have 1 to {} bytes",
          kMaxMarkBytes);
  }
  // Where to go on after `byte` when `read` bytes of the mark stand before it.
  const auto next = [&](size_t read, uint8_t byte) {
    const std::string text = mark.substr(0, read) + static_cast<char>(byte);
    for (size_t length = std::min(text.size(), mark.size()); length > 0; --length) {
      if (text.ends_with(mark.substr(0, length))) return length;
    }
    return size_t{0};
  };
  Nfa nfa;
  for (size_t i = 0; i <= mark.size(); ++i) nfa.AddState();
  const size_t num_states = std::max<size_t>(mark.size(), 1);
  const auto end = static_cast<int32_t>(mark.size());
  const int32_t mark_token = mark.empty() ? -1 : tokens_.FindControl(mark);
  for (size_t i = 0; i < num_states; ++i) {
    const auto from = static_cast<int32_t>(i);
    if (!until) nfa.Accept(from);
    for (int b = 0; b < 256; ++b) {
      const size_t to = mark.empty() ? 0 : next(i, static_cast<uint8_t>(b));
      if (!mark.empty() && to == mark.size() && !until) continue;
      nfa.AddEdge(from, {static_cast<Symbol>(b), static_cast<Symbol>(b)}, static_cast<int32_t>(to));
    }
    if (until && mark_token >= 0) {
      const Symbol symbol = kFirstToken + static_cast<Symbol>(mark_token);
      nfa.AddEdge(from, {symbol, symbol}, end);
    }
  }
  if (until) nfa.Accept(end);
  return nfa.Determinize();
}

}  // namespace

std::shared_ptr<const CompiledGrammar> Compile(const GrammarSpec& spec,
                                               std::shared_ptr<const TokenTable> tokens) {
  const WorkLimit limit(kMaxSteps);
  SpecCompiler compiler(*tokens);
  const int start = compiler.RuleOf(spec);
  return std::make_shared<CompiledGrammar>(compiler.TakeRules(), start, std::move(tokens),
                                           compiler.TakeIgnored());
}

}  // namespace baleen::grammar
