// grammar/token_masks.h: which tokens may come at a state of a grammar.
//
// A token that begins at a state either stays within the state's rule (then it is allowed whatever
// the stack holds), or breaks, or ends the rule in its middle: only then the stack decides. The
// first kind is kept as a set, the last as a small tree of what is left of these tokens behind the
// rule's end. After arXiv:2411.15100, where the sets are made for all states ahead; here for those
// that are reached, when they first are, and once for all grammars that hold the same rule.
#ifndef BALEEN_GRAMMAR_TOKEN_MASKS_H_
#define BALEEN_GRAMMAR_TOKEN_MASKS_H_

#include <array>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "grammar/pushdown.h"
#include "grammar/token_trie.h"

namespace baleen::grammar {

// One bit a token, in words of 64.
using TokenBitmask = std::vector<uint64_t>;

class StateTokens {
 public:
  // Sets the bits of tokens that stay within the rule. `count`, and the rule's bounds, for counted
  // ones. One thread at a time, which is the engine's.
  void AddInside(uint32_t count, uint32_t max, std::span<uint64_t> mask) const;
  // What is left of the others. A leaf's count is the number of bodies before the rule's end.
  const TokenTrie& rest() const { return rest_; }

 private:
  friend class TokenMasks;
  static constexpr size_t kFewTokens = 512;
  static constexpr uint8_t kNever = 255;

  std::vector<int32_t> few_;
  TokenBitmask many_;
  // In a counted rule: how many bodies each token needs. Sets by room are made when first wanted.
  std::vector<uint8_t> needs_;
  uint8_t greatest_need_ = 0;
  mutable std::array<TokenBitmask, 256> by_room_;
  TokenTrie rest_;
};

// Of one grammar. Thread-safe: whoever comes first computes.
class TokenMasks {
 public:
  TokenMasks(const Pushdown& pushdown, const TokenTable& tokens);
  const StateTokens& Of(int32_t state) const;

 private:
  class Builder;

  const Pushdown& pushdown_;
  const TokenTable& tokens_;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<StateTokens>> states_;  // guarded by mutex_
};

}  // namespace baleen::grammar

#endif  // BALEEN_GRAMMAR_TOKEN_MASKS_H_
