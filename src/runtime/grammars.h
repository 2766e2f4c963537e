// runtime/grammars.h: grammars made for one engine's vocabulary, each compiled once.
//
// Thread-safe.
#ifndef BALEEN_RUNTIME_GRAMMARS_H_
#define BALEEN_RUNTIME_GRAMMARS_H_

#include <list>
#include <memory>
#include <mutex>
#include <utility>

#include "baleen/grammar.h"
#include "grammar/matcher.h"
#include "tokenizer/tokenizer.h"

namespace baleen {

class Grammars {
 public:
  // `vocab_size`: of the model's logits.
  Grammars(std::shared_ptr<const Tokenizer> tokenizer, size_t vocab_size)
      : tokenizer_(std::move(tokenizer)), vocab_size_(vocab_size) {}

  // From the cache, if that spec was asked for lately. Errors: as grammar/compile.h.
  std::shared_ptr<const Grammar> Compile(const GrammarSpec& spec);

 private:
  static constexpr size_t kMaxKept = 64;

  std::shared_ptr<const grammar::TokenTable> Tokens();

  std::shared_ptr<const Tokenizer> tokenizer_;
  size_t vocab_size_;
  std::mutex mutex_;
  std::shared_ptr<const grammar::TokenTable> tokens_;  // guarded by mutex_; made when first needed
  // Last used first; guarded by mutex_.
  std::list<std::pair<GrammarSpec, std::shared_ptr<const Grammar>>> kept_;
};

}  // namespace baleen

#endif  // BALEEN_RUNTIME_GRAMMARS_H_
