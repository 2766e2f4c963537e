#include "evaluation/perplexity.h"

#include <cmath>
#include <numbers>

#include "base/check.h"
#include "base/error.h"

namespace baleen {

Perplexity MeasurePerplexity(Engine& engine, std::string_view text, const WindowOptions& options) {
  const std::vector<int32_t> token_ids = EncodeText(engine, text);
  double total_nats = 0;
  size_t num_scored = 0;
  ForEachWindow(engine, token_ids, options, [&](std::vector<int32_t> window) {
    const size_t num_tokens = window.size() - 1;
    const Score score = engine.ScoreTokens({.token_ids = std::move(window)});
    BALEEN_CHECK(score.logprobs.size() == num_tokens);
    for (const float logprob : score.logprobs) total_nats -= logprob;
    num_scored += num_tokens;
    if (!std::isfinite(total_nats)) {
      Throw(ErrorCode::kFailed,
            "{}: the loss is {} after {} of {} tokens; are the weights damaged?",
            engine.info().name, total_nats, num_scored, token_ids.size());
    }
  });
  Perplexity result;
  result.tokens = num_scored;
  result.bytes = text.size();
  result.loss = total_nats / static_cast<double>(num_scored);
  result.perplexity = std::exp(result.loss);
  result.bits_per_byte = total_nats / std::numbers::ln2 / static_cast<double>(text.size());
  return result;
}

}  // namespace baleen
