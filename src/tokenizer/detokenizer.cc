#include "tokenizer/detokenizer.h"

#include "tokenizer/utf8.h"

namespace baleen {

std::string Detokenizer::Push(int32_t id) {
  std::string text;
  if (skip_special_ && tokenizer_.IsSpecial(id)) return text;
  pending_ += tokenizer_.TokenBytes(id);
  pending_.erase(0, AppendValidUtf8(pending_, &text));
  return text;
}

std::string Detokenizer::Flush() {
  std::string text;
  if (!pending_.empty()) text = kReplacementCharacter;
  pending_.clear();
  return text;
}

}  // namespace baleen
