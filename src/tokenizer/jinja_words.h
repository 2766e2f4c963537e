// tokenizer/jinja_words.h: the words of a Jinja program, without running it.
//
// A lexer, not an interpreter: it gives the set of texts that the program could print (string
// constants, and the text between tags after whitespace control) and the set of names and numbers
// in its tags. Operators and order are dropped. Chat templates are recognised by these sets.
// Rules: Jinja 3 with trim_blocks and lstrip_blocks on, as transformers' apply_chat_template sets
// them (https://jinja.palletsprojects.com, "Whitespace Control").
#ifndef BALEEN_TOKENIZER_JINJA_WORDS_H_
#define BALEEN_TOKENIZER_JINJA_WORDS_H_

#include <optional>
#include <set>
#include <string>
#include <string_view>

namespace baleen {

struct JinjaWords {
  std::set<std::string, std::less<>> texts;
  std::set<std::string, std::less<>> names;  // identifiers, keywords, integers
};

// Null for a program whose tags or strings do not end. Comments leave no words.
std::optional<JinjaWords> ReadJinjaWords(std::string_view program);

}  // namespace baleen

#endif  // BALEEN_TOKENIZER_JINJA_WORDS_H_
