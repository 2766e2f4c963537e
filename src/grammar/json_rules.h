// grammar/json_rules.h: the rules of JSON itself, made when first asked for.
#ifndef BALEEN_GRAMMAR_JSON_RULES_H_
#define BALEEN_GRAMMAR_JSON_RULES_H_

#include <map>
#include <string>

#include "grammar/pushdown.h"

namespace baleen::grammar {

class JsonRules {
 public:
  explicit JsonRules(RuleSet& rules) : rules_(rules) {}

  int Value();
  int Object();
  int Array();
  int String();
  int Number();
  // A string of so many characters.
  int String(size_t min_length, size_t max_length);
  // What may stand after an opening bracket, a comma or a colon, and before a closing bracket: a
  // space, or a new line with at most 40 columns of indentation, so that it ends.
  int Space();

  RuleSet& rules() { return rules_; }

 private:
  template <typename Make>
  int Once(int& rule, Make make);

  RuleSet& rules_;
  int value_ = -1;
  int object_ = -1;
  int array_ = -1;
  int string_ = -1;
  int number_ = -1;
  int space_ = -1;
};

}  // namespace baleen::grammar

#endif  // BALEEN_GRAMMAR_JSON_RULES_H_
