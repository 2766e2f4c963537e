// tokenizer/chat_template_render.h: the renderers behind ChatTemplate::Render; internal.
//
// Each function writes the conversation as one family of published templates prints it, suffix
// included, and returns what the answer will begin with. The input has been checked: at least one
// message, known roles, no tool turns where the format has none.
#ifndef BALEEN_TOKENIZER_CHAT_TEMPLATE_RENDER_H_
#define BALEEN_TOKENIZER_CHAT_TEMPLATE_RENDER_H_

#include <simdjson.h>

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/chat_template.h"

namespace baleen {

// Collects pieces: neighbours of plain text are joined, each control token stands alone.
class PromptBuilder {
 public:
  // Text from the conversation: plain, whatever it contains.
  void Content(std::string_view text);
  // The template's own text, a constant: the names "<｜...｜>", "<|...|>", "<think>" and "</think>"
  // in it become control tokens.
  void Markup(std::string_view text);

  std::vector<PromptPiece> Take() { return std::move(pieces_); }

 private:
  std::vector<PromptPiece> pieces_;
};

struct RenderInput {
  std::span<const ChatMessage> messages;
  const std::vector<simdjson::dom::element>& tools;  // objects {"type", "function": {"name", ...}}
  const ChatTemplateTraits& traits;
  bool add_generation_prompt;
  bool thinking;
};

ReasoningStart RenderDeepSeekV2(const RenderInput& input, PromptBuilder& prompt);
// V2.5, V3 and, with `reasons`, R1.
ReasoningStart RenderDeepSeekV3(const RenderInput& input, bool reasons, PromptBuilder& prompt);
ReasoningStart RenderDeepSeekV31(const RenderInput& input, PromptBuilder& prompt);
// Moonlight and all of Kimi-K2.
ReasoningStart RenderKimi(const RenderInput& input, ChatFormat format, PromptBuilder& prompt);

}  // namespace baleen

#endif  // BALEEN_TOKENIZER_CHAT_TEMPLATE_RENDER_H_
