// evaluation/windows.h: a text, cut into pieces that a model can read at once.
#ifndef BALEEN_EVALUATION_WINDOWS_H_
#define BALEEN_EVALUATION_WINDOWS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "baleen/engine.h"

namespace baleen {

struct WindowOptions {
  size_t context_tokens = 0;  // of a window, BOS included; at least 2
  int32_t bos_token_id = -1;  // put before every window
  // Told after each window how many tokens of the text are done.
  std::function<void(size_t done_tokens, size_t total_tokens)> on_progress;
  // Asked before each window; true ends the work with Error{kCancelled}.
  std::function<bool()> cancelled;
};

// Encodes `text` once: no BOS, and names of control tokens in it stay text.
// Errors: kInvalidArgument, a text without a token.
std::vector<int32_t> EncodeText(const Engine& engine, std::string_view text);

// Calls `visit` with BOS and the next context_tokens - 1 tokens of the text, without overlap, until
// every token was in one window. The last window may be shorter.
// Errors: kUnimplemented, no BOS is known; kInvalidArgument, a window does not fit the engine's
// context or holds no token; kCancelled.
void ForEachWindow(const Engine& engine, std::span<const int32_t> token_ids,
                   const WindowOptions& options,
                   const std::function<void(std::vector<int32_t> window)>& visit);

}  // namespace baleen

#endif  // BALEEN_EVALUATION_WINDOWS_H_
