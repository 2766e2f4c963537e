#include "quantize/calibration.h"

#include <algorithm>

#include "base/error.h"
#include "base/json.h"

namespace baleen {

namespace {

using simdjson::dom::element;

constexpr size_t kHeldOutEvery = 8;

class Encoder {
 public:
  Encoder(const CalibrationText& text, const TextSide& model) : text_(text), model_(model) {}

  std::vector<int32_t> Encode() {
    if (text_.text.starts_with("{\"")) {
      size_t line = 1;
      for (size_t begin = 0; begin < text_.text.size(); ++line) {
        const size_t end = std::min(text_.text.find('\n', begin), text_.text.size());
        if (end > begin) AddLine(text_.text.substr(begin, end - begin), line);
        begin = end + 1;
      }
    } else {
      Add(text_.text, false);
    }
    return std::move(ids_);
  }

 private:
  void Add(std::string_view text, bool parse_special) {
    const std::vector<int32_t> ids = model_.tokenizer->Encode(text, parse_special);
    ids_.insert(ids_.end(), ids.begin(), ids.end());
  }

  void AddLine(const std::string& line, size_t number) {
    const std::string source = fmt::format("{}, line {}", text_.name, number);
    const JsonDocument document = JsonDocument::Parse(line, source);
    const simdjson::dom::object root = document.object();
    std::string_view text;
    simdjson::dom::array messages;
    if (!root.at_key("text").get_string().get(text)) {
      Add(text, false);
    } else if (!root.at_key("messages").get_array().get(messages)) {
      AddChat(messages, source);
    } else {
      Throw(ErrorCode::kCorruption, "{}: needs a \"text\" or \"messages\"", source);
    }
    if (!model_.stop_token_ids.empty()) ids_.push_back(model_.stop_token_ids.front());
  }

  // A model without a chat format reads the turns as paragraphs.
  void AddChat(simdjson::dom::array messages, const std::string& source) {
    std::vector<ChatMessage> turns;
    for (element message : messages) {
      std::string_view role, content;
      if (message.at_key("role").get_string().get(role) ||
          message.at_key("content").get_string().get(content)) {
        Throw(ErrorCode::kCorruption, "{}: a message needs a role and a content", source);
      }
      turns.push_back({.role = std::string(role), .content = std::string(content)});
    }
    if (!model_.chat_template) {
      for (const ChatMessage& turn : turns) Add(turn.content + "\n\n", false);
      return;
    }
    const ChatPrompt prompt = model_.chat_template->Render(turns, {.add_generation_prompt = false});
    for (const PromptPiece& piece : prompt.pieces) Add(piece.text, piece.is_control);
  }

  const CalibrationText& text_;
  const TextSide& model_;
  std::vector<int32_t> ids_;
};

// Evenly spread ones, as many as hold max_tokens.
std::vector<std::vector<int32_t>> Thin(std::vector<std::vector<int32_t>> windows,
                                       size_t window_tokens, size_t max_tokens) {
  const size_t keep = std::max<size_t>(1, max_tokens / window_tokens);
  if (windows.size() <= keep) return windows;
  std::vector<std::vector<int32_t>> kept;
  for (size_t i = 0; i < keep; ++i) kept.push_back(std::move(windows[i * windows.size() / keep]));
  return kept;
}

}  // namespace

CalibrationWindows MakeCalibrationWindows(const CalibrationText& text, const TextSide& model,
                                          size_t window_tokens, size_t max_tokens,
                                          size_t max_held_out_tokens) {
  if (!model.tokenizer) {
    Throw(ErrorCode::kNotFound, "{}; calibration reads text", model.tokenizer_problem);
  }
  const std::vector<int32_t> ids = Encoder(text, model).Encode();
  const size_t bos = model.bos_token_id >= 0 ? 1 : 0;
  CalibrationWindows windows;
  size_t index = 0;
  for (size_t begin = 0; begin < ids.size(); ++index) {
    const size_t end = std::min(ids.size(), begin + window_tokens - bos);
    std::vector<int32_t> window(bos, model.bos_token_id);
    window.insert(window.end(), ids.begin() + static_cast<ptrdiff_t>(begin),
                  ids.begin() + static_cast<ptrdiff_t>(end));
    begin = end;
    if (window.size() < 2) continue;
    (index % kHeldOutEvery == 1 ? windows.held_out : windows.training).push_back(std::move(window));
  }
  if (windows.held_out.empty()) {
    Throw(ErrorCode::kInvalidArgument,
          "{}: {} tokens are too few to calibrate with; give more than {}", text.name, ids.size(),
          window_tokens);
  }
  windows.training = Thin(std::move(windows.training), window_tokens, max_tokens);
  windows.held_out = Thin(std::move(windows.held_out), window_tokens, max_held_out_tokens);
  return windows;
}

}  // namespace baleen
