// grammar/pushdown.h: rules that call each other, as one automaton with a stack.
//
// A rule is a deterministic automaton over bytes, control tokens, and calls of other rules. A
// counted rule is a body that is repeated: how often is kept on the stack and not in states, so
// that a string of at most 5,000 characters is as small as one of five.
#ifndef BALEEN_GRAMMAR_PUSHDOWN_H_
#define BALEEN_GRAMMAR_PUSHDOWN_H_

#include <bitset>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "grammar/automaton.h"
#include "grammar/token_trie.h"

namespace baleen::grammar {

using ByteSet = std::bitset<256>;

struct Rule {
  Dfa dfa;
  bool counted = false;  // then no word of the body begins another, and it calls nothing
  uint32_t min = 0;
  uint32_t max = 0;
};

// Rules while they are made; numbers are given out before the rules are known.
class RuleSet {
 public:
  int Reserve();
  void Set(int rule, Dfa dfa) { rules_[static_cast<size_t>(rule)].dfa = std::move(dfa); }
  int Add(Dfa dfa);
  int AddCounted(Dfa body, size_t min, size_t max);
  std::vector<Rule>& rules() { return rules_; }

 private:
  std::vector<Rule> rules_;
};

class Pushdown {
 public:
  struct ByteEdge {
    uint8_t first, last;
    int32_t to;
  };
  struct CallEdge {
    int32_t callee;  // its first state
    int32_t to;      // where to go on; -1: nowhere, the caller's rule ends with the callee
  };
  struct TokenEdge {
    int32_t first, last;
    int32_t to;
  };
  struct State {
    std::vector<ByteEdge> bytes;
    std::vector<CallEdge> calls;
    std::vector<TokenEdge> tokens;
    bool accepts = false;
    int32_t rule = 0;
  };
  struct RuleInfo {
    int32_t start = 0;
    bool counted = false;
    uint32_t min = 0;
    uint32_t max = 0;
    ByteSet follow;  // what may come after the rule, wherever it is called
  };

  // Leaves out what leads nowhere: rules that never end, bytes that the vocabulary cannot spell.
  // Error{kInvalidArgument} if nothing is left, a rule begins with itself, or all is too large.
  Pushdown(std::vector<Rule> rules, int start, const TokenTable& tokens);

  const State& state(int32_t s) const { return states_[static_cast<size_t>(s)]; }
  const RuleInfo& rule(int32_t r) const { return rules_[static_cast<size_t>(r)]; }
  const RuleInfo& rule_of(int32_t s) const { return rule(state(s).rule); }
  size_t num_states() const { return states_.size(); }
  int32_t start() const { return start_; }

 private:
  void AddStates(const std::vector<Rule>& rules);
  void CheckLeftRecursion() const;
  void FindFollow();

  std::vector<State> states_;
  std::vector<RuleInfo> rules_;
  std::vector<bool> nullable_;  // by state
  int32_t start_ = 0;
};

// Where a text stands in the automaton: all ways at once. `parent` is a frame of the stack: where
// to go on when the rule has ended; kBottom: nowhere.
struct Head {
  int32_t state;
  uint32_t count;  // bodies so far, in a counted rule
  int32_t parent;
  bool operator==(const Head&) const = default;
};

struct Heads {
  std::vector<Head> heads;
  bool at_end = false;  // the text so far is whole
};

// Steps through a Pushdown. Owns the frames of the stacks, which are shared and kept once.
class Stepper {
 public:
  static constexpr int32_t kBottom = -1;

  explicit Stepper(const Pushdown& pushdown) : pushdown_(&pushdown) {}

  // The ways to go on at the beginning of a state, with calls entered and ended rules left.
  void Enter(Head head, Heads& out);
  // After the rule of a frame's callee has ended.
  void Leave(int32_t parent, Heads& out);
  void StepByte(const Heads& in, uint8_t byte, Heads& out);
  void StepToken(const Heads& in, int32_t token, Heads& out);
  int32_t NextState(int32_t state, uint8_t byte) const;
  void Clear();

 private:
  struct Frame {
    int32_t state;
    int32_t parent;
  };
  void Add(Head head, Heads& out);
  int32_t Push(int32_t state, int32_t parent);

  const Pushdown* pushdown_;
  std::vector<Frame> frames_;
  std::unordered_map<uint64_t, int32_t> index_;
  std::vector<Head> work_;  // of Enter
  std::vector<Head> seen_;
};

}  // namespace baleen::grammar

#endif  // BALEEN_GRAMMAR_PUSHDOWN_H_
