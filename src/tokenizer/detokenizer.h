// tokenizer/detokenizer.h: ids to text, one id at a time, never a broken character.
#ifndef BALEEN_TOKENIZER_DETOKENIZER_H_
#define BALEEN_TOKENIZER_DETOKENIZER_H_

#include <cstdint>
#include <string>

#include "tokenizer/tokenizer.h"

namespace baleen {

// A character of several bytes may be spread over several tokens: its bytes are held back until it
// is complete. All that Push and Flush return, one after the other, is Tokenizer::Decode of all
// ids. The tokenizer must outlive the detokenizer. One thread at a time.
class Detokenizer {
 public:
  Detokenizer(const Tokenizer& tokenizer, bool skip_special)
      : tokenizer_(tokenizer), skip_special_(skip_special) {}

  // The text that is certain now that `id` came: valid UTF-8, often empty.
  std::string Push(int32_t id);

  // At the end of the text: U+FFFD if a character stayed incomplete, else empty. Ready to start
  // anew.
  std::string Flush();

 private:
  const Tokenizer& tokenizer_;
  bool skip_special_;
  std::string pending_;  // the beginning of a character, at most three bytes
};

}  // namespace baleen

#endif  // BALEEN_TOKENIZER_DETOKENIZER_H_
