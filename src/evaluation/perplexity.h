// evaluation/perplexity.h: how well a model predicts a text.
//
// Definition: the text is encoded once and cut into windows without overlap, each after the model's
// BOS token (windows.h), so every token of the text is scored exactly once. Tokens at the start of
// a window see little context: figures compare only at the same context length.
#ifndef BALEEN_EVALUATION_PERPLEXITY_H_
#define BALEEN_EVALUATION_PERPLEXITY_H_

#include <cstddef>
#include <string_view>

#include "baleen/engine.h"
#include "evaluation/windows.h"

namespace baleen {

struct Perplexity {
  size_t tokens = 0;         // scored
  size_t bytes = 0;          // of the text
  double loss = 0;           // mean over tokens, in nats
  double perplexity = 0;     // exp(loss)
  double bits_per_byte = 0;  // total nats / ln 2 / bytes; compares across tokenizers
};

// Errors: as EncodeText, ForEachWindow and Engine::ScoreTokens; kFailed, the loss is not a number.
Perplexity MeasurePerplexity(Engine& engine, std::string_view text, const WindowOptions& options);

}  // namespace baleen

#endif  // BALEEN_EVALUATION_PERPLEXITY_H_
