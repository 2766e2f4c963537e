#include "evaluation/perplexity.h"

#include <cmath>
#include <numbers>

#include "base/check.h"
#include "base/error.h"
#include "base/json_lines.h"

namespace baleen {

namespace {

// Adds up what a model says of windows of text.
class Scorer {
 public:
  Scorer(Engine& engine, size_t total_tokens) : engine_(engine), total_tokens_(total_tokens) {}

  void Add(std::vector<int32_t> window) {
    const size_t num_tokens = window.size() - 1;
    const Score score = engine_.ScoreTokens({.token_ids = std::move(window)});
    BALEEN_CHECK(score.logprobs.size() == num_tokens);
    for (const float logprob : score.logprobs) total_nats_ -= logprob;
    num_scored_ += num_tokens;
    if (!std::isfinite(total_nats_)) {
      Throw(ErrorCode::kFailed,
            "{}: the loss is {} after {} of {} tokens; are the weights damaged?",
            engine_.info().name, total_nats_, num_scored_, total_tokens_);
    }
  }

  size_t num_scored() const { return num_scored_; }

  Perplexity ResultOver(size_t num_bytes) const {
    Perplexity result;
    result.tokens = num_scored_;
    result.bytes = num_bytes;
    result.loss = total_nats_ / static_cast<double>(num_scored_);
    result.perplexity = std::exp(result.loss);
    result.bits_per_byte = total_nats_ / std::numbers::ln2 / static_cast<double>(num_bytes);
    return result;
  }

 private:
  Engine& engine_;
  const size_t total_tokens_;
  double total_nats_ = 0;
  size_t num_scored_ = 0;
};

}  // namespace

Perplexity MeasurePerplexity(Engine& engine, std::string_view text, const WindowOptions& options) {
  const std::vector<int32_t> token_ids = EncodeText(engine, text);
  Scorer scorer(engine, token_ids.size());
  ForEachWindow(engine, token_ids, options,
                [&](std::vector<int32_t> window) { scorer.Add(std::move(window)); });
  return scorer.ResultOver(text.size());
}

std::vector<std::string> ReadDocuments(std::string_view content, const std::string& path) {
  std::vector<std::string> documents;
  ForEachJsonLine(content, path, [&](const JsonLine& line) {
    documents.emplace_back(line.document.String("text"));
  });
  if (documents.empty()) Throw(ErrorCode::kCorruption, "{}: no document is in it", path);
  return documents;
}

Perplexity MeasureDocuments(Engine& engine, std::span<const std::string> documents,
                            int32_t end_token_id, const WindowOptions& options) {
  std::vector<std::vector<int32_t>> encoded;
  size_t num_bytes = 0, num_tokens = 0;
  for (const std::string& document : documents) {
    num_bytes += document.size();
    encoded.push_back(engine.Encode(document, {.parse_special = false, .add_bos = false}));
    if (end_token_id >= 0) encoded.back().push_back(end_token_id);
    num_tokens += encoded.back().size();
  }
  if (num_bytes == 0) {
    Throw(ErrorCode::kInvalidArgument, "the documents are empty: nothing to score");
  }
  Scorer scorer(engine, num_tokens);
  WindowOptions of_document = options;
  of_document.on_progress = {};
  for (const std::vector<int32_t>& token_ids : encoded) {
    ForEachWindow(engine, token_ids, of_document, [&](std::vector<int32_t> window) {
      scorer.Add(std::move(window));
      if (options.on_progress) options.on_progress(scorer.num_scored(), num_tokens);
    });
  }
  return scorer.ResultOver(num_bytes);
}

}  // namespace baleen
