// grammar/automaton.h: finite automata over the symbols of expression.h.
//
// Everything is bounded: Error{kInvalidArgument} where an automaton would get more than
// kMaxAutomatonStates states.
#ifndef BALEEN_GRAMMAR_AUTOMATON_H_
#define BALEEN_GRAMMAR_AUTOMATON_H_

#include <cstdint>
#include <string_view>
#include <vector>

#include "grammar/expression.h"

namespace baleen::grammar {

constexpr size_t kMaxAutomatonStates = 50'000;

// While one lives, this thread's work on automata is counted, and Error{kInvalidArgument} when it
// is more than so many steps: what a client sends must not keep a thread busy.
class WorkLimit {
 public:
  explicit WorkLimit(size_t steps);
  ~WorkLimit();
  WorkLimit(const WorkLimit&) = delete;
  WorkLimit& operator=(const WorkLimit&) = delete;

  static void Spend(size_t steps);

 private:
  static thread_local size_t left_;
  size_t outer_;
};

// Deterministic. State 0 is the start; without states nothing matches. Every state can reach one
// that accepts.
struct Dfa {
  struct Edge {
    SymbolRange range;
    int32_t to;
    bool operator==(const Edge&) const = default;
  };
  struct State {
    std::vector<Edge> edges;  // sorted, disjoint
    bool accepts = false;
    bool operator==(const State&) const = default;
  };
  std::vector<State> states;

  bool empty() const { return states.empty(); }
  // The state after `symbol`, -1 if there is none.
  int32_t Next(int32_t state, Symbol symbol) const;
  // Whether these code points match.
  bool Matches(const std::vector<Symbol>& text) const;
  bool operator==(const Dfa&) const = default;
};

// With many targets for a symbol, and steps that take none.
class Nfa {
 public:
  int32_t AddState();
  void AddEdge(int32_t from, SymbolRange range, int32_t to);
  void AddEpsilon(int32_t from, int32_t to);
  // Adds states that match the expression, from `from`; returns where they end.
  int32_t AddExpression(int32_t from, const Expression& expression);
  // The same for a text and for a call.
  int32_t AddBytes(int32_t from, std::string_view text);
  int32_t AddCall(int32_t from, int rule);
  void Accept(int32_t state) { states_[static_cast<size_t>(state)].accepts = true; }

  // From state 0. Unreachable and dead states are gone, twins are one.
  Dfa Determinize() const;

 private:
  friend class SubsetConstruction;
  // A condition under which an epsilon may be taken.
  enum class Where { kAnywhere, kTextStart, kTextEnd };
  struct Epsilon {
    int32_t to;
    Where where;
  };
  struct State {
    std::vector<Dfa::Edge> edges;
    std::vector<Epsilon> epsilons;
    bool accepts = false;
  };
  void AddEpsilon(int32_t from, int32_t to, Where where);
  int32_t AddRepeat(int32_t from, const Expression& expression);

  std::vector<State> states_;
};

Dfa ToDfa(const Expr& expression);
// Texts of both; of `a` and not of `b`.
Dfa Intersect(const Dfa& a, const Dfa& b);
Dfa Difference(const Dfa& a, const Dfa& b);

}  // namespace baleen::grammar

#endif  // BALEEN_GRAMMAR_AUTOMATON_H_
