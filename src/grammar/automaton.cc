#include "grammar/automaton.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"

namespace baleen::grammar {

thread_local size_t WorkLimit::left_ = SIZE_MAX;

namespace {

void CheckSize(size_t num_states) {
  if (num_states <= kMaxAutomatonStates) return;
  Throw(ErrorCode::kInvalidArgument,
        "the grammar is too large: a pattern or list in it needs more than {} states; simplify it",
        kMaxAutomatonStates);
}

// Drops states that are out of reach or from which nothing accepts.
Dfa Trim(const Dfa& dfa) {
  const size_t n = dfa.states.size();
  std::vector<std::vector<int32_t>> before(n);
  std::vector<int32_t> work;
  std::vector<bool> live(n);
  for (size_t i = 0; i < n; ++i) {
    for (const Dfa::Edge& edge : dfa.states[i].edges) {
      before[static_cast<size_t>(edge.to)].push_back(static_cast<int32_t>(i));
    }
    if (!dfa.states[i].accepts) continue;
    live[i] = true;
    work.push_back(static_cast<int32_t>(i));
  }
  while (!work.empty()) {
    const auto state = static_cast<size_t>(work.back());
    work.pop_back();
    for (const int32_t from : before[state]) {
      if (live[static_cast<size_t>(from)]) continue;
      live[static_cast<size_t>(from)] = true;
      work.push_back(from);
    }
  }
  Dfa trimmed;
  if (n == 0 || !live[0]) return trimmed;
  std::vector<int32_t> name(n, -1);
  std::vector<size_t> order = {0};
  name[0] = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    Dfa::State state;
    state.accepts = dfa.states[order[i]].accepts;
    for (const Dfa::Edge& edge : dfa.states[order[i]].edges) {
      const auto to = static_cast<size_t>(edge.to);
      if (!live[to]) continue;
      if (name[to] < 0) {
        name[to] = static_cast<int32_t>(order.size());
        order.push_back(to);
      }
      state.edges.push_back({edge.range, name[to]});
    }
    trimmed.states.push_back(std::move(state));
  }
  return trimmed;
}

// Joins neighbouring edges that lead to the same state.
void AddJoined(std::vector<Dfa::Edge>& edges, SymbolRange range, int32_t to) {
  if (!edges.empty() && edges.back().to == to && edges.back().range.last + 1 == range.first) {
    edges.back().range.last = range.last;
  } else {
    edges.push_back({range, to});
  }
}

// Makes states one that accept alike and whose edges are the same, again and again: that shares the
// ends of long lists. (Full minimization would take quadratic time for a long chain.)
Dfa MergeTwins(Dfa dfa) {
  constexpr int kMaxRounds = 12;
  for (int round = 0; round < kMaxRounds; ++round) {
    std::map<std::vector<uint32_t>, int32_t> names;
    std::vector<int32_t> renamed;
    std::vector<size_t> kept;
    for (size_t i = 0; i < dfa.states.size(); ++i) {
      WorkLimit::Spend(1 + dfa.states[i].edges.size());
      std::vector<uint32_t> key = {dfa.states[i].accepts};
      for (const Dfa::Edge& edge : dfa.states[i].edges) {
        key.insert(key.end(), {edge.range.first, edge.range.last, static_cast<uint32_t>(edge.to)});
      }
      const auto [at, is_new] = names.emplace(std::move(key), static_cast<int32_t>(kept.size()));
      if (is_new) kept.push_back(i);
      renamed.push_back(at->second);
    }
    if (kept.size() == dfa.states.size()) break;
    Dfa merged;
    for (const size_t i : kept) {
      Dfa::State state{.edges = {}, .accepts = dfa.states[i].accepts};
      for (const Dfa::Edge& edge : dfa.states[i].edges) {
        AddJoined(state.edges, edge.range, renamed[static_cast<size_t>(edge.to)]);
      }
      merged.states.push_back(std::move(state));
    }
    dfa = std::move(merged);
  }
  return dfa;
}

// Runs both at once; `b` may fall into -1, from which it never returns.
template <typename Accepts>
Dfa Product(const Dfa& a, const Dfa& b, bool b_may_fail, Accepts accepts) {
  Dfa product;
  if (a.empty() || (b.empty() && !b_may_fail)) return product;
  std::map<std::pair<int32_t, int32_t>, int32_t> names;
  std::vector<std::pair<int32_t, int32_t>> order;
  const auto name = [&](int32_t x, int32_t y) {
    const auto [at, is_new] = names.emplace(std::pair(x, y), static_cast<int32_t>(order.size()));
    if (is_new) {
      CheckSize(order.size());
      order.emplace_back(x, y);
    }
    return at->second;
  };
  static const Dfa::State kNowhere;
  name(0, b.empty() ? -1 : 0);
  for (size_t i = 0; i < order.size(); ++i) {
    const auto [x, y] = order[i];
    const Dfa::State& from = a.states[static_cast<size_t>(x)];
    const Dfa::State& other = y < 0 ? kNowhere : b.states[static_cast<size_t>(y)];
    Dfa::State state;
    state.accepts = accepts(from.accepts, other.accepts);
    for (const Dfa::Edge& edge : from.edges) {
      Symbol next = edge.range.first;
      WorkLimit::Spend(1 + other.edges.size());
      for (const Dfa::Edge& second : other.edges) {
        const Symbol first = std::max(next, second.range.first);
        const Symbol last = std::min(edge.range.last, second.range.last);
        if (first > last) continue;
        if (b_may_fail && first > next) {
          AddJoined(state.edges, {next, first - 1}, name(edge.to, -1));
        }
        AddJoined(state.edges, {first, last}, name(edge.to, second.to));
        next = last + 1;
      }
      if (b_may_fail && next <= edge.range.last) {
        AddJoined(state.edges, {next, edge.range.last}, name(edge.to, -1));
      }
    }
    product.states.push_back(std::move(state));
  }
  return MergeTwins(Trim(product));
}

}  // namespace

WorkLimit::WorkLimit(size_t steps) : outer_(left_) { left_ = steps; }
WorkLimit::~WorkLimit() { left_ = outer_; }

void WorkLimit::Spend(size_t steps) {
  if (left_ < steps) {
    Throw(ErrorCode::kInvalidArgument,
          "the schema or grammar is too much work: simplify its patterns and lists");
  }
  left_ -= steps;
}

int32_t Dfa::Next(int32_t state, Symbol symbol) const {
  for (const Edge& edge : states[static_cast<size_t>(state)].edges) {
    if (symbol < edge.range.first) return -1;
    if (symbol <= edge.range.last) return edge.to;
  }
  return -1;
}

bool Dfa::Matches(const std::vector<Symbol>& text) const {
  if (empty()) return false;
  int32_t state = 0;
  for (const Symbol symbol : text) {
    state = Next(state, symbol);
    if (state < 0) return false;
  }
  return states[static_cast<size_t>(state)].accepts;
}

int32_t Nfa::AddState() {
  // Before they are made deterministic, automata are a few times larger.
  CheckSize(states_.size() / 8);
  WorkLimit::Spend(1);
  states_.emplace_back();
  return static_cast<int32_t>(states_.size()) - 1;
}

void Nfa::AddEdge(int32_t from, SymbolRange range, int32_t to) {
  states_[static_cast<size_t>(from)].edges.push_back({range, to});
}

void Nfa::AddEpsilon(int32_t from, int32_t to, Where where) {
  states_[static_cast<size_t>(from)].epsilons.push_back({to, where});
}

void Nfa::AddEpsilon(int32_t from, int32_t to) { AddEpsilon(from, to, Where::kAnywhere); }

int32_t Nfa::AddBytes(int32_t from, std::string_view text) {
  for (const char c : text) {
    const Symbol byte = static_cast<unsigned char>(c);
    const int32_t to = AddState();
    AddEdge(from, {byte, byte}, to);
    from = to;
  }
  return from;
}

int32_t Nfa::AddCall(int32_t from, int rule) {
  const Symbol symbol = kFirstCall + static_cast<Symbol>(rule);
  const int32_t to = AddState();
  AddEdge(from, {symbol, symbol}, to);
  return to;
}

int32_t Nfa::AddRepeat(int32_t from, const Expression& expression) {
  const Expression& part = *expression.parts[0];
  int32_t at = from;
  for (size_t i = 0; i < expression.min; ++i) at = AddExpression(at, part);
  const int32_t end = AddState();
  if (expression.max == kUnlimited) {
    const int32_t loop = AddState();
    AddEpsilon(at, loop);
    AddEpsilon(AddExpression(loop, part), loop);
    AddEpsilon(loop, end);
    return end;
  }
  for (size_t i = expression.min; i < expression.max; ++i) {
    AddEpsilon(at, end);
    at = AddExpression(at, part);
  }
  AddEpsilon(at, end);
  return end;
}

int32_t Nfa::AddExpression(int32_t from, const Expression& expression) {
  switch (expression.kind) {
    case Expression::Kind::kSymbols: {
      const int32_t to = AddState();
      for (const SymbolRange& range : expression.symbols) AddEdge(from, range, to);
      return to;
    }
    case Expression::Kind::kSequence: {
      for (const Expr& part : expression.parts) from = AddExpression(from, *part);
      return from;
    }
    case Expression::Kind::kChoice: {
      const int32_t end = AddState();
      for (const Expr& part : expression.parts) {
        const int32_t begin = AddState();
        AddEpsilon(from, begin);
        AddEpsilon(AddExpression(begin, *part), end);
      }
      return end;
    }
    case Expression::Kind::kRepeat:
      return AddRepeat(from, expression);
    case Expression::Kind::kTextStart:
    case Expression::Kind::kTextEnd: {
      const int32_t to = AddState();
      AddEpsilon(
          from, to,
          expression.kind == Expression::Kind::kTextStart ? Where::kTextStart : Where::kTextEnd);
      return to;
    }
  }
  return from;
}

// The states of the DFA are sets of states of the NFA.
class SubsetConstruction {
 public:
  explicit SubsetConstruction(const Nfa& nfa) : nfa_(nfa), seen_(nfa.states_.size()) {}

  Dfa Run() {
    Dfa dfa;
    Name(Close({0}, true, false), true);
    for (size_t i = 0; i < order_.size(); ++i) {
      const Set set = order_[i];
      Dfa::State state;
      // Nothing may follow what stands behind a text's end, so such states count here alone.
      for (const int32_t s : Close(set.states, set.at_start, true)) {
        state.accepts |= nfa_.states_[static_cast<size_t>(s)].accepts;
      }
      AddEdges(set, state);
      dfa.states.push_back(std::move(state));
    }
    return MergeTwins(Trim(dfa));
  }

 private:
  struct Set {
    std::vector<int32_t> states;
    bool at_start;
    auto operator<=>(const Set&) const = default;
  };

  int32_t Name(std::vector<int32_t> states, bool at_start) {
    Set set{std::move(states), at_start};
    const auto [at, is_new] = names_.emplace(set, static_cast<int32_t>(order_.size()));
    if (is_new) {
      CheckSize(order_.size());
      order_.push_back(std::move(set));
    }
    return at->second;
  }

  std::vector<int32_t> Close(std::vector<int32_t> work, bool at_start, bool at_end) {
    std::vector<int32_t> closed;
    for (const int32_t s : work) seen_[static_cast<size_t>(s)] = true;
    while (!work.empty()) {
      const int32_t s = work.back();
      work.pop_back();
      closed.push_back(s);
      WorkLimit::Spend(1);
      for (const Nfa::Epsilon& epsilon : nfa_.states_[static_cast<size_t>(s)].epsilons) {
        const bool open = epsilon.where == Nfa::Where::kAnywhere ||
                          (epsilon.where == Nfa::Where::kTextStart ? at_start : at_end);
        if (!open || seen_[static_cast<size_t>(epsilon.to)]) continue;
        seen_[static_cast<size_t>(epsilon.to)] = true;
        work.push_back(epsilon.to);
      }
    }
    for (const int32_t s : closed) seen_[static_cast<size_t>(s)] = false;
    std::ranges::sort(closed);
    return closed;
  }

  void AddEdges(const Set& set, Dfa::State& state) {
    std::vector<Dfa::Edge> edges;
    std::set<Symbol> cuts;
    for (const int32_t s : set.states) {
      for (const Dfa::Edge& edge : nfa_.states_[static_cast<size_t>(s)].edges) {
        edges.push_back(edge);
        cuts.insert(edge.range.first);
        cuts.insert(edge.range.last + 1);
      }
    }
    std::ranges::sort(edges, {}, [](const Dfa::Edge& edge) { return edge.range.first; });
    std::vector<Dfa::Edge> open;
    size_t next = 0;
    for (auto cut = cuts.begin(); cut != cuts.end() && std::next(cut) != cuts.end(); ++cut) {
      while (next < edges.size() && edges[next].range.first == *cut) open.push_back(edges[next++]);
      std::erase_if(open, [&](const Dfa::Edge& edge) { return edge.range.last < *cut; });
      if (open.empty()) continue;
      std::vector<int32_t> targets;
      WorkLimit::Spend(open.size());
      for (const Dfa::Edge& edge : open) targets.push_back(edge.to);
      std::ranges::sort(targets);
      targets.erase(std::unique(targets.begin(), targets.end()), targets.end());
      const int32_t to = Name(Close(std::move(targets), false, false), false);
      AddJoined(state.edges, {*cut, *std::next(cut) - 1}, to);
    }
  }

  const Nfa& nfa_;
  std::vector<bool> seen_;  // false between calls of Close
  std::map<Set, int32_t> names_;
  std::vector<Set> order_;
};

Dfa Nfa::Determinize() const { return SubsetConstruction(*this).Run(); }

Dfa ToDfa(const Expr& expression) {
  Nfa nfa;
  nfa.Accept(nfa.AddExpression(nfa.AddState(), *expression));
  return nfa.Determinize();
}

Dfa Intersect(const Dfa& a, const Dfa& b) {
  return Product(a, b, false, [](bool x, bool y) { return x && y; });
}

Dfa Difference(const Dfa& a, const Dfa& b) {
  return Product(a, b, true, [](bool x, bool y) { return x && !y; });
}

}  // namespace baleen::grammar
