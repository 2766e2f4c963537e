// evaluation/perplexity.h: how well a model predicts a text.
//
// Definition: the text is encoded once and cut into windows without overlap, each after the model's
// BOS token (windows.h), so every token of the text is scored exactly once. Tokens at the start of
// a window see little context: figures compare only at the same context length.
//
// Documents are scored each by itself, windows and all, and so is the token that ends each: what a
// model says of a corpus with ends and beginnings of texts marked. Nothing of a document is context
// of another one.
#ifndef BALEEN_EVALUATION_PERPLEXITY_H_
#define BALEEN_EVALUATION_PERPLEXITY_H_

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "baleen/engine.h"
#include "evaluation/windows.h"

namespace baleen {

struct Perplexity {
  size_t tokens = 0;         // scored; with documents also their ends
  size_t bytes = 0;          // of the text, or of all documents together
  double loss = 0;           // mean over tokens, in nats
  double perplexity = 0;     // exp(loss)
  double bits_per_byte = 0;  // total nats / ln 2 / bytes; compares across tokenizers
};

// Errors: as EncodeText, ForEachWindow and Engine::ScoreTokens; kFailed, the loss is not a number.
Perplexity MeasurePerplexity(Engine& engine, std::string_view text, const WindowOptions& options);

// From JSON lines with a document in the field `text` of each; other fields are not read. `path` is
// for errors. Error{kCorruption}, a line that is no such object, or no line.
std::vector<std::string> ReadDocuments(std::string_view content, const std::string& path);

// `end_token_id`: of the token after each document; -1, ends are not scored.
// Errors: as MeasurePerplexity; kInvalidArgument, the documents have no token.
Perplexity MeasureDocuments(Engine& engine, std::span<const std::string> documents,
                            int32_t end_token_id, const WindowOptions& options);

}  // namespace baleen

#endif  // BALEEN_EVALUATION_PERPLEXITY_H_
