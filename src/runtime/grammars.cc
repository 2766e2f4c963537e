#include "runtime/grammars.h"

#include <algorithm>

#include "grammar/compile.h"

namespace baleen {

std::shared_ptr<const grammar::TokenTable> Grammars::Tokens() {
  std::lock_guard lock(mutex_);
  if (tokens_) return tokens_;
  std::vector<std::string> bytes(vocab_size_);
  std::vector<int32_t> control;
  const size_t count = std::min(vocab_size_, static_cast<size_t>(tokenizer_->vocab_size()));
  for (size_t i = 0; i < count; ++i) {
    const auto id = static_cast<int32_t>(i);
    bytes[i] = tokenizer_->TokenBytes(id);
    // What templates write as one token; other added tokens are words that somebody wanted whole.
    const bool is_mark = bytes[i].starts_with('<') || tokenizer_->IsSpecial(id);
    if (tokenizer_->IsAdded(id) && is_mark) control.push_back(id);
  }
  tokens_ =
      std::make_shared<grammar::TokenTable>(std::move(bytes), std::move(control), vocab_size_);
  return tokens_;
}

std::shared_ptr<const Grammar> Grammars::Compile(const GrammarSpec& spec) {
  {
    std::lock_guard lock(mutex_);
    const auto found = std::ranges::find(
        kept_, spec, [](const auto& item) -> const GrammarSpec& { return item.first; });
    if (found != kept_.end()) {
      kept_.splice(kept_.begin(), kept_, found);
      return found->second;
    }
  }
  // Others need not wait for it; two who ask at once both compile, and one is kept.
  std::shared_ptr<const Grammar> grammar = grammar::Compile(spec, Tokens());
  std::lock_guard lock(mutex_);
  kept_.emplace_front(spec, grammar);
  if (kept_.size() > kMaxKept) kept_.pop_back();
  return grammar;
}

}  // namespace baleen
