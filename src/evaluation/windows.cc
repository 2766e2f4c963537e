#include "evaluation/windows.h"

#include <algorithm>

#include "base/error.h"

namespace baleen {

namespace {

void CheckOptions(const ModelInfo& info, const WindowOptions& options) {
  if (options.bos_token_id < 0) {
    Throw(ErrorCode::kUnimplemented,
          "{}: a text is scored after the model's BOS token, and this model puts none before a "
          "text; name the token with --bos-token-id",
          info.name);
  }
  if (options.context_tokens < 2) {
    Throw(ErrorCode::kInvalidArgument,
          "a context of {} tokens has no room for BOS and a token of the text; give 2 or more",
          options.context_tokens);
  }
  if (options.context_tokens > info.max_context_tokens) {
    Throw(ErrorCode::kInvalidArgument, "{}: a context of {} tokens is more than the model's {}",
          info.name, options.context_tokens, info.max_context_tokens);
  }
}

}  // namespace

std::vector<int32_t> EncodeText(const Engine& engine, std::string_view text) {
  std::vector<int32_t> ids = engine.Encode(text, {.parse_special = false, .add_bos = false});
  if (ids.empty()) Throw(ErrorCode::kInvalidArgument, "the text is empty: nothing to score");
  return ids;
}

void ForEachWindow(const Engine& engine, std::span<const int32_t> token_ids,
                   const WindowOptions& options,
                   const std::function<void(std::vector<int32_t> window)>& visit) {
  CheckOptions(engine.info(), options);
  const size_t stride = options.context_tokens - 1;
  for (size_t begin = 0; begin < token_ids.size(); begin += stride) {
    if (options.cancelled && options.cancelled()) Throw(ErrorCode::kCancelled, "interrupted");
    const auto piece = token_ids.subspan(begin, std::min(stride, token_ids.size() - begin));
    std::vector<int32_t> window;
    window.reserve(piece.size() + 1);
    window.push_back(options.bos_token_id);
    window.insert(window.end(), piece.begin(), piece.end());
    visit(std::move(window));
    if (options.on_progress) options.on_progress(begin + piece.size(), token_ids.size());
  }
}

}  // namespace baleen
