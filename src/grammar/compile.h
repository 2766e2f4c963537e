// grammar/compile.h: from what an answer must look like to rules.
#ifndef BALEEN_GRAMMAR_COMPILE_H_
#define BALEEN_GRAMMAR_COMPILE_H_

#include <memory>

#include "baleen/grammar.h"
#include "grammar/matcher.h"

namespace baleen::grammar {

// Errors: kInvalidArgument, a schema or pattern that is broken, too large, or matches nothing.
// kUnimplemented, what cannot be enforced, by name.
std::shared_ptr<const CompiledGrammar> Compile(const GrammarSpec& spec,
                                               std::shared_ptr<const TokenTable> tokens);

}  // namespace baleen::grammar

#endif  // BALEEN_GRAMMAR_COMPILE_H_
