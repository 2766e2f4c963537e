// tokenizer/pre_tokenizer_patterns.h: recognises a family's pre-tokenizer by its exact patterns.
#ifndef BALEEN_TOKENIZER_PRE_TOKENIZER_PATTERNS_H_
#define BALEEN_TOKENIZER_PRE_TOKENIZER_PATTERNS_H_

#include <optional>
#include <span>
#include <string>

#include "tokenizer/pre_tokenizer.h"

namespace baleen {

// One step of a tokenizer.json's pre-tokenizer, in one of the forms that the families use.
struct PreTokenizerStep {
  enum class Kind {
    kSplit,      // Split by `pattern`, Isolated, not inverted
    kDigits,     // Digits, each alone
    kByteLevel,  // ByteLevel without its own regex and without a space in front
  };

  // "Split", "Digits", "ByteLevel".
  const char* Name() const;

  Kind kind;
  std::string pattern;
};

// nullopt if it is no family's.
std::optional<PreTokenizer> RecognizePreTokenizer(std::span<const PreTokenizerStep> steps);

}  // namespace baleen

#endif  // BALEEN_TOKENIZER_PRE_TOKENIZER_PATTERNS_H_
