#include <gtest/gtest.h>

#include <cmath>
#include <ctime>
#include <random>

#include "baleen/error.h"
#include "base/sanitized_testing.h"
#include "grammar/grammar_testing.h"

namespace baleen::grammar {
namespace {

ErrorCode CodeOf(const std::string& schema, bool strict = true) {
  try {
    TestGrammar(GrammarSpec::JsonSchema(schema, strict));
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::kInternal;
}

bool HasBit(const TokenBitmask& mask, int32_t token) {
  return ((mask[static_cast<size_t>(token) / 64] >> (token % 64)) & 1) != 0;
}

TEST(Grammar, Json) {
  const auto json = TestGrammar(GrammarSpec::JsonObject());
  EXPECT_EQ(MatchText(json, R"({"a": [1, -2.5e3, "x\n\u00e9\ud83d\ude00é", true, null], "b":{}})"),
            Match::kWhole);
  EXPECT_EQ(MatchText(json, "{\n  \"a\": 1\n}"), Match::kWhole);
  EXPECT_EQ(MatchText(json, R"({"a": )"), Match::kBegins);
  for (const char* text :
       {"[", "{,", R"({"a" )", R"({"a":01)", R"({"a":"\x)", R"({"a":.5)", R"({"a":"\ud83d\u0041)",
        R"({"a":tru })", "{\"a\":\"\n", "{}}", "{\"a\":\"\xc0", "{\"a\":\"\xed\xa0"}) {
    EXPECT_EQ(MatchText(json, text), Match::kNo) << text;
  }
}

TEST(Grammar, Objects) {
  const std::string schema = R"({"type": "object", "properties": {
      "a": {"type": "integer"}, "b": {"type": "boolean"}, "c": {"type": "null"}},
      "required": ["b"], "additionalProperties": false})";
  for (const char* text : {R"({"b":true})", R"({"a": 1, "b": false})",
                           R"({"a":1,"b":true,"c":null})", R"({"b": true, "c": null})"}) {
    EXPECT_TRUE(Accepts(schema, text)) << text;
  }
  for (const char* text :
       {"{}", R"({"a":1})", R"({"b":true,})", R"({"b":1})", R"({"b":true,"d":1})", R"({,"b":true})",
        R"({"a":1"b":true})", R"({"b":true,"b":true})"}) {
    EXPECT_FALSE(Accepts(schema, text)) << text;
  }
}

TEST(Grammar, UndeclaredPropertiesKeepAwayFromDeclaredOnes) {
  const std::string schema = R"({"properties": {"ab": {"type": "integer"}}, "type": "object",
      "additionalProperties": {"type": "string"}})";
  EXPECT_TRUE(Accepts(schema, R"({"ab":1,"a":"x","abc":"y","":"z"})"));
  EXPECT_FALSE(Accepts(schema, R"({"ab":"x"})"));
  EXPECT_FALSE(Accepts(schema, R"({"a":1})"));
  // Not by another spelling either.
  EXPECT_FALSE(Accepts(schema, R"({"a\u0062":"x"})"));
  const std::string patterns = R"({"type": "object", "patternProperties": {
      "^n_": {"type": "number"}, "^s_": {"type": "string"}}, "additionalProperties": false})";
  EXPECT_TRUE(Accepts(patterns, R"({"n_1":1,"s_x":"a"})"));
  EXPECT_FALSE(Accepts(patterns, R"({"n_1":"a"})"));
  EXPECT_FALSE(Accepts(patterns, R"({"x":1})"));
}

TEST(Grammar, CountsProperties) {
  const std::string schema = R"({"type": "object", "properties": {"a": {"const": 1},
      "b": {"const": 2}, "c": {"const": 3}}, "minProperties": 2, "maxProperties": 2})";
  EXPECT_TRUE(Accepts(schema, R"({"a":1,"c":3})"));
  EXPECT_FALSE(Accepts(schema, R"({"a":1})"));
  EXPECT_FALSE(Accepts(schema, R"({"a":1,"b":2,"c":3})"));
}

TEST(Grammar, Arrays) {
  const std::string schema =
      R"({"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3})";
  EXPECT_TRUE(Accepts(schema, "[1]"));
  EXPECT_TRUE(Accepts(schema, "[1, 2,3]"));
  EXPECT_FALSE(Accepts(schema, "[]"));
  EXPECT_FALSE(Accepts(schema, "[1,2,3,4]"));
  EXPECT_FALSE(Accepts(schema, "[1 2]"));
  EXPECT_FALSE(Accepts(schema, R"(["1"])"));
  const std::string tuple = R"({"type": "array", "prefixItems": [{"type": "string"},
      {"type": "integer"}], "items": false, "minItems": 2})";
  EXPECT_TRUE(Accepts(tuple, R"(["a", 1])"));
  EXPECT_FALSE(Accepts(tuple, R"(["a"])"));
  EXPECT_FALSE(Accepts(tuple, R"(["a",1,2])"));
  EXPECT_TRUE(Accepts(R"({"type": "array"})", R"([1, "a", [], {}])"));
  EXPECT_TRUE(Accepts(R"({"type": "array", "items": {"type": "null"}, "minItems": 2})",
                      "[null,null,null]"));
}

TEST(Grammar, StringLengthsCountCharacters) {
  const std::string schema = R"({"type": "string", "minLength": 2, "maxLength": 3})";
  for (const char* text : {R"("ab")", R"("éa")", R"("\n\u00e9\ud83d\ude00")", R"("😀😀")"}) {
    EXPECT_TRUE(Accepts(schema, text)) << text;
  }
  for (const char* text : {R"("a")", R"("abcd")", R"("é")", R"("\ud83d\ude00")"}) {
    EXPECT_FALSE(Accepts(schema, text)) << text;
  }
}

TEST(Grammar, Patterns) {
  struct Case {
    const char* pattern;
    std::vector<const char*> yes, no;
  };
  const std::vector<Case> cases = {
      {R"(^\\d{3}-\\w+$)", {"123-a_Z9"}, {"12-a", "123-", "123-a b", "x123-a"}},
      {R"(\\d)", {"1", "a1b", "  7"}, {"", "abc"}},  // unanchored
      {"^a|b$", {"a", "axx", "b", "xxb"}, {"xa", "bx"}},
      {"^(ab|a)*?c+$", {"c", "abac", "ccc"}, {"ab", "bc"}},
      {"[^a-c\\\\s]", {"d", "ad", "é"}, {"abc", "a b"}},
      {"^.$", {"x", "é", "😀", "\\\""}, {"", "xy"}},
      {"^(?:x{2,3}|[.\\\\-]+)$", {"xx", "xxx", ".-"}, {"x", "xxxx"}},
      {"^(?<y>[0-9]{4})$", {"2024"}, {"202"}},
      {"^\\\\u00e9\\\\x41$", {"éA"}, {"eA"}},
      {"^{$", {"{"}, {"}"}},
      {"^\\\\D\\\\S$", {"ab"}, {"1b", "a\\n"}},
  };
  for (const Case& c : cases) {
    const std::string schema =
        std::string(R"({"type": "string", "pattern": ")") + c.pattern + "\"}";
    for (const char* text : c.yes) {
      EXPECT_TRUE(Accepts(schema, "\"" + std::string(text) + "\"")) << c.pattern << " " << text;
    }
    for (const char* text : c.no) {
      EXPECT_FALSE(Accepts(schema, "\"" + std::string(text) + "\"")) << c.pattern << " " << text;
    }
  }
  // With a length the shorter of both holds.
  const std::string both = R"({"type": "string", "pattern": "^a+$", "maxLength": 2})";
  EXPECT_TRUE(Accepts(both, "\"aa\""));
  EXPECT_FALSE(Accepts(both, "\"aaa\""));
  for (const char* pattern :
       {"(?=a)", "(?!a)b", "(?<=a)", "(a)\\\\1", "\\\\bword", "\\\\p{L}", "(?i)a"}) {
    EXPECT_EQ(CodeOf(std::string(R"({"type": "string", "pattern": ")") + pattern + "\"}"),
              ErrorCode::kUnimplemented)
        << pattern;
  }
  for (const char* pattern : {"(", ")", "[a", "a{3,2}", "*", "a**b(", "[b-a]", "\\\\"}) {
    EXPECT_EQ(CodeOf(std::string(R"({"type": "string", "pattern": ")") + pattern + "\"}"),
              ErrorCode::kInvalidArgument)
        << pattern;
  }
}

TEST(Grammar, Formats) {
  const auto accepts = [](const std::string& format, const std::string& text) {
    return Accepts(R"({"type": "string", "format": ")" + format + "\"}", "\"" + text + "\"");
  };
  EXPECT_TRUE(accepts("date", "2024-02-28"));
  EXPECT_FALSE(accepts("date", "2024-04-31"));
  EXPECT_TRUE(accepts("date-time", "2024-12-31T23:59:59.5Z"));
  EXPECT_TRUE(accepts("time", "12:00:00+01:00"));
  EXPECT_TRUE(accepts("uuid", "123e4567-e89b-12d3-a456-426614174000"));
  EXPECT_FALSE(accepts("uuid", "123e4567"));
  EXPECT_TRUE(accepts("email", "a.b@example.org"));
  EXPECT_FALSE(accepts("email", "a.b"));
  EXPECT_TRUE(accepts("ipv4", "192.168.0.1"));
  EXPECT_FALSE(accepts("ipv4", "256.1.1.1"));
  EXPECT_TRUE(accepts("uri", "https://example.org/a?b=c"));
  EXPECT_TRUE(accepts("never-heard-of", "anything"));  // an annotation
}

// Every number of a grid, as a validator would judge it.
TEST(Grammar, NumberBounds) {
  struct Case {
    const char* keywords;
    bool (*holds)(double);
  };
  const std::vector<Case> cases = {
      {R"("minimum": 3)", [](double x) { return x >= 3; }},
      {R"("exclusiveMinimum": 3)", [](double x) { return x > 3; }},
      {R"("maximum": 12)", [](double x) { return x <= 12; }},
      {R"("exclusiveMaximum": 12.5)", [](double x) { return x < 12.5; }},
      {R"("minimum": -7.25, "maximum": 10.5)", [](double x) { return x >= -7.25 && x <= 10.5; }},
      {R"("exclusiveMinimum": -10, "exclusiveMaximum": -1)",
       [](double x) { return x > -10 && x < -1; }},
      {R"("minimum": 0, "maximum": 1)", [](double x) { return x >= 0 && x <= 1; }},
      {R"("minimum": 98, "maximum": 101)", [](double x) { return x >= 98 && x <= 101; }},
      {R"("exclusiveMinimum": 0)", [](double x) { return x > 0; }},
      {R"("multipleOf": 7)", [](double x) { return std::fmod(x, 7) == 0; }},
      {R"("minimum": 0.5, "exclusiveMaximum": 1.125)",
       [](double x) { return x >= 0.5 && x < 1.125; }},
  };
  for (const Case& c : cases) {
    const std::string keywords = c.keywords;
    const auto numbers =
        TestGrammar(GrammarSpec::JsonSchema("{\"type\": \"number\", " + keywords + "}", true));
    const auto integers =
        TestGrammar(GrammarSpec::JsonSchema("{\"type\": \"integer\", " + keywords + "}", true));
    const bool has_fractions = keywords.find("multipleOf") == std::string::npos;
    for (int i = -13 * 8; i <= 105 * 8; ++i) {
      const double x = i / 8.0;
      std::string text = std::to_string(x);
      text.erase(text.find_last_not_of('0') + 1);
      const bool is_whole = text.ends_with('.');
      if (is_whole) text.pop_back();
      if (text == "-0") continue;
      if (is_whole || has_fractions) {
        EXPECT_EQ(MatchText(numbers, text) == Match::kWhole, c.holds(x)) << keywords << " " << text;
        if (!is_whole) {
          EXPECT_EQ(MatchText(numbers, text + "00") == Match::kWhole, c.holds(x)) << text;
        }
      }
      EXPECT_EQ(MatchText(integers, text) == Match::kWhole, is_whole && c.holds(x))
          << keywords << " " << text;
    }
    for (const char* wrong : {"", "-", "01", "1.", ".5", "+1", "--1"}) {
      EXPECT_NE(MatchText(numbers, wrong), Match::kWhole) << keywords << " " << wrong;
    }
  }
}

TEST(Grammar, ValuesAndCombinations) {
  const std::string values = R"({"enum": ["a", "b\n", 1, null, {"x": [1, 2]}]})";
  for (const char* text : {R"("a")", R"("b\n")", "1", "null", R"({"x": [1,2]})"}) {
    EXPECT_TRUE(Accepts(values, text)) << text;
  }
  EXPECT_FALSE(Accepts(values, "2"));
  EXPECT_TRUE(Accepts(R"({"type": "string", "enum": ["a", 1]})", R"("a")"));
  EXPECT_FALSE(Accepts(R"({"type": "string", "enum": ["a", 1]})", "1"));
  const std::string any = R"({"anyOf": [{"type": "string"}, {"type": "integer"}], "maximum": 5})";
  EXPECT_TRUE(Accepts(any, "5"));
  EXPECT_FALSE(Accepts(any, "6"));
  EXPECT_TRUE(Accepts(any, "\"x\""));
  const std::string all = R"({"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}},
      "required": ["a"]}, {"properties": {"b": {"type": "string"}}, "required": ["b"]}]})";
  EXPECT_TRUE(Accepts(all, R"({"a":1,"b":"x"})"));
  EXPECT_FALSE(Accepts(all, R"({"a":1})"));
  // Tagged alternatives, as pydantic writes them.
  const std::string tagged = R"({"oneOf": [
      {"type": "object", "properties": {"k": {"const": "x"}, "v": {"type": "null"}}, "required": ["k", "v"]},
      {"type": "object", "properties": {"k": {"const": "y"}}, "required": ["k"]}],
      "discriminator": {"propertyName": "k"}})";
  EXPECT_TRUE(Accepts(tagged, R"({"k":"x","v":null})"));
  EXPECT_TRUE(Accepts(tagged, R"({"k":"y"})"));
  EXPECT_FALSE(Accepts(tagged, R"({"k":"x"})"));
}

TEST(Grammar, References) {
  const std::string tree = R"({"$defs": {"node": {"type": "object", "properties": {
      "v": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
      "required": ["v", "next"]}}, "$ref": "#/$defs/node", "description": "a list"})";
  EXPECT_TRUE(Accepts(tree, R"({"v":1,"next":{"v":2,"next":null}})"));
  EXPECT_FALSE(Accepts(tree, R"({"v":1,"next":{"v":2}})"));
  EXPECT_TRUE(Accepts(R"({"type": "array", "items": {"$ref": "#"}})", "[[],[[]]]"));
  EXPECT_TRUE(
      Accepts(R"({"$ref": "#/definitions/a~1b", "definitions": {"a/b": {"const": 1}}})", "1"));
  EXPECT_EQ(CodeOf(R"({"$ref": "#/nowhere"})"), ErrorCode::kInvalidArgument);
  EXPECT_EQ(CodeOf(R"({"$ref": "https://example.org"})"), ErrorCode::kInvalidArgument);
  // Itself and nothing else is any value; what must hold itself is none.
  EXPECT_TRUE(Accepts(R"({"$ref": "#"})", "1"));
  EXPECT_TRUE(Accepts(R"({"anyOf": [{"$ref": "#"}, {"type": "null"}]})", "null"));
  EXPECT_EQ(CodeOf(R"({"anyOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"anyOf": [
      {"$ref": "#"}]}}})"),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(CodeOf(R"({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]})"),
            ErrorCode::kInvalidArgument);
}

TEST(Grammar, UniqueItemsOfFewValues) {
  const std::string colors =
      R"({"type": "array", "uniqueItems": true, "items": {"$ref": "#/$defs/C"},
      "$defs": {"C": {"enum": ["red", "green", "blue"]}}, "minItems": 1})";
  for (const char* text : {R"(["red"])", R"(["blue", "red"])", R"(["green", "red", "blue"])"}) {
    EXPECT_TRUE(Accepts(colors, text)) << text;
  }
  for (const char* text : {"[]", R"(["red", "red"])", R"(["blue", "red", "blue"])", R"(["pink"])",
                           R"(["green", "red", "blue", "red"])"}) {
    EXPECT_FALSE(Accepts(colors, text)) << text;
  }
  const std::string booleans =
      R"({"type": "array", "uniqueItems": true, "items": {"type": ["boolean", "null"]}})";
  EXPECT_TRUE(Accepts(booleans, "[true, null, false]"));
  EXPECT_FALSE(Accepts(booleans, "[true, true]"));
  // The same value twice is one; what two texts may write is left to the judge.
  EXPECT_FALSE(
      Accepts(R"({"type": "array", "uniqueItems": true, "items": {"enum": [1, 1]}})", "[1, 1]"));
  EXPECT_EQ(CodeOf(R"({"type": "array", "uniqueItems": true, "items": {"enum": [1, 1.0]}})"),
            ErrorCode::kUnimplemented);
  EXPECT_EQ(CodeOf(R"({"type": "array", "uniqueItems": true, "minItems": 4, "items": {
      "enum": ["a", "b", "c"]}})"),
            ErrorCode::kInvalidArgument);
  // Twelve values have 4,096 sets, but only 79 of at most two.
  const std::string many =
      R"("uniqueItems": true, "items": {"enum": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]})";
  EXPECT_EQ(CodeOf("{\"type\": \"array\", " + many + "}"), ErrorCode::kUnimplemented);
  EXPECT_TRUE(Accepts("{\"type\": \"array\", \"maxItems\": 2, " + many + "}", "[12, 3]"));
  EXPECT_FALSE(Accepts("{\"type\": \"array\", \"maxItems\": 2, " + many + "}", "[3, 3]"));
}

TEST(Grammar, Not) {
  EXPECT_TRUE(Accepts(R"({"anyOf": [{"not": {}}, {"type": "string"}]})", R"("a")"));
  EXPECT_FALSE(Accepts(R"({"anyOf": [{"not": {}}, {"type": "string"}]})", "1"));
  EXPECT_TRUE(Accepts(R"({"not": false})", "1"));
  EXPECT_EQ(CodeOf(R"({"not": true})"), ErrorCode::kInvalidArgument);
  const std::string no_null = R"({"type": ["string", "null"], "not": {"type": "null"}})";
  EXPECT_TRUE(Accepts(no_null, R"("null")"));
  EXPECT_FALSE(Accepts(no_null, "null"));
  EXPECT_TRUE(Accepts(R"({"type": ["integer", "string"], "not": {"type": "integer"}})", R"("1")"));
  const std::string not_these =
      R"({"type": "string", "maxLength": 3, "not": {"enum": ["ab", ""]}})";
  for (const char* text : {R"("a")", R"("abc")", R"("b")"}) {
    EXPECT_TRUE(Accepts(not_these, text)) << text;
  }
  for (const char* text : {R"("ab")", R"("")", R"("abcd")", R"("\u0061b")"}) {
    EXPECT_FALSE(Accepts(not_these, text)) << text;
  }
  const std::string fewer = R"({"enum": ["a", "b", 1], "not": {"const": "a"}})";
  EXPECT_TRUE(Accepts(fewer, R"("b")"));
  EXPECT_FALSE(Accepts(fewer, R"("a")"));
}

TEST(Grammar, PropertyNamesOfAnEnum) {
  const std::string counts = R"({"type": "object", "additionalProperties": {"type": "integer"},
      "propertyNames": {"enum": ["a", "b", "c"]}, "properties": {"b": {"type": "null"}}})";
  for (const char* text : {"{}", R"({"a": 1})", R"({"b": null, "c": 3})", R"({"a": 1, "c": 2})"}) {
    EXPECT_TRUE(Accepts(counts, text)) << text;
  }
  for (const char* text : {R"({"d": 1})", R"({"a": null})", R"({"b": 1})", R"({"a": 1, "a": 2})"}) {
    EXPECT_FALSE(Accepts(counts, text)) << text;
  }
  EXPECT_TRUE(Accepts(R"({"type": "object", "propertyNames": {"enum": ["a"]}})", R"({"a": [1]})"));
  EXPECT_FALSE(Accepts(R"({"type": "object", "propertyNames": {"enum": ["a"]}})", R"({"b": 1})"));
}

TEST(Grammar, UnsupportedIsNamed) {
  const std::string schema = R"({"type": "array", "items": {"type": "string"}, "title": "t",
      "uniqueItems": true, "x-mine": 1, "description": "d", "default": [], "examples": []})";
  try {
    TestGrammar(GrammarSpec::JsonSchema(schema, true));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnimplemented);
    EXPECT_NE(std::string(error.what()).find("uniqueItems"), std::string::npos) << error.what();
  }
  const auto lenient = TestGrammar(GrammarSpec::JsonSchema(schema, false));
  EXPECT_EQ(lenient->ignored(), (std::vector<std::string>{"uniqueItems at #"}));
  EXPECT_EQ(MatchText(lenient, R"(["a","a"])"), Match::kWhole);
  for (const char* schema : {R"({"not": {"minLength": 1}})", R"({"not": {"const": 1}})",
                             R"({"not": {"type": "integer"}})", R"({"not": {"enum": [[1]]}})"}) {
    EXPECT_EQ(CodeOf(schema), ErrorCode::kUnimplemented) << schema;
  }
  for (const char* keyword : {"if", "contains", "dependentRequired"}) {
    EXPECT_EQ(CodeOf(std::string("{\"") + keyword + "\": {}}"), ErrorCode::kUnimplemented)
        << keyword;
  }
}

TEST(Grammar, BrokenSchemas) {
  for (const char* schema : {"",
                             "[]",
                             "1",
                             "{\"type\": \"strin\"}",
                             R"({"type": 1})",
                             R"({"properties": []})",
                             R"({"required": "a"})",
                             R"({"minLength": -1})",
                             R"({"minLength": "a"})",
                             R"({"enum": 1})",
                             R"({"anyOf": {}})",
                             R"({"anyOf": []})",
                             "false",
                             R"({"enum": []})",
                             R"({"type": "string", "minLength": 3, "maxLength": 2})",
                             R"({"multipleOf": 0})",
                             R"({"allOf": [1]})",
                             R"({"$ref": 1})",
                             R"({"type": "integer", "minimum": 1.2, "maximum": 1.8})",
                             R"({"pattern": 1, "type": "string"})",
                             R"({"items": 5})",
                             R"({"additionalProperties": 1})"}) {
    EXPECT_EQ(CodeOf(schema), ErrorCode::kInvalidArgument) << schema;
  }
}

// None of these may keep a thread busy: all are refused, or done, within a second or two.
TEST(Grammar, HeavySchemas) {
  const std::clock_t begin = std::clock();  // of this process, however busy the machine is
  for (const char* pattern : {"^((a{1,1000}){1,1000}){1,1000}$", "^(a{0,600}){0,600}$",
                              "^(a|b)*a(a|b){40}$", "(x+x+)+y{3000}"}) {
    EXPECT_EQ(CodeOf(std::string(R"({"type": "string", "pattern": ")") + pattern + "\"}"),
              ErrorCode::kInvalidArgument)
        << pattern;
  }
  TestGrammar(GrammarSpec::JsonSchema(R"({"type": "string", "pattern": "^a{4000}$"})", true));
  // What pydantic says of a URL, and other long bounds, are no such thing.
  for (const char* schema :
       {R"({"type": "array", "maxItems": 2000})",
        R"({"type": "string", "format": "uri", "minLength": 1, "maxLength": 2083})",
        R"({"type": "string", "format": "email", "maxLength": 254})"}) {
    TestGrammar(GrammarSpec::JsonSchema(schema, true));
  }
  EXPECT_LT(static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC, 20);
}

TEST(Grammar, TextAndMarks) {
  const auto spec = GrammarSpec::Sequence(
      {GrammarSpec::TextUntil("</think>"),
       GrammarSpec::Choice({GrammarSpec::JsonSchema(R"({"type": "integer"})"),
                            GrammarSpec::Sequence({GrammarSpec::Control("<|call|>"),
                                                   GrammarSpec::Pattern("[a-z]+é?"),
                                                   GrammarSpec::Control("<|end|>")})})});
  const auto grammar = TestGrammar(spec);
  EXPECT_EQ(MatchText(grammar, "x </thi <</think>12"), Match::kWhole);
  EXPECT_EQ(MatchText(grammar, "12"), Match::kBegins);
  EXPECT_EQ(MatchText(grammar, "</think>x"), Match::kNo);
  Matcher matcher(grammar);
  for (const char c : std::string("a</think>")) ASSERT_TRUE(matcher.Accept(c));
  EXPECT_TRUE(HasBit(matcher.AllowedTokens(), kFirstControl));
  EXPECT_FALSE(HasBit(matcher.AllowedTokens(), kFirstControl + 1));
  // A control token is not its letters.
  EXPECT_FALSE(HasBit(matcher.AllowedTokens(), '<'));
  ASSERT_TRUE(matcher.Accept(kFirstControl));
  EXPECT_FALSE(matcher.at_end());
  for (const char c : std::string("abé"))
    ASSERT_TRUE(matcher.Accept(static_cast<unsigned char>(c)));
  ASSERT_TRUE(matcher.Accept(kFirstControl + 1));
  EXPECT_TRUE(matcher.is_finished());

  const auto text = TestGrammar(GrammarSpec::Sequence(
      {GrammarSpec::Text("<tool>"), GrammarSpec::Repeat(GrammarSpec::Literal("<tool>x"), 0, 2)}));
  EXPECT_EQ(MatchText(text, "any <too thing"), Match::kWhole);
  EXPECT_EQ(MatchText(text, "a<tool>x<tool>x"), Match::kWhole);
  EXPECT_EQ(MatchText(text, "a<tool>y"), Match::kNo);
  EXPECT_EQ(MatchText(text, "<tool>x<tool>x<tool>"), Match::kNo);
}

// The masks of whole tokens against the plain way: one token after the other, byte by byte.
TEST(Grammar, MasksAgreeWithBytes) {
  const std::vector<GrammarSpec> specs = {
      GrammarSpec::JsonObject(),
      GrammarSpec::JsonSchema(R"({"type": "object", "properties": {"a": {"type": "string",
          "minLength": 1, "maxLength": 6}, "ab": {"type": "array", "items": {"type": "number"},
          "maxItems": 3}}, "additionalProperties": {"type": "boolean"}})"),
      GrammarSpec::JsonSchema(R"({"type": "array", "items": {"type": "string", "pattern": "^a.*b?$",
          "maxLength": 5}})"),
      GrammarSpec::Sequence({GrammarSpec::TextUntil("</think>"), GrammarSpec::JsonObject()}),
      GrammarSpec::Sequence({GrammarSpec::Text("<|call|>"), GrammarSpec::Control("<|call|>"),
                             GrammarSpec::Pattern("(ab|a|é)*\"")}),
      GrammarSpec::JsonSchema(R"({"anyOf": [{"type": "object", "properties": {"a": {"const": 1}}},
          {"type": "object", "properties": {"a": {"enum": ["abc", "ab"]}, "abc": true}}]})"),
  };
  std::mt19937 random(7);
  size_t num_allowed = 0;
  for (const GrammarSpec& spec : specs) {
    const auto grammar = TestGrammar(spec);
    for (int walk = 0; walk < (kSanitized ? 3 : 8); ++walk) {
      Matcher matcher(grammar);
      for (int step = 0; step < 40 && !matcher.is_finished(); ++step) {
        const TokenBitmask mask = matcher.AllowedTokens();
        std::vector<int32_t> allowed;
        for (int32_t token = 0; token < 320; ++token) {
          Matcher trial = matcher;
          const bool is_empty = grammar->tokens().Bytes(token).empty();
          const bool expected = !is_empty && trial.Accept(token);
          ASSERT_EQ(HasBit(mask, token), expected)
              << "token " << token << " " << grammar->tokens().Bytes(token) << " step " << step;
          // Long tokens are rare among the bytes: prefer them.
          if (expected) allowed.insert(allowed.end(), token >= 256 ? 30 : 1, token);
        }
        ASSERT_FALSE(allowed.empty());
        num_allowed += allowed.size();
        matcher.Accept(allowed[random() % allowed.size()]);
      }
    }
  }
  EXPECT_GT(num_allowed, 10'000u);
}

TEST(Grammar, MaskLetsAnswersEndOnlyWhole) {
  Matcher matcher(TestGrammar(GrammarSpec::JsonSchema(R"({"type": "integer"})")));
  const int32_t stop = kFirstControl + 1;
  std::vector<float> logits(320, 1);
  matcher.Mask(logits, std::vector<int32_t>{stop});
  EXPECT_EQ(logits[stop], -INFINITY);
  EXPECT_EQ(logits['7'], 1);
  EXPECT_EQ(logits['a'], -INFINITY);
  ASSERT_TRUE(matcher.Accept('7'));
  logits.assign(320, 1);
  matcher.Mask(logits, std::vector<int32_t>{stop});
  EXPECT_EQ(logits[stop], 1);
  EXPECT_FALSE(matcher.Accept('x'));
}

// A vocabulary that cannot spell a byte: what needs it is left out, and no answer gets stuck.
TEST(Grammar, VocabularyWithHoles) {
  std::vector<std::string> bytes;
  for (int b = 0; b < 256; ++b) bytes.emplace_back(b == 'b' ? 0 : 1, static_cast<char>(b));
  const auto tokens = std::make_shared<TokenTable>(bytes, std::vector<int32_t>{}, 256);
  const auto grammar = Compile(GrammarSpec::JsonSchema(R"({"enum": ["abc", "acc"]})"), tokens);
  EXPECT_EQ(MatchText(grammar, "\"acc\""), Match::kWhole);
  EXPECT_EQ(MatchText(grammar, "\"a"), Match::kBegins);
  Matcher matcher(grammar);
  for (const char c : std::string("\"a")) ASSERT_TRUE(matcher.Accept(c));
  EXPECT_FALSE(HasBit(matcher.AllowedTokens(), 'b'));
  EXPECT_TRUE(HasBit(matcher.AllowedTokens(), 'c'));
}

}  // namespace
}  // namespace baleen::grammar
