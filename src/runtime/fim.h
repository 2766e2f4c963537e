// runtime/fim.h: prompts for filling in the middle, in the order that DeepSeek trained
// (arXiv:2412.19437, section 4.1; training/fim.h is the other side):
//
//   BOS snippets <｜fim▁begin｜> prefix <｜fim▁hole｜> suffix <｜fim▁end｜>
//
// Snippets of other files stand before, each under a line that sets it off, as editors' plugins
// know it from llama.cpp. Each text is encoded by itself, so what a user types is never a control
// token and a snippet's tokens do not depend on its neighbours.
#ifndef BALEEN_RUNTIME_FIM_H_
#define BALEEN_RUNTIME_FIM_H_

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "baleen/engine.h"
#include "tokenizer/tokenizer.h"

namespace baleen {

struct FimTokens {
  int32_t begin = -1;
  int32_t hole = -1;
  int32_t end = -1;
};

// Unset if the vocabulary lacks one of them.
std::optional<FimTokens> FindFimTokens(const Tokenizer& tokenizer);

// Whether a published model of this name (the last part of a path, or a hub id) is known to be
// trained so. A vocabulary with the tokens does not mean that: most chat models share one.
bool IsKnownForFim(std::string_view name);

// `bos`: -1, none.
std::vector<int32_t> EncodeFim(const Tokenizer& tokenizer, int32_t bos, const FimTokens& tokens,
                               const FimPrompt& prompt);

}  // namespace baleen

#endif  // BALEEN_RUNTIME_FIM_H_
