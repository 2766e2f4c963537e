#include "grammar/json_rules.h"

#include "grammar/json_text.h"

namespace baleen::grammar {

namespace {

constexpr size_t kMaxIndentation = 40;

}  // namespace

// The number is known before the rule, which may call itself.
template <typename Make>
int JsonRules::Once(int& rule, Make make) {
  if (rule < 0) {
    rule = rules_.Reserve();
    const int made = rule;
    rules_.Set(made, ToDfa(make()));
  }
  return rule;
}

int JsonRules::Space() {
  return Once(space_, [] {
    const Expr indentation = Repeat(Symbols({{' ', ' '}, {'\t', '\t'}}), 0, kMaxIndentation);
    return Choice({Empty(), Bytes(" "), Sequence({Bytes("\n"), indentation})});
  });
}

int JsonRules::String() {
  return Once(string_, [] {
    return Sequence({Bytes("\""), Repeat(JsonCharacter(), 0, kUnlimited), Bytes("\"")});
  });
}

int JsonRules::String(size_t min_length, size_t max_length) {
  if (min_length == 0 && max_length == kUnlimited) return String();
  const int characters = rules_.AddCounted(ToDfa(JsonCharacter()), min_length, max_length);
  return rules_.Add(ToDfa(Sequence({Bytes("\""), Call(characters), Bytes("\"")})));
}

int JsonRules::Number() {
  if (number_ < 0) number_ = rules_.Add(JsonNumber({}, false));
  return number_;
}

int JsonRules::Value() {
  return Once(value_, [this] {
    return Choice({Call(Object()), Call(Array()), Call(String()), Call(Number()), Bytes("true"),
                   Bytes("false"), Bytes("null")});
  });
}

int JsonRules::Array() {
  return Once(array_, [this] {
    const Expr space = Call(Space());
    const Expr item = Call(Value());
    const Expr more = Repeat(Sequence({Bytes(","), space, item}), 0, kUnlimited);
    return Sequence({Bytes("["), space, Optional(Sequence({item, more, space})), Bytes("]")});
  });
}

int JsonRules::Object() {
  return Once(object_, [this] {
    const Expr space = Call(Space());
    const Expr member = Sequence({Call(String()), Bytes(":"), space, Call(Value())});
    const Expr more = Repeat(Sequence({Bytes(","), space, member}), 0, kUnlimited);
    return Sequence({Bytes("{"), space, Optional(Sequence({member, more, space})), Bytes("}")});
  });
}

}  // namespace baleen::grammar
