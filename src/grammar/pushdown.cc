#include "grammar/pushdown.h"

#include <algorithm>

#include "base/check.h"
#include "base/error.h"

namespace baleen::grammar {

namespace {

constexpr size_t kMaxStates = 400'000;

bool IsCall(Symbol symbol) { return symbol >= kFirstCall && symbol < kFirstToken; }

// Keeps what can end: `ends` says of a call's rule whether it does. Returns whether the start can.
bool CanEnd(const Dfa& dfa, const std::vector<bool>& ends) {
  if (dfa.empty()) return false;
  std::vector<bool> reached(dfa.states.size());
  std::vector<int32_t> work = {0};
  reached[0] = true;
  while (!work.empty()) {
    const Dfa::State& state = dfa.states[static_cast<size_t>(work.back())];
    work.pop_back();
    if (state.accepts) return true;
    for (const Dfa::Edge& edge : state.edges) {
      bool open = !IsCall(edge.range.first);
      for (Symbol s = edge.range.first; !open && s <= edge.range.last; ++s) {
        open = ends[s - kFirstCall];
      }
      if (!open || reached[static_cast<size_t>(edge.to)]) continue;
      reached[static_cast<size_t>(edge.to)] = true;
      work.push_back(edge.to);
    }
  }
  return false;
}

// The dfa with only the symbols that `keep` leaves.
Dfa Restrict(const Dfa& dfa, const std::vector<bool>& ends, const TokenTable& tokens) {
  Nfa nfa;
  for (size_t i = 0; i < dfa.states.size(); ++i) nfa.AddState();
  for (size_t i = 0; i < dfa.states.size(); ++i) {
    const auto from = static_cast<int32_t>(i);
    if (dfa.states[i].accepts) nfa.Accept(from);
    for (const Dfa::Edge& edge : dfa.states[i].edges) {
      if (edge.range.first >= kFirstToken) {
        nfa.AddEdge(from, edge.range, edge.to);
        continue;
      }
      for (Symbol s = edge.range.first; s <= edge.range.last; ++s) {
        const bool keep =
            IsCall(s) ? ends[s - kFirstCall] : tokens.HasByte(static_cast<uint8_t>(s));
        if (keep) nfa.AddEdge(from, {s, s}, edge.to);
      }
    }
  }
  return nfa.Determinize();
}

void Prune(std::vector<Rule>& rules, const TokenTable& tokens) {
  std::vector<bool> all(rules.size(), true);
  bool has_all_bytes = true;
  for (int b = 0; b < 256; ++b) {
    // These never occur in UTF-8.
    if (b == 0xc0 || b == 0xc1 || b >= 0xf5) continue;
    has_all_bytes = has_all_bytes && tokens.HasByte(static_cast<uint8_t>(b));
  }
  if (!has_all_bytes) {
    for (Rule& rule : rules) {
      if (!rule.dfa.empty()) rule.dfa = Restrict(rule.dfa, all, tokens);
    }
  }
  std::vector<bool> ends(rules.size());
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t i = 0; i < rules.size(); ++i) {
      if (ends[i] || !CanEnd(rules[i].dfa, ends)) continue;
      ends[i] = changed = true;
    }
  }
  if (std::ranges::find(ends, false) == ends.end()) return;
  for (size_t i = 0; i < rules.size(); ++i) {
    rules[i].dfa = ends[i] ? Restrict(rules[i].dfa, ends, tokens) : Dfa{};
  }
}

}  // namespace

int RuleSet::Reserve() {
  rules_.emplace_back();
  if (rules_.size() > kMaxStates) Throw(ErrorCode::kInvalidArgument, "the grammar is too large");
  return static_cast<int>(rules_.size()) - 1;
}

int RuleSet::Add(Dfa dfa) {
  const int rule = Reserve();
  Set(rule, std::move(dfa));
  return rule;
}

int RuleSet::AddCounted(Dfa body, size_t min, size_t max) {
  const int rule = Add(std::move(body));
  rules_.back().counted = true;
  rules_.back().min = static_cast<uint32_t>(std::min<size_t>(min, UINT32_MAX));
  rules_.back().max = static_cast<uint32_t>(std::min<size_t>(max, UINT32_MAX));
  return rule;
}

Pushdown::Pushdown(std::vector<Rule> rules, int start, const TokenTable& tokens) {
  Prune(rules, tokens);
  if (rules[static_cast<size_t>(start)].dfa.empty()) {
    Throw(ErrorCode::kInvalidArgument, "nothing satisfies the schema or grammar");
  }
  AddStates(rules);
  start_ = rules_[static_cast<size_t>(start)].start;
  // Whether a state can end its rule without a byte.
  nullable_.resize(states_.size());
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t s = 0; s < states_.size(); ++s) {
      if (nullable_[s]) continue;
      const State& state = states_[s];
      const RuleInfo& info = rule_of(static_cast<int32_t>(s));
      bool nullable =
          info.counted ? static_cast<int32_t>(s) == info.start && info.min == 0 : state.accepts;
      for (const CallEdge& call : state.calls) {
        nullable |= nullable_[static_cast<size_t>(call.callee)] &&
                    (call.to < 0 || nullable_[static_cast<size_t>(call.to)]);
      }
      if (nullable) nullable_[s] = changed = true;
    }
  }
  CheckLeftRecursion();
  FindFollow();
}

void Pushdown::AddStates(const std::vector<Rule>& rules) {
  size_t num_states = 0;
  for (const Rule& rule : rules) {
    RuleInfo info;
    info.start = static_cast<int32_t>(num_states);
    info.counted = rule.counted;
    info.min = rule.min;
    info.max = rule.max;
    rules_.push_back(info);
    num_states += rule.dfa.states.size();
  }
  if (num_states > kMaxStates) {
    Throw(ErrorCode::kInvalidArgument, "the schema or grammar is too large: {} states, at most {}",
          num_states, kMaxStates);
  }
  for (size_t r = 0; r < rules.size(); ++r) {
    const int32_t base = rules_[r].start;
    for (const Dfa::State& from : rules[r].dfa.states) {
      State state;
      state.accepts = from.accepts;
      state.rule = static_cast<int32_t>(r);
      for (const Dfa::Edge& edge : from.edges) {
        const int32_t to = base + edge.to;
        if (edge.range.first >= kFirstToken) {
          state.tokens.push_back({static_cast<int32_t>(edge.range.first - kFirstToken),
                                  static_cast<int32_t>(edge.range.last - kFirstToken), to});
        } else if (edge.range.first >= kFirstCall) {
          const Dfa::State& target = rules[r].dfa.states[static_cast<size_t>(edge.to)];
          const bool is_last = target.accepts && target.edges.empty();
          for (Symbol s = edge.range.first; s <= edge.range.last; ++s) {
            state.calls.push_back({rules_[s - kFirstCall].start, is_last ? -1 : to});
          }
        } else {
          state.bytes.push_back(
              {static_cast<uint8_t>(edge.range.first), static_cast<uint8_t>(edge.range.last), to});
        }
      }
      BALEEN_CHECK(!rules[r].counted || state.calls.empty());
      states_.push_back(std::move(state));
    }
  }
}

// A rule that could call itself before a byte is read would be entered without end.
void Pushdown::CheckLeftRecursion() const {
  enum class Mark : uint8_t { kNew, kOpen, kDone };
  std::vector<Mark> marks(rules_.size(), Mark::kNew);
  struct Visit {
    size_t rule;
    std::vector<int32_t> callees;
  };
  const auto callees_of = [&](size_t rule) {
    std::vector<int32_t> callees;
    if (rules_[rule].start >= static_cast<int32_t>(states_.size())) return callees;
    std::vector<int32_t> work = {rules_[rule].start};
    std::vector<int32_t> seen = work;
    while (!work.empty()) {
      const State& state = states_[static_cast<size_t>(work.back())];
      work.pop_back();
      if (state.rule != static_cast<int32_t>(rule)) break;  // the rule has no states
      for (const CallEdge& call : state.calls) {
        callees.push_back(states_[static_cast<size_t>(call.callee)].rule);
        if (call.to < 0 || !nullable_[static_cast<size_t>(call.callee)]) continue;
        if (std::ranges::find(seen, call.to) != seen.end()) continue;
        seen.push_back(call.to);
        work.push_back(call.to);
      }
    }
    return callees;
  };
  for (size_t root = 0; root < rules_.size(); ++root) {
    if (marks[root] != Mark::kNew) continue;
    std::vector<Visit> path = {{root, callees_of(root)}};
    marks[root] = Mark::kOpen;
    while (!path.empty()) {
      Visit& visit = path.back();
      if (visit.callees.empty()) {
        marks[visit.rule] = Mark::kDone;
        path.pop_back();
        continue;
      }
      const auto next = static_cast<size_t>(visit.callees.back());
      visit.callees.pop_back();
      if (marks[next] == Mark::kOpen) {
        Throw(ErrorCode::kInvalidArgument,
              "the schema or grammar refers to itself before anything else: a $ref in a circle");
      }
      if (marks[next] == Mark::kDone) continue;
      marks[next] = Mark::kOpen;
      path.push_back({next, callees_of(next)});
    }
  }
}

void Pushdown::FindFollow() {
  std::vector<ByteSet> first(states_.size());
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t s = states_.size(); s-- > 0;) {
      ByteSet set = first[s];
      for (const ByteEdge& edge : states_[s].bytes) {
        for (int b = edge.first; b <= edge.last; ++b) set.set(static_cast<size_t>(b));
      }
      for (const CallEdge& call : states_[s].calls) {
        set |= first[static_cast<size_t>(call.callee)];
        if (call.to >= 0 && nullable_[static_cast<size_t>(call.callee)]) {
          set |= first[static_cast<size_t>(call.to)];
        }
      }
      if (set != first[s]) {
        first[s] = set;
        changed = true;
      }
    }
  }
  for (bool changed = true; changed;) {
    changed = false;
    for (const State& state : states_) {
      const ByteSet outer = rules_[static_cast<size_t>(state.rule)].follow;
      for (const CallEdge& call : state.calls) {
        ByteSet& follow =
            rules_[static_cast<size_t>(states_[static_cast<size_t>(call.callee)].rule)].follow;
        ByteSet set = follow;
        if (call.to >= 0) set |= first[static_cast<size_t>(call.to)];
        if (call.to < 0 || nullable_[static_cast<size_t>(call.to)]) set |= outer;
        if (set != follow) {
          follow = set;
          changed = true;
        }
      }
    }
  }
}

void Stepper::Clear() {
  frames_.clear();
  index_.clear();
}

int32_t Stepper::Push(int32_t state, int32_t parent) {
  const uint64_t key =
      (static_cast<uint64_t>(static_cast<uint32_t>(parent)) << 32) | static_cast<uint32_t>(state);
  const auto [at, is_new] = index_.emplace(key, static_cast<int32_t>(frames_.size()));
  if (is_new) frames_.push_back({state, parent});
  return at->second;
}

void Stepper::Add(Head head, Heads& out) {
  const Pushdown::State& state = pushdown_->state(head.state);
  if (state.bytes.empty() && state.tokens.empty()) return;
  const Pushdown::RuleInfo& rule = pushdown_->rule(state.rule);
  if (rule.counted && head.state == rule.start && head.count >= rule.max) return;
  if (std::ranges::find(out.heads, head) == out.heads.end()) out.heads.push_back(head);
}

void Stepper::Enter(Head head, Heads& out) {
  const Pushdown::State& only = pushdown_->state(head.state);
  if (only.calls.empty() && !only.accepts && !pushdown_->rule(only.rule).counted) {
    Add(head, out);  // the common case, within a rule
    return;
  }
  work_.assign(1, head);
  seen_.assign(1, head);
  const auto visit = [&](Head next) {
    if (std::ranges::find(seen_, next) != seen_.end()) return;
    seen_.push_back(next);
    work_.push_back(next);
  };
  while (!work_.empty()) {
    const Head at = work_.back();
    work_.pop_back();
    Add(at, out);
    const Pushdown::State& state = pushdown_->state(at.state);
    const Pushdown::RuleInfo& rule = pushdown_->rule(state.rule);
    for (const Pushdown::CallEdge& call : state.calls) {
      visit({call.callee, 0, call.to < 0 ? at.parent : Push(call.to, at.parent)});
    }
    const bool ends = rule.counted ? at.state == rule.start && at.count >= rule.min : state.accepts;
    if (!ends) continue;
    if (at.parent == kBottom) {
      out.at_end = true;
    } else {
      const Frame frame = frames_[static_cast<size_t>(at.parent)];
      visit({frame.state, 0, frame.parent});
    }
  }
}

void Stepper::Leave(int32_t parent, Heads& out) {
  if (parent == kBottom) {
    out.at_end = true;
    return;
  }
  const Frame frame = frames_[static_cast<size_t>(parent)];
  Enter({frame.state, 0, frame.parent}, out);
}

int32_t Stepper::NextState(int32_t state, uint8_t byte) const {
  for (const Pushdown::ByteEdge& edge : pushdown_->state(state).bytes) {
    if (byte < edge.first) return -1;
    if (byte <= edge.last) return edge.to;
  }
  return -1;
}

void Stepper::StepByte(const Heads& in, uint8_t byte, Heads& out) {
  out.heads.clear();
  out.at_end = false;
  for (const Head& head : in.heads) {
    const int32_t to = NextState(head.state, byte);
    if (to < 0) continue;
    const Pushdown::RuleInfo& rule = pushdown_->rule_of(head.state);
    if (!rule.counted) {
      Enter({to, 0, head.parent}, out);
    } else if (pushdown_->state(to).accepts) {  // one more body
      Enter({rule.start, head.count + 1, head.parent}, out);
    } else {
      Enter({to, head.count, head.parent}, out);
    }
  }
}

void Stepper::StepToken(const Heads& in, int32_t token, Heads& out) {
  out.heads.clear();
  out.at_end = false;
  for (const Head& head : in.heads) {
    for (const Pushdown::TokenEdge& edge : pushdown_->state(head.state).tokens) {
      if (token >= edge.first && token <= edge.last) Enter({edge.to, 0, head.parent}, out);
    }
  }
}

}  // namespace baleen::grammar
