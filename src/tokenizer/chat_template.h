// tokenizer/chat_template.h: turns a conversation into the prompt that a model was trained on.
//
// Token path: server/openai or cli -> [chat_template] -> tokenizer -> scheduler.
// Models ship a Jinja program for this. Baleen runs no code from model files: it recognises which
// published format the program is and renders that format itself.
//
// Recognition is strict. The program is cut into words (jinja_words.h): every text that it could
// print and every name that it could look at. A format is accepted when all words it must have are
// there and no word is there that it does not know, so a template with another prompt, another
// marker or another field is refused, never half-matched. Rejected: hashes of whole files, because
// the same program is published on one line, pretty-printed and with small revisions.
//
// A rendered prompt is a list of pieces, not one string: what the template itself writes as a
// control token becomes that token, and the same characters inside a message stay plain text.
//
// Where a published program has a known bug (V3 and R1 lose the end marker after a single tool
// call, and never open a second group of calls or results), the fixed form is rendered.
// Threads: everything here is immutable after construction.
#ifndef BALEEN_TOKENIZER_CHAT_TEMPLATE_H_
#define BALEEN_TOKENIZER_CHAT_TEMPLATE_H_

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "baleen/chat.h"

namespace baleen {

// A stretch of the prompt. Encode it with control-token names recognised if and only if
// `is_control`; then it is the name of exactly one token. Two plain pieces never touch, so each is
// the longest text between two control tokens and merges as in the reference.
struct PromptPiece {
  std::string text;
  bool is_control = false;

  bool operator==(const PromptPiece&) const = default;
};

// What stands at the start of the model's answer; read it back with reasoning_parser.h.
enum class ReasoningStart {
  kNone,        // the answer holds no reasoning
  kModelOpens,  // the model may write <think> itself
  kOpen,        // the prompt ended in <think>: the answer begins as reasoning
};

struct ChatPrompt {
  std::vector<PromptPiece> pieces;
  ReasoningStart reasoning = ReasoningStart::kNone;

  // The pieces joined: what the model's own template prints.
  std::string Text() const;
};

enum class ChatFormat {
  kDeepSeekV2,    // V2-Chat, V2-Lite-Chat, Coder-V2-Instruct
  kDeepSeekV3,    // V2.5, V3, V3-0324
  kDeepSeekR1,    // R1, both generation suffixes
  kDeepSeekV31,   // V3.1, V3.1-Terminus
  kMoonlight,     // Moonlight-16B-A3B-Instruct
  kKimiK2First,   // Kimi-K2-Instruct as first released: no tool calls in the history
  kKimiK2,        // Kimi-K2-Instruct, later revisions
  kKimiThinking,  // Kimi-K2-Thinking
};

struct ChatTemplateOptions {
  bool add_generation_prompt = true;
  // Unset: the template's own default. Set against what the model can do: kInvalidArgument.
  std::optional<bool> thinking = std::nullopt;
  // The `tools` list of OpenAI's API as JSON text; empty or "[]": none.
  std::string tools_json = {};
};

// What differs between published revisions of one format, read off the program's words.
struct ChatTemplateTraits {
  bool joins_systems = false;       // DeepSeek: several system messages are joined, else last wins
  bool opens_think = false;         // R1: the prompt ends in "<think>\n"
  bool always_prompts = false;      // V3.1: suffix also when the last turn is not the user's
  bool compact_json = false;        // Kimi: tools without spaces after ',' and ':'
  std::string system_padding;       // V2.5: spaces printed before the prompt, one run per system
  std::string result_separator;     // DeepSeek: between two tool results
  std::string default_system;       // Kimi: inserted when the first message is not system
  std::string default_system_tail;  // Kimi: printed after that insertion
  std::string tools_heading;        // Kimi: printed before the list of tools
};

class ChatTemplate {
 public:
  // Recognises a `chat_template` from tokenizer_config.json, chat_template.jinja or GGUF metadata.
  // Error{kUnimplemented} for one that no supported format matches exactly.
  static ChatTemplate Recognize(std::string_view jinja);

  // Errors: kInvalidArgument, no message, an unknown role, tools or a tool turn where the format
  // has none, tools_json that is not OpenAI's list, a thinking option the model does not have.
  ChatPrompt Render(std::span<const ChatMessage> messages,
                    const ChatTemplateOptions& options) const;

  ChatFormat format() const { return format_; }
  const ChatTemplateTraits& traits() const { return traits_; }
  // For people: "DeepSeek-V3.1", "Kimi-K2-Thinking", ...
  std::string_view name() const;
  // Whether answers can hold reasoning between <think> and </think>, and whether
  // ChatTemplateOptions::thinking can choose.
  bool can_reason() const;
  bool can_choose_thinking() const { return format_ == ChatFormat::kDeepSeekV31; }
  ToolCallFormat tool_call_format() const;
  // Names of the tokens that end an answer; unite them with generation_config's and the
  // tokenizer's, ignoring those the vocabulary lacks.
  std::vector<std::string> stop_tokens() const;

 private:
  ChatTemplate(ChatFormat format, ChatTemplateTraits traits)
      : format_(format), traits_(std::move(traits)) {}

  ChatFormat format_;
  ChatTemplateTraits traits_;
};

}  // namespace baleen

#endif  // BALEEN_TOKENIZER_CHAT_TEMPLATE_H_
