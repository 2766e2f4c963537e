// runtime/text.h: the text side of an engine: conversations and strings to ids and back.
//
// Immutable, thread-safe.
#ifndef BALEEN_RUNTIME_TEXT_H_
#define BALEEN_RUNTIME_TEXT_H_

#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "baleen/engine.h"
#include "checkpoint/checkpoint.h"
#include "runtime/fim.h"

namespace baleen {

class Text {
 public:
  explicit Text(TextSide side);

  // Error{kNotFound} when the model has none.
  const Tokenizer& tokenizer() const;
  // Null when the model has none.
  std::shared_ptr<const Tokenizer> shared_tokenizer() const { return tokenizer_; }

  // Fills in what users want to know of this side.
  void Describe(ModelInfo& info) const;

  std::vector<int32_t> Encode(std::string_view text, const EncodeOptions& options) const;
  std::vector<int32_t> EncodeFim(const FimPrompt& prompt) const;
  EncodedChat RenderChat(std::span<const ChatMessage> messages, const ChatOptions& options) const;
  std::unique_ptr<ReasoningSplitter> MakeReasoningSplitter(const EncodedChat& prompt) const;

 private:
  TextSide side_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::optional<FimTokens> fim_;
};

}  // namespace baleen

#endif  // BALEEN_RUNTIME_TEXT_H_
