#include "grammar/matcher.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>

namespace baleen::grammar {

namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

// Without a branch a bit: eight at a time, through a table of what to keep of them.
void MaskLogits(const TokenBitmask& mask, std::span<float> logits) {
  using Lanes = std::array<uint32_t, 8>;
  static const std::array<Lanes, 256> kKeep = [] {
    std::array<Lanes, 256> keep{};
    for (size_t byte = 0; byte < 256; ++byte) {
      for (size_t k = 0; k < 8; ++k) keep[byte][k] = ((byte >> k) & 1) != 0 ? ~uint32_t{0} : 0;
    }
    return keep;
  }();
  constexpr auto kNeverBits = std::bit_cast<uint32_t>(kNever);
  for (size_t i = 0; i < mask.size(); ++i) {
    const uint64_t word = mask[i];
    if (word == ~uint64_t{0}) continue;
    float* at = logits.data() + i * 64;
    const size_t count = std::min<size_t>(64, logits.size() - i * 64);
    if (word == 0) {
      std::fill_n(at, count, kNever);
      continue;
    }
    if (count < 64) {
      for (size_t k = 0; k < count; ++k) {
        if (((word >> k) & 1) == 0) at[k] = kNever;
      }
      continue;
    }
    for (size_t byte = 0; byte < 8; ++byte, at += 8) {
      const Lanes& keep = kKeep[(word >> (8 * byte)) & 0xff];
      Lanes bits;
      std::memcpy(bits.data(), at, sizeof bits);
      for (size_t k = 0; k < 8; ++k) bits[k] = (bits[k] & keep[k]) | (kNeverBits & ~keep[k]);
      std::memcpy(at, bits.data(), sizeof bits);
    }
  }
}

}  // namespace

Matcher::Matcher(std::shared_ptr<const CompiledGrammar> grammar)
    : grammar_(std::move(grammar)),
      stepper_(grammar_->pushdown()),
      mask_((grammar_->tokens().vocab_size() + 63) / 64),
      levels_(TokenTable::kMaxTokenBytes + 2) {
  stepper_.Enter({grammar_->pushdown().start(), 0, Stepper::kBottom}, heads_);
}

// Tokens that end the rule of `head` in their middle: their rest must go on behind it.
void Matcher::AddRest(const TokenTrie& rest, uint32_t first, uint32_t last, size_t depth,
                      const Head& head) {
  const Pushdown::RuleInfo& rule = grammar_->pushdown().rule_of(head.state);
  for (uint32_t i = first; i < last; i = rest.nodes()[i].end) {
    const TokenTrie::Node& node = rest.nodes()[i];
    Heads& next = levels_[depth + 1];
    stepper_.StepByte(levels_[depth], node.byte, next);
    if (next.heads.empty() && !next.at_end) continue;
    for (uint32_t k = 0; k < node.num_entries; ++k) {
      const TokenTrie::Leaf& leaf = rest.leaves()[node.first_entry + k];
      const uint64_t count = uint64_t{head.count} + leaf.count;
      if (rule.counted && (count < rule.min || count > rule.max)) continue;
      mask_[static_cast<size_t>(leaf.token) / 64] |= uint64_t{1} << (leaf.token % 64);
    }
    AddRest(rest, i + 1, node.end, depth + 1, head);
  }
}

const TokenBitmask& Matcher::AllowedTokens() {
  std::ranges::fill(mask_, 0);
  const Pushdown& pushdown = grammar_->pushdown();
  for (const Head& head : heads_.heads) {
    const Pushdown::State& state = pushdown.state(head.state);
    for (const Pushdown::TokenEdge& edge : state.tokens) {
      for (const int32_t token : grammar_->tokens().control()) {
        if (token < edge.first || token > edge.last) continue;
        mask_[static_cast<size_t>(token) / 64] |= uint64_t{1} << (token % 64);
      }
    }
    if (state.bytes.empty()) continue;
    const StateTokens& tokens = grammar_->masks().Of(head.state);
    tokens.AddInside(head.count, pushdown.rule(state.rule).max, mask_);
    if (tokens.rest().size() == 0 || head.parent == Stepper::kBottom) continue;
    levels_[0].heads.clear();
    levels_[0].at_end = false;
    stepper_.Leave(head.parent, levels_[0]);
    AddRest(tokens.rest(), 0, tokens.rest().size(), 0, head);
  }
  return mask_;
}

bool Matcher::Mask(std::span<float> logits, std::span<const int32_t> stops) {
  AllowedTokens();
  for (const int32_t stop : stops) {
    if (stop < 0 || static_cast<size_t>(stop) >= grammar_->tokens().vocab_size()) continue;
    uint64_t& word = mask_[static_cast<size_t>(stop) / 64];
    const uint64_t bit = uint64_t{1} << (stop % 64);
    word = heads_.at_end ? word | bit : word & ~bit;
  }
  MaskLogits(mask_, logits);
  return std::ranges::any_of(mask_, [](uint64_t word) { return word != 0; });
}

bool Matcher::Accept(int32_t token) {
  if (grammar_->tokens().IsControl(token)) {
    stepper_.StepToken(heads_, token, next_);
    std::swap(heads_, next_);
  } else {
    for (const char c : grammar_->tokens().Bytes(token)) {
      stepper_.StepByte(heads_, static_cast<uint8_t>(c), next_);
      std::swap(heads_, next_);
    }
  }
  return heads_.at_end || !heads_.heads.empty();
}

}  // namespace baleen::grammar
