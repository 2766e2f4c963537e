#include "grammar/token_masks.h"

#include <algorithm>

namespace baleen::grammar {

namespace {

void SetBit(std::span<uint64_t> mask, int32_t token) {
  mask[static_cast<size_t>(token) / 64] |= uint64_t{1} << (token % 64);
}

bool HasBit(std::span<const uint64_t> mask, int32_t token) {
  return ((mask[static_cast<size_t>(token) / 64] >> (token % 64)) & 1) != 0;
}

}  // namespace

void StateTokens::AddInside(uint32_t count, uint32_t max, std::span<uint64_t> mask) const {
  for (const int32_t token : few_) SetBit(mask, token);
  const TokenBitmask* many = &many_;
  if (!needs_.empty()) {
    const auto room = static_cast<size_t>(std::min<uint32_t>(max - count, greatest_need_));
    TokenBitmask& set = by_room_[room];
    if (set.empty()) {
      set.resize(mask.size());
      for (size_t i = 0; i < needs_.size(); ++i) {
        set[i / 64] |= static_cast<uint64_t>(needs_[i] <= room) << (i % 64);
      }
    }
    many = &set;
  }
  for (size_t i = 0; i < many->size(); ++i) mask[i] |= (*many)[i];
}

// Walks all tokens through one state.
class TokenMasks::Builder {
 public:
  Builder(const Pushdown& pushdown, const TokenTable& tokens, int32_t state)
      : pushdown_(pushdown),
        trie_(tokens.trie()),
        tokens_(tokens),
        rule_(pushdown.rule_of(state)),
        stepper_(pushdown),
        inside_((tokens.vocab_size() + 63) / 64) {
    levels_.resize(TokenTable::kMaxTokenBytes + 2);
    if (rule_.counted) {
      needs_.assign(tokens.vocab_size(), StateTokens::kNever);
      WalkCounted(0, trie_.size(), 0, state, 0);
    } else {
      levels_[0].heads = {{state, 0, Stepper::kBottom}};
      Walk(0, trie_.size(), 0);
    }
  }

  std::unique_ptr<StateTokens> Take() {
    auto state = std::make_unique<StateTokens>();
    size_t num_inside = 0;
    for (const uint64_t word : inside_)
      num_inside += static_cast<size_t>(__builtin_popcountll(word));
    if (rule_.counted) {
      for (const uint8_t need : needs_) {
        if (need != StateTokens::kNever)
          state->greatest_need_ = std::max(state->greatest_need_, need);
      }
      state->needs_ = std::move(needs_);
    } else if (num_inside > StateTokens::kFewTokens) {
      std::erase_if(rest_, [&](const auto& entry) { return HasBit(inside_, entry.token); });
      state->many_ = std::move(inside_);
    } else {
      for (size_t i = 0; i < tokens_.vocab_size(); ++i) {
        const auto token = static_cast<int32_t>(i);
        if (HasBit(inside_, token)) state->few_.push_back(token);
      }
    }
    state->rest_ = TokenTrie(std::move(rest_));
    return state;
  }

 private:
  // The rule may have ended here: what of the tokens beneath could follow it?
  void AddRest(uint32_t first, uint32_t last, size_t depth, uint32_t count) {
    for (uint32_t i = first; i < last; i = trie_.nodes()[i].end) {
      if (!rule_.follow[trie_.nodes()[i].byte]) continue;
      const auto [begin, end] = trie_.LeavesBeneath(i);
      for (uint32_t k = begin; k < end; ++k) {
        const int32_t token = trie_.leaves()[k].token;
        rest_.push_back({tokens_.Bytes(token).substr(depth), token, count});
      }
    }
  }

  void Walk(uint32_t first, uint32_t last, size_t depth) {
    const Heads& heads = levels_[depth];
    // At depth 0 the end of the rule is another head of the text.
    if (heads.at_end && depth > 0) AddRest(first, last, depth, 0);
    for (uint32_t i = first; i < last; i = trie_.nodes()[i].end) {
      const TokenTrie::Node& node = trie_.nodes()[i];
      Heads& next = levels_[depth + 1];
      stepper_.StepByte(heads, node.byte, next);
      if (next.heads.empty() && !next.at_end) continue;
      for (uint32_t k = 0; k < node.num_entries; ++k) {
        SetBit(inside_, trie_.leaves()[node.first_entry + k].token);
      }
      Walk(i + 1, node.end, depth + 1);
    }
  }

  // The same for a counted rule, whose body is deterministic and calls nothing.
  void WalkCounted(uint32_t first, uint32_t last, size_t depth, int32_t state, uint32_t count) {
    if (state == rule_.start && depth > 0) AddRest(first, last, depth, count);
    for (uint32_t i = first; i < last; i = trie_.nodes()[i].end) {
      const TokenTrie::Node& node = trie_.nodes()[i];
      int32_t next = stepper_.NextState(state, node.byte);
      if (next < 0) continue;
      const bool is_whole = pushdown_.state(next).accepts;
      if (is_whole) next = rule_.start;
      const uint32_t bodies = count + (is_whole ? 1 : 0);
      // A body that has begun needs room too.
      const uint32_t need = bodies + (is_whole ? 0 : 1);
      if (need >= StateTokens::kNever) continue;
      for (uint32_t k = 0; k < node.num_entries; ++k) {
        const int32_t token = trie_.leaves()[node.first_entry + k].token;
        needs_[static_cast<size_t>(token)] = static_cast<uint8_t>(need);
      }
      WalkCounted(i + 1, node.end, depth + 1, next, bodies);
    }
  }

  const Pushdown& pushdown_;
  const TokenTrie& trie_;
  const TokenTable& tokens_;
  const Pushdown::RuleInfo& rule_;
  Stepper stepper_;
  TokenBitmask inside_;
  std::vector<uint8_t> needs_;
  std::vector<TokenTrie::Entry> rest_;
  std::vector<Heads> levels_;  // after so many bytes
};

TokenMasks::TokenMasks(const Pushdown& pushdown, const TokenTable& tokens)
    : pushdown_(pushdown), tokens_(tokens), states_(pushdown.num_states()) {}

const StateTokens& TokenMasks::Of(int32_t state) const {
  std::lock_guard lock(mutex_);
  std::unique_ptr<StateTokens>& tokens = states_[static_cast<size_t>(state)];
  if (!tokens) tokens = Builder(pushdown_, tokens_, state).Take();
  return *tokens;
}

}  // namespace baleen::grammar
