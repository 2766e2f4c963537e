#include "runtime/text.h"

#include "base/error.h"
#include "tokenizer/reasoning_parser.h"

namespace baleen {

namespace {

class Splitter final : public ReasoningSplitter {
 public:
  explicit Splitter(ReasoningStart start) : parser_(start) {}
  Delta Push(std::string_view text) override { return ToDelta(parser_.Push(text)); }
  Delta Flush() override { return ToDelta(parser_.Flush()); }

 private:
  static Delta ToDelta(ReasoningDelta delta) {
    return {std::move(delta.reasoning), std::move(delta.content)};
  }
  ReasoningParser parser_;
};

}  // namespace

Text::Text(TextSide side) : side_(std::move(side)), tokenizer_(std::move(side_.tokenizer)) {}

const Tokenizer& Text::tokenizer() const {
  if (!tokenizer_) Throw(ErrorCode::kNotFound, "{}", side_.tokenizer_problem);
  return *tokenizer_;
}

void Text::Describe(ModelInfo& info) const {
  info.bos_token_id = side_.bos_token_id;
  info.stop_token_ids = side_.stop_token_ids;
  info.default_sampling = side_.default_sampling;
  info.chat_template_problem = side_.chat_template_problem;
  if (side_.chat_template) {
    info.chat_template = side_.chat_template->name();
    info.can_reason = side_.chat_template->can_reason();
    info.can_choose_thinking = side_.chat_template->can_choose_thinking();
    info.tool_call_format = side_.chat_template->tool_call_format();
  }
  if (!tokenizer_) info.notes.push_back(side_.tokenizer_problem);
}

std::vector<int32_t> Text::Encode(std::string_view text, const EncodeOptions& options) const {
  std::vector<int32_t> ids = tokenizer().Encode(text, options.parse_special);
  const int32_t bos = side_.bos_token_id;
  if (options.add_bos && bos >= 0 && (ids.empty() || ids[0] != bos)) ids.insert(ids.begin(), bos);
  return ids;
}

EncodedChat Text::RenderChat(std::span<const ChatMessage> messages,
                             const ChatOptions& options) const {
  if (!side_.chat_template) {
    Throw(ErrorCode::kUnimplemented, "{}",
          side_.chat_template_problem.empty() ? "the model has no chat template"
                                              : side_.chat_template_problem);
  }
  const ChatPrompt prompt =
      side_.chat_template->Render(messages, {.add_generation_prompt = options.add_generation_prompt,
                                             .thinking = options.thinking,
                                             .tools_json = options.tools_json});
  EncodedChat chat = {.text = prompt.Text(),
                      .token_ids = {},
                      .starts_in_reasoning = prompt.reasoning == ReasoningStart::kOpen,
                      .may_reason = prompt.reasoning != ReasoningStart::kNone};
  for (const PromptPiece& piece : prompt.pieces) {
    // Only what the template itself wrote becomes a control token; what people typed stays text.
    const std::vector<int32_t> ids = tokenizer().Encode(piece.text, piece.is_control);
    chat.token_ids.insert(chat.token_ids.end(), ids.begin(), ids.end());
  }
  return chat;
}

std::unique_ptr<ReasoningSplitter> Text::MakeReasoningSplitter(const EncodedChat& prompt) const {
  const ReasoningStart start = prompt.starts_in_reasoning ? ReasoningStart::kOpen
                               : prompt.may_reason        ? ReasoningStart::kModelOpens
                                                          : ReasoningStart::kNone;
  return std::make_unique<Splitter>(start);
}

}  // namespace baleen
