#include "grammar/json_schema.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "base/error.h"
#include "base/json.h"
#include "grammar/pattern.h"
#include "grammar/schema_node.h"

namespace baleen::grammar {

using simdjson::dom::array;
using simdjson::dom::element;
using simdjson::dom::object;

namespace {

constexpr size_t kMaxRules = 20'000;
constexpr size_t kMaxDepth = 400;
constexpr size_t kMaxListedItems = 2000;       // of minItems and maxItems
constexpr size_t kMaxCountedProperties = 200;  // of minProperties and maxProperties
constexpr size_t kMaxPatternLength = 2000;     // of minLength beside a pattern
constexpr size_t kMaxPatternStates = 10'000;   // of a pattern times its length
constexpr size_t kSpareLength = 20;
constexpr size_t kMaxSubsets = 1024;  // of the values of an array whose items are unique

Dfa AnyCharacters(size_t min, size_t max) {
  return ToDfa(Repeat(Symbols(ComplementOfCharacters({})), min, max));
}

Dfa Exactly(std::string_view text) {
  std::vector<Expr> parts;
  for (const Symbol point : CodePoints(text)) parts.push_back(Symbols({{point, point}}));
  return ToDfa(Sequence(std::move(parts)));
}

class SchemaCompiler {
 public:
  SchemaCompiler(element root, bool strict, JsonRules& json, std::vector<std::string>& ignored)
      : reader_(root, strict, ignored), json_(json), rules_(json.rules()) {}

  int RuleOf(const Conjunction& items);

 private:
  // A property that may be there: its name, and the rule of its value.
  struct Property {
    std::string name;
    int value;
    bool required;
  };
  // Keys that are not declared, and what their values are.
  struct KeyClass {
    Dfa keys;
    Conjunction values;
    bool wanted = false;  // somebody asked for such keys
  };

  Expr Build(const Conjunction& flat);
  std::optional<Expr> Branches(const Conjunction& flat);
  bool AreDisjoint(const Conjunction& a, const Conjunction& b);
  std::vector<std::string> TagsOf(const SchemaNode& node, const std::string& property);

  Expr Values(const SchemaNode& node, const std::string& path);
  bool Accepts(const SchemaNode& node, element value);
  Expr Literal(element value);
  Expr Strings(const SchemaNode& node, const std::string& path);
  Expr Numbers(const SchemaNode& node, const std::string& path);
  Expr Arrays(const SchemaNode& node, const std::string& path);
  std::optional<Expr> UniqueItems(const SchemaNode& node);
  Expr Objects(const SchemaNode& node, const std::string& path);
  std::vector<Property> Properties(const SchemaNode& node);
  std::vector<KeyClass> OtherKeys(const SchemaNode& node, const std::vector<Property>& properties);
  Conjunction ValuesOf(const SchemaNode& node, const std::string& name) const;
  Dfa ObjectDfa(const std::vector<Property>& properties,
                const std::vector<std::pair<int, int>>& others, size_t min, size_t max);

  SchemaReader reader_;
  JsonRules& json_;
  RuleSet& rules_;
  std::map<std::string, int> known_;
  std::map<int, bool> is_false_;
  size_t depth_ = 0;
};

int SchemaCompiler::RuleOf(const Conjunction& items) {
  const Conjunction flat = reader_.Flatten(items);
  std::vector<std::string> names;
  for (const SchemaItem& item : flat) {
    names.push_back(item.path + (item.any_of_chosen ? "!a" : "") +
                    (item.one_of_chosen ? "!o" : ""));
  }
  std::ranges::sort(names);
  std::string key;
  for (const std::string& name : names) key += name + "\n";
  if (const auto found = known_.find(key); found != known_.end()) return found->second;
  if (known_.size() > kMaxRules) {
    Throw(ErrorCode::kInvalidArgument, "the schema is too large: more than {} parts", kMaxRules);
  }
  if (++depth_ > kMaxDepth) {
    Throw(ErrorCode::kInvalidArgument, "the schema is nested more than {} deep", kMaxDepth);
  }
  const int rule = rules_.Reserve();
  known_[key] = rule;
  rules_.Set(rule, ToDfa(Build(flat)));
  --depth_;
  return rule;
}

// anyOf and oneOf: each branch beside what stands next to it.
std::optional<Expr> SchemaCompiler::Branches(const Conjunction& flat) {
  for (size_t i = 0; i < flat.size(); ++i) {
    object fields;
    if (flat[i].schema.get_object().get(fields)) continue;
    for (const bool is_any : {true, false}) {
      if (is_any ? flat[i].any_of_chosen : flat[i].one_of_chosen) continue;
      const char* const keyword = is_any ? "anyOf" : "oneOf";
      element list_element;
      if (fields.at_key(keyword).get(list_element)) continue;
      array list;
      if (list_element.get_array().get(list)) {
        RefuseSchema(std::string(keyword) + " must be a list", flat[i].path);
      }
      Conjunction beside = flat;
      (is_any ? beside[i].any_of_chosen : beside[i].one_of_chosen) = true;
      std::vector<Conjunction> branches;
      for (const element branch : list) {
        branches.push_back(beside);
        branches.back().push_back(
            {branch, flat[i].path + "/" + keyword + "/" + std::to_string(branches.size() - 1)});
      }
      for (size_t a = 0; !is_any && a < branches.size(); ++a) {
        for (size_t b = 0; b < a; ++b) {
          if (AreDisjoint(branches[a], branches[b])) continue;
          reader_.Unsupported("oneOf of branches that may overlap", flat[i].path);
          a = branches.size() - 1;
          break;
        }
      }
      std::vector<Expr> choices;
      for (const Conjunction& branch : branches) choices.push_back(Call(RuleOf(branch)));
      return Choice(std::move(choices));
    }
  }
  return std::nullopt;
}

// The values that a required property is limited to; empty: it is not.
std::vector<std::string> SchemaCompiler::TagsOf(const SchemaNode& node,
                                                const std::string& property) {
  if (!node.required.contains(property)) return {};
  const SchemaNode value = reader_.Read(reader_.Flatten(ValuesOf(node, property)));
  std::vector<std::string> tags;
  if (!value.values) return {};
  for (const element tag : *value.values) tags.push_back(simdjson::minify(tag));
  return tags;
}

// Whether no value can be of both, as far as types and constant properties tell.
bool SchemaCompiler::AreDisjoint(const Conjunction& a, const Conjunction& b) {
  const SchemaNode x = reader_.Read(reader_.Flatten(a));
  const SchemaNode y = reader_.Read(reader_.Flatten(b));
  const auto share = [](const std::vector<std::string>& s, const std::vector<std::string>& t) {
    return std::ranges::any_of(
        s, [&](const std::string& tag) { return std::ranges::find(t, tag) != t.end(); });
  };
  const auto texts = [](const SchemaNode& node) {
    std::vector<std::string> all;
    for (const element value : *node.values) all.push_back(simdjson::minify(value));
    return all;
  };
  if ((x.types & y.types) == 0) return true;
  if (x.values && y.values && !share(texts(x), texts(y))) return true;
  if ((x.types & y.types) != kObject) return false;
  return std::ranges::any_of(x.required, [&](const std::string& property) {
    const std::vector<std::string> s = TagsOf(x, property);
    const std::vector<std::string> t = TagsOf(y, property);
    return !s.empty() && !t.empty() && !share(s, t);
  });
}

Expr SchemaCompiler::Build(const Conjunction& flat) {
  if (auto branches = Branches(flat)) return *branches;
  const SchemaNode node = reader_.Read(flat);
  const std::string path = flat.empty() ? "#" : flat[0].path;
  if (node.is_false) return Choice({});
  if (node.values) return Values(node, path);
  std::vector<Expr> choices;
  if (node.types & kNull) choices.push_back(Bytes("null"));
  if (node.types & kBoolean) choices.push_back(Choice({Bytes("true"), Bytes("false")}));
  if (node.types & (kInteger | kFraction)) choices.push_back(Numbers(node, path));
  if (node.types & kString) choices.push_back(Strings(node, path));
  if (node.types & kArray) choices.push_back(Arrays(node, path));
  if (node.types & kObject) choices.push_back(Objects(node, path));
  return Choice(std::move(choices));
}

// enum and const.
Expr SchemaCompiler::Values(const SchemaNode& node, const std::string& path) {
  std::vector<Expr> choices;
  for (const element value : *node.values) {
    if (Accepts(node, value)) choices.push_back(Literal(value));
  }
  const bool is_open = !node.arrays.empty() || !node.objects.empty();
  if (is_open) reader_.Unsupported("enum or const of lists or objects beside their items", path);
  return Choice(std::move(choices));
}

bool SchemaCompiler::Accepts(const SchemaNode& node, element value) {
  const SchemaType type = TypeOf(value);
  if ((node.types & type) == 0) return false;
  if (type == kInteger || type == kFraction) {
    const double number = value.get_double().value();
    const NumberBounds& bounds = node.numbers;
    if (bounds.minimum &&
        (number < *bounds.minimum || (bounds.exclusive_minimum && number == *bounds.minimum))) {
      return false;
    }
    if (bounds.maximum &&
        (number > *bounds.maximum || (bounds.exclusive_maximum && number == *bounds.maximum))) {
      return false;
    }
    return !bounds.multiple_of || std::fmod(number, *bounds.multiple_of) == 0;
  }
  if (type == kString) {
    const std::string_view string = value.get_string().value();
    const std::vector<Symbol> text = CodePoints(string);
    return text.size() >= node.min_length && text.size() <= node.max_length &&
           std::ranges::all_of(node.patterns, [&](const Dfa& dfa) { return dfa.Matches(text); });
  }
  return true;
}

Expr SchemaCompiler::Literal(element value) {
  const Expr space = Call(json_.Space());
  if (value.is_object()) {
    std::vector<Expr> parts = {Bytes("{"), space};
    bool first = true;
    const object members = value.get_object().value();
    for (const auto [name, member] : members) {
      if (!first) parts.insert(parts.end(), {Bytes(","), space});
      first = false;
      parts.insert(parts.end(), {Bytes(JsonString(name) + ":"), space, Literal(member)});
    }
    parts.insert(parts.end(), {first ? Empty() : space, Bytes("}")});
    return Sequence(std::move(parts));
  }
  if (value.is_array()) {
    std::vector<Expr> parts = {Bytes("["), space};
    bool first = true;
    const array items = value.get_array().value();
    for (const element item : items) {
      if (!first) parts.insert(parts.end(), {Bytes(","), space});
      first = false;
      parts.push_back(Literal(item));
    }
    parts.insert(parts.end(), {first ? Empty() : space, Bytes("]")});
    return Sequence(std::move(parts));
  }
  if (value.is_string()) return Bytes(JsonString(value.get_string().value()));
  return Bytes(simdjson::minify(value));
}

Expr SchemaCompiler::Numbers(const SchemaNode& node, const std::string& path) {
  const bool integer = (node.types & kFraction) == 0;
  if (node.numbers == NumberBounds{} && !integer) return Call(json_.Number());
  NumberBounds bounds = node.numbers;
  try {
    return Call(rules_.Add(JsonNumber(bounds, integer)));
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kUnimplemented) throw;
    reader_.Unsupported(error.what(), path);
  }
  bounds.multiple_of.reset();
  for (auto* bound : {&bounds.minimum, &bounds.maximum}) {
    if (*bound && !(std::abs(**bound) <= 1e18)) bound->reset();
  }
  return Call(rules_.Add(JsonNumber(bounds, integer)));
}

Expr SchemaCompiler::Strings(const SchemaNode& node, const std::string& path) {
  if (node.min_length > node.max_length) return Choice({});
  if (node.patterns.empty()) return Call(json_.String(node.min_length, node.max_length));
  Dfa texts = node.patterns[0];
  for (size_t i = 1; i < node.patterns.size(); ++i) texts = Intersect(texts, node.patterns[i]);
  // States are counted by length here. A bound that would make too many is drawn tighter: that is
  // still what the schema accepts.
  size_t max_length = node.max_length;
  if (max_length != kUnlimited) {
    const size_t affordable = kMaxPatternStates / std::max<size_t>(texts.states.size(), 1);
    max_length = std::min(max_length, std::max(affordable, node.min_length + kSpareLength));
  }
  if (node.min_length > kMaxPatternLength) {
    reader_.Unsupported("minLength above 2000 beside a pattern or format", path);
  } else if (node.min_length > 0 || max_length != kUnlimited) {
    texts = Intersect(texts, AnyCharacters(node.min_length, max_length));
  }
  return Call(rules_.Add(JsonString(texts)));
}

Expr SchemaCompiler::Arrays(const SchemaNode& node, const std::string& path) {
  size_t max_items = node.max_items;
  size_t num_prefix = 0;
  for (const auto& source : node.arrays) num_prefix = std::max(num_prefix, source.prefix.size());
  if (std::max(node.min_items, max_items == kUnlimited ? 0 : max_items) > kMaxListedItems) {
    reader_.Unsupported("minItems or maxItems above 2000", path);
    max_items = kUnlimited;
  }
  const size_t min_items = std::min(node.min_items, kMaxListedItems);
  if (min_items > max_items) return Choice({});
  if (node.unique_items && max_items > 1) {
    if (auto unique = UniqueItems(node)) return *unique;
    reader_.Unsupported("uniqueItems", path);
  }
  const auto item_rule = [&](size_t index) {
    Conjunction items;
    for (const auto& source : node.arrays) {
      if (index < source.prefix.size()) {
        items.push_back(source.prefix[index]);
      } else {
        items.insert(items.end(), source.rest.begin(), source.rest.end());
      }
    }
    return items.empty() ? json_.Value() : RuleOf(items);
  };
  // States: so many items have been written. The last of the loop stands for all beyond.
  const size_t num_states = max_items != kUnlimited ? max_items : std::max(min_items, num_prefix);
  const int space = json_.Space();
  Nfa nfa;
  int32_t at = nfa.AddCall(nfa.AddBytes(nfa.AddState(), "["), space);
  const int32_t end = nfa.AddState();
  const auto close = [&](int32_t from, size_t count) {
    if (count < min_items) return;
    nfa.AddEpsilon(nfa.AddBytes(count == 0 ? from : nfa.AddCall(from, space), "]"), end);
  };
  close(at, 0);
  for (size_t count = 0; count < num_states; ++count) {
    if (count > 0) at = nfa.AddCall(nfa.AddBytes(at, ","), space);
    at = nfa.AddCall(at, item_rule(count));
    close(at, count + 1);
  }
  if (max_items == kUnlimited) {
    const int rest = item_rule(num_states);
    if (num_states == 0) {
      at = nfa.AddCall(at, rest);
      close(at, 1);
    }
    const int32_t more = nfa.AddCall(nfa.AddCall(nfa.AddBytes(at, ","), space), rest);
    nfa.AddEpsilon(more, at);
  }
  nfa.Accept(end);
  return Call(rules_.Add(nfa.Determinize()));
}

// Items out of a few values, each once. States are the sets of what has been written.
std::optional<Expr> SchemaCompiler::UniqueItems(const SchemaNode& node) {
  Conjunction items;
  for (const auto& source : node.arrays) {
    if (!source.prefix.empty()) return std::nullopt;
    items.insert(items.end(), source.rest.begin(), source.rest.end());
  }
  const SchemaNode item = reader_.Read(reader_.Flatten(items));
  std::vector<int> values;  // the rule of each
  std::set<std::string> texts;
  if (item.values) {
    for (const element value : *item.values) {
      // Lists and objects may be equal though they are written differently, and so may 1 and 1.0.
      if (value.is_array() || value.is_object() ||
          value.type() == simdjson::dom::element_type::DOUBLE) {
        return std::nullopt;
      }
      if (!Accepts(item, value) || !texts.insert(simdjson::minify(value)).second) continue;
      values.push_back(rules_.Add(ToDfa(Literal(value))));
    }
  } else if ((item.types & ~(kNull | kBoolean)) == 0) {
    if (item.types & kBoolean)
      values = {rules_.Add(ToDfa(Bytes("true"))), rules_.Add(ToDfa(Bytes("false")))};
    if (item.types & kNull) values.push_back(rules_.Add(ToDfa(Bytes("null"))));
  } else {
    return std::nullopt;
  }
  const size_t max = std::min(node.max_items, values.size());
  if (node.min_items > max) return Choice({});
  size_t num_subsets = 1, of_this_size = 1;
  for (size_t k = 0; k < max; ++k) {
    of_this_size = of_this_size * (values.size() - k) / (k + 1);
    num_subsets += of_this_size;
    if (num_subsets > kMaxSubsets) return std::nullopt;
  }
  const int space = json_.Space();
  Nfa nfa;
  const int32_t open = nfa.AddCall(nfa.AddBytes(nfa.AddState(), "["), space);
  const int32_t end = nfa.AddState();
  std::map<std::set<size_t>, int32_t> states = {{{}, open}};
  std::vector<std::set<size_t>> work = {{}};
  while (!work.empty()) {
    const std::set<size_t> written = std::move(work.back());
    work.pop_back();
    const int32_t from = states.at(written);
    if (written.size() >= node.min_items) {
      nfa.AddEpsilon(nfa.AddBytes(written.empty() ? from : nfa.AddCall(from, space), "]"), end);
    }
    if (written.size() == max) continue;
    const int32_t next = written.empty() ? from : nfa.AddCall(nfa.AddBytes(from, ","), space);
    for (size_t i = 0; i < values.size(); ++i) {
      std::set<size_t> with = written;
      if (!with.insert(i).second) continue;
      const auto [state, is_new] = states.try_emplace(with, -1);
      if (is_new) {
        state->second = nfa.AddState();
        work.push_back(with);
      }
      nfa.AddEpsilon(nfa.AddCall(next, values[i]), state->second);
    }
  }
  nfa.Accept(end);
  return Call(rules_.Add(nfa.Determinize()));
}

Conjunction SchemaCompiler::ValuesOf(const SchemaNode& node, const std::string& name) const {
  Conjunction values;
  const std::vector<Symbol> text = CodePoints(name);
  for (const auto& source : node.objects) {
    bool is_known = false;
    for (const auto& [property, schema] : source.properties) {
      if (property != name) continue;
      values.push_back(schema);
      is_known = true;
    }
    for (const auto& [pattern, schema] : source.patterns) {
      if (!pattern.Matches(text)) continue;
      values.push_back(schema);
      is_known = true;
    }
    if (!is_known && source.additional) values.push_back(*source.additional);
  }
  return values;
}

std::vector<SchemaCompiler::Property> SchemaCompiler::Properties(const SchemaNode& node) {
  std::vector<std::string> names;
  const auto add = [&](const std::string& name) {
    if (std::ranges::find(names, name) == names.end()) names.push_back(name);
  };
  for (const auto& source : node.objects) {
    for (const auto& [name, schema] : source.properties) add(name);
  }
  for (const std::string& name : node.required_order) add(name);
  std::vector<Property> properties;
  for (const std::string& name : names) {
    const Conjunction values = ValuesOf(node, name);
    properties.push_back(
        {name, values.empty() ? json_.Value() : RuleOf(values), node.required.contains(name)});
  }
  return properties;
}

std::vector<SchemaCompiler::KeyClass> SchemaCompiler::OtherKeys(
    const SchemaNode& node, const std::vector<Property>& properties) {
  const bool is_free = properties.empty() && node.objects.empty();
  KeyClass all{.keys = AnyCharacters(0, kUnlimited), .values = {}, .wanted = is_free};
  for (const Property& property : properties) {
    all.keys = Difference(all.keys, Exactly(property.name));
  }
  std::vector<KeyClass> classes = {std::move(all)};
  for (const auto& source : node.objects) {
    std::vector<KeyClass> next;
    for (const KeyClass& known : classes) {
      // Keys that one pattern matches alone; what two match is left out.
      Dfa rest = known.keys;
      for (size_t i = 0; i < source.patterns.size(); ++i) {
        Dfa keys = Intersect(known.keys, source.patterns[i].first);
        for (size_t k = 0; k < source.patterns.size(); ++k) {
          if (k != i) keys = Difference(keys, source.patterns[k].first);
        }
        rest = Difference(rest, source.patterns[i].first);
        KeyClass matched{keys, known.values, true};
        matched.values.push_back(source.patterns[i].second);
        next.push_back(std::move(matched));
      }
      KeyClass others{std::move(rest), known.values, known.wanted};
      if (source.additional) {
        others.values.push_back(*source.additional);
        others.wanted = true;
      }
      next.push_back(std::move(others));
    }
    classes = std::move(next);
  }
  std::erase_if(classes, [](const KeyClass& c) { return c.keys.empty() || !c.wanted; });
  return classes;
}

Expr SchemaCompiler::Objects(const SchemaNode& node, const std::string& path) {
  std::vector<Property> properties = Properties(node);
  std::optional<SchemaNode> names;
  if (!node.property_names.empty()) {
    names = reader_.Read(reader_.Flatten(node.property_names));
    if (names->values) std::erase_if(*names->values, [](element e) { return !e.is_string(); });
    const auto is_allowed = [&](const std::string& name) {
      const std::vector<Symbol> text = CodePoints(name);
      const auto is_it = [&](element value) { return value.get_string().value_unsafe() == name; };
      return text.size() >= names->min_length && text.size() <= names->max_length &&
             std::ranges::all_of(names->patterns, [&](const Dfa& d) { return d.Matches(text); }) &&
             (!names->values || std::ranges::any_of(*names->values, is_it));
    };
    for (const Property& property : properties) {
      if (!is_allowed(property.name) && property.required) return Choice({});
    }
    std::erase_if(properties, [&](const Property& p) { return !is_allowed(p.name); });
  }
  std::vector<std::pair<int, int>> others;
  for (KeyClass& keys : OtherKeys(node, properties)) {
    if (names) {
      const size_t min = std::min(names->min_length, kMaxPatternLength);
      if (min > 0 || names->max_length <= kMaxPatternLength) {
        keys.keys = Intersect(keys.keys, AnyCharacters(min, names->max_length));
      }
      for (const Dfa& pattern : names->patterns) keys.keys = Intersect(keys.keys, pattern);
    }
    if (keys.keys.empty()) continue;
    const int value = keys.values.empty() ? json_.Value() : RuleOf(keys.values);
    if (names && names->values) {  // as many properties that may be there
      for (const element name : *names->values) {
        const std::string_view text = name.get_string().value();
        if (keys.keys.Matches(CodePoints(text))) {
          properties.push_back({std::string(text), value, false});
        }
      }
      continue;
    }
    others.emplace_back(rules_.Add(JsonString(keys.keys)), value);
  }
  size_t min = node.min_properties;
  size_t max = node.max_properties;
  const auto num_required = static_cast<size_t>(
      std::ranges::count_if(properties, [](const Property& p) { return p.required; }));
  if (min <= num_required) min = 0;
  // The same key twice would count once.
  const bool counts_others = !others.empty() && min > num_required + 1;
  if (counts_others || min > kMaxCountedProperties) {
    reader_.Unsupported("minProperties", path);
    min = 0;
  }
  if (max >= properties.size() && others.empty()) max = kUnlimited;
  if (max != kUnlimited && max > kMaxCountedProperties) {
    reader_.Unsupported("maxProperties above 200", path);
    max = kUnlimited;
  }
  if (min > max || (max != kUnlimited && num_required > max)) return Choice({});
  return Call(rules_.Add(ObjectDfa(properties, others, min, max)));
}

// States are a pair: the next declared property, and how many have been written. That count is kept
// as far as anybody asks: one is enough to know of commas.
Dfa SchemaCompiler::ObjectDfa(const std::vector<Property>& properties,
                              const std::vector<std::pair<int, int>>& others, size_t min,
                              size_t max) {
  const size_t top = max != kUnlimited ? max : std::max<size_t>(min, 1);
  const size_t n = properties.size();
  const int space = json_.Space();
  Nfa nfa;
  const int32_t open = nfa.AddCall(nfa.AddBytes(nfa.AddState(), "{"), space);
  std::vector<std::vector<int32_t>> states(n + 1);
  for (auto& row : states) {
    for (size_t count = 0; count <= top; ++count) row.push_back(nfa.AddState());
  }
  nfa.AddEpsilon(open, states[0][0]);
  const auto counted = [&](size_t count) { return std::min(count + 1, top); };
  const auto comma = [&](int32_t from, size_t count) {
    return count == 0 ? from : nfa.AddCall(nfa.AddBytes(from, ","), space);
  };
  const auto is_full = [&](size_t count) { return max != kUnlimited && count >= max; };
  for (size_t i = 0; i < n; ++i) {
    for (size_t count = 0; count <= std::min(top, i); ++count) {
      const int32_t from = states[i][count];
      if (!properties[i].required) nfa.AddEpsilon(from, states[i + 1][count]);
      if (is_full(count)) continue;
      const int32_t key = nfa.AddBytes(comma(from, count), JsonString(properties[i].name) + ":");
      nfa.AddEpsilon(nfa.AddCall(nfa.AddCall(key, space), properties[i].value),
                     states[i + 1][counted(count)]);
    }
  }
  const int32_t end = nfa.AddState();
  for (size_t count = 0; count <= top; ++count) {
    const int32_t from = states[n][count];
    for (const auto& [key, value] : others) {
      if (is_full(count)) break;
      const int32_t colon = nfa.AddBytes(nfa.AddCall(comma(from, count), key), ":");
      nfa.AddEpsilon(nfa.AddCall(nfa.AddCall(colon, space), value), states[n][counted(count)]);
    }
    if (count < min) continue;
    nfa.AddEpsilon(nfa.AddBytes(count == 0 ? from : nfa.AddCall(from, space), "}"), end);
  }
  nfa.Accept(end);
  return nfa.Determinize();
}

}  // namespace

int AddSchema(std::string_view schema, bool strict, JsonRules& json,
              std::vector<std::string>& ignored) {
  if (schema.size() > kMaxSchemaBytes) {
    Throw(ErrorCode::kInvalidArgument, "the schema has {} bytes; at most {} are taken",
          schema.size(), kMaxSchemaBytes);
  }
  const JsonDocument document = [&] {
    try {
      return JsonDocument::Parse(schema, "the schema");
    } catch (const Error& error) {
      throw Error(ErrorCode::kInvalidArgument, error.what());
    }
  }();
  return SchemaCompiler(document.root(), strict, json, ignored)
      .RuleOf({SchemaItem{document.root(), "#"}});
}

}  // namespace baleen::grammar
