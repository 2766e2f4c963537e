// grammar/matcher.h: follows one answer through a grammar and says which tokens may come next.
//
// Token path: logits -> [matcher] -> sampler. Threads: one at a time.
#ifndef BALEEN_GRAMMAR_MATCHER_H_
#define BALEEN_GRAMMAR_MATCHER_H_

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "baleen/grammar.h"
#include "grammar/pushdown.h"
#include "grammar/token_masks.h"
#include "grammar/token_trie.h"

namespace baleen::grammar {

class CompiledGrammar final : public Grammar {
 public:
  CompiledGrammar(std::vector<Rule> rules, int start, std::shared_ptr<const TokenTable> tokens,
                  std::vector<std::string> ignored)
      : tokens_(std::move(tokens)),
        pushdown_(std::move(rules), start, *tokens_),
        masks_(pushdown_, *tokens_),
        ignored_(std::move(ignored)) {}

  const std::vector<std::string>& ignored() const override { return ignored_; }
  const TokenTable& tokens() const { return *tokens_; }
  const Pushdown& pushdown() const { return pushdown_; }
  const TokenMasks& masks() const { return masks_; }

 private:
  std::shared_ptr<const TokenTable> tokens_;
  Pushdown pushdown_;
  TokenMasks masks_;
  std::vector<std::string> ignored_;
};

class Matcher {
 public:
  explicit Matcher(std::shared_ptr<const CompiledGrammar> grammar);

  // The tokens that may come next, one bit each; ids from the vocabulary on have none.
  const TokenBitmask& AllowedTokens();
  // Sets the logits of all other tokens to minus infinity; those of `stops` too, unless the answer
  // may end here. False if none is left.
  bool Mask(std::span<float> logits, std::span<const int32_t> stops);
  // Goes on by a token; false, and the text is in no state any more, if it was not allowed.
  bool Accept(int32_t token);

  // Whether the text is whole; whether nothing could be added to it.
  bool at_end() const { return heads_.at_end; }
  bool is_finished() const { return heads_.at_end && heads_.heads.empty(); }

 private:
  void AddRest(const TokenTrie& rest, uint32_t first, uint32_t last, size_t depth,
               const Head& head);

  std::shared_ptr<const CompiledGrammar> grammar_;
  Stepper stepper_;
  Heads heads_;
  Heads next_;
  TokenBitmask mask_;
  std::vector<Heads> levels_;  // of AddRest
};

}  // namespace baleen::grammar

#endif  // BALEEN_GRAMMAR_MATCHER_H_
