// baleen/grammar.h: what an answer must look like, whatever the model would rather say.
//
//   auto spec = GrammarSpec::JsonSchema(R"({"type": "object", ...})");
//   request.grammar = engine->CompileGrammar(spec);
//
// Plain data; the standard library only. Control tokens of the vocabulary, such as those that a
// chat template writes, are no text: they come only where kControl, or the end of kTextUntil, says.
#ifndef BALEEN_GRAMMAR_H_
#define BALEEN_GRAMMAR_H_

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace baleen {

struct GrammarSpec {
  enum class Kind {
    kText,        // any text in which `text` does not occur (empty: any text at all)
    kTextUntil,   // any text up to the first `text`, and that
    kLiteral,     // `text`
    kControl,     // the control token named `text`, or its letters if the vocabulary has none
    kPattern,     // a text that matches the regular expression `text` as a whole
    kJsonObject,  // any JSON object
    kJsonSchema,  // JSON that the schema `text` accepts
    kSequence,    // all of `parts`, one after the other
    kChoice,      // one of `parts`
    kRepeat,      // parts[0], `min` to `max` times
  };

  Kind kind = Kind::kText;
  std::string text;
  std::vector<GrammarSpec> parts;
  size_t min = 0;
  size_t max = 0;       // kRepeat; 0: no limit
  bool strict = false;  // kJsonSchema: what cannot be enforced is an error, and not left out

  static GrammarSpec Text(std::string without = "") { return Leaf(Kind::kText, without); }
  static GrammarSpec TextUntil(std::string end) { return Leaf(Kind::kTextUntil, end); }
  static GrammarSpec Literal(std::string text) { return Leaf(Kind::kLiteral, text); }
  static GrammarSpec Control(std::string name) { return Leaf(Kind::kControl, name); }
  static GrammarSpec Pattern(std::string pattern) { return Leaf(Kind::kPattern, pattern); }
  static GrammarSpec JsonObject() { return Leaf(Kind::kJsonObject, ""); }
  static GrammarSpec JsonSchema(std::string schema, bool strict = false) {
    GrammarSpec spec = Leaf(Kind::kJsonSchema, std::move(schema));
    spec.strict = strict;
    return spec;
  }
  static GrammarSpec Sequence(std::vector<GrammarSpec> parts) {
    return {Kind::kSequence, "", std::move(parts)};
  }
  static GrammarSpec Choice(std::vector<GrammarSpec> parts) {
    return {Kind::kChoice, "", std::move(parts)};
  }
  static GrammarSpec Repeat(GrammarSpec part, size_t min, size_t max) {
    return {Kind::kRepeat, "", {std::move(part)}, min, max};
  }

 private:
  static GrammarSpec Leaf(Kind kind, std::string text) { return {kind, std::move(text), {}}; }

 public:
  bool operator==(const GrammarSpec&) const = default;
};

// A spec made ready for one model's vocabulary. Immutable, thread-safe, good for many requests.
class Grammar {
 public:
  virtual ~Grammar() = default;
  // What was left out, as "minContains at #/properties/a"; empty under `strict`.
  virtual const std::vector<std::string>& ignored() const = 0;
};

}  // namespace baleen

#endif  // BALEEN_GRAMMAR_H_
