#include "quantize/token_stream.h"

#include <algorithm>
#include <cmath>

namespace baleen {

namespace {

constexpr size_t kExpertRows = 4096;  // tokens that go through a layer's experts together
constexpr size_t kLogitRows = 64;     // whose logits are in memory together

double NegativeLogProbability(const float* logits, size_t n, size_t target) {
  const float max = *std::max_element(logits, logits + n);
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += std::exp(static_cast<double>(logits[i] - max));
  return std::log(sum) + max - logits[target];
}

}  // namespace

TokenStream::TokenStream(const Model& model, std::vector<std::vector<int32_t>> windows)
    : model_(model), windows_(std::move(windows)) {
  size_t longest = 0;
  for (const auto& window : windows_) {
    num_tokens_ += window.size();
    longest = std::max(longest, window.size());
  }
  x_.resize(num_tokens_ * model.config().hidden_size);
  cache_ = MakeCacheLayout(model.config(), DType::kF32, longest);
  cache_.num_layers += model.weights().mtp.size();
  block_.resize(cache_.block_bytes());
}

TokenStream::TokenStream(const Model& model, std::vector<std::vector<int32_t>> windows,
                         kernels::KernelContext& ctx)
    : TokenStream(model, std::move(windows)) {
  float* x = x_.data();
  for (const auto& window : windows_) {
    model.Embed(window, x, ctx);
    x += window.size() * model.config().hidden_size;
  }
}

TokenStream TokenStream::EnterMtp(kernels::KernelContext& ctx) const {
  std::vector<std::vector<int32_t>> following;
  for (const auto& window : windows_) following.emplace_back(window.begin() + 1, window.end());
  TokenStream entered(model_, std::move(following));
  const size_t hidden = model_.config().hidden_size;
  const float* from = x_.data();
  float* to = entered.x_.data();
  std::vector<float> normed, joined;
  for (const auto& window : entered.windows_) {
    const size_t rows = window.size();
    normed.resize(rows * hidden);
    joined.resize(rows * 2 * hidden);
    model_.FinalNorm(from, rows, normed.data(), ctx);
    model_.EnterMtp(0, window, normed.data(), joined.data(), to, ctx);
    from += (rows + 1) * hidden;
    to += rows * hidden;
  }
  return entered;
}

void TokenStream::Attend(size_t l, const LayerWeights& layer, const std::vector<int32_t>& window,
                         float* x, kernels::KernelContext& ctx, LayerTape* tape) const {
  ArenaScope scope(ctx.arena);
  std::byte* block = block_.data();
  const SequenceSlice slice = {
      .num_rows = window.size(), .form = MlaForm::kDirect, .blocks = {&block, 1}};
  const Batch batch = {.token_ids = window, .slices = {&slice, 1}, .output_rows = {}};
  model_.AttentionHalf(l, layer, batch, cache_, model_.Angles(batch, ctx.arena), x, ctx, tape);
}

void TokenStream::Attend(size_t l, const LayerWeights& layer, kernels::KernelContext& ctx) {
  float* x = x_.data();
  for (const auto& window : windows_) {
    Attend(l, layer, window, x, ctx, nullptr);
    x += window.size() * model_.config().hidden_size;
  }
}

void TokenStream::VisitAttention(
    size_t l, const LayerWeights& layer, kernels::KernelContext& ctx,
    FunctionRef<void(const LayerTape& tape, size_t rows)> visit) const {
  const float* x = x_.data();
  LayerTape tape;
  for (const auto& window : windows_) {
    ArenaScope scope(tape.arena);
    std::vector<float> copy(x, x + window.size() * model_.config().hidden_size);
    Attend(l, layer, window, copy.data(), ctx, &tape);
    visit(tape, window.size());
    x += copy.size();
  }
}

void TokenStream::FeedForward(size_t l, const LayerWeights& layer, kernels::KernelContext& ctx) {
  for (size_t begin = 0; begin < num_tokens_; begin += kExpertRows) {
    model_.FeedForwardHalf(l, layer, std::min(kExpertRows, num_tokens_ - begin),
                           x_.data() + begin * model_.config().hidden_size, ctx);
  }
}

double TokenStream::Perplexity(kernels::KernelContext& ctx) const {
  const size_t hidden = model_.config().hidden_size, vocab = model_.config().vocab_size;
  std::vector<float> normed(kLogitRows * hidden), logits(kLogitRows * vocab);
  const float* x = x_.data();
  double sum = 0;
  size_t count = 0;
  for (const auto& window : windows_) {
    for (size_t begin = 0; begin + 1 < window.size(); begin += kLogitRows) {
      const size_t rows = std::min(kLogitRows, window.size() - 1 - begin);
      model_.FinalNorm(x + begin * hidden, rows, normed.data(), ctx);
      model_.Logits(normed.data(), rows, logits.data(), ctx);
      for (size_t r = 0; r < rows; ++r) {
        sum += NegativeLogProbability(logits.data() + r * vocab, vocab,
                                      static_cast<size_t>(window[begin + r + 1]));
      }
      count += rows;
    }
    x += window.size() * hidden;
  }
  return std::exp(sum / static_cast<double>(count));
}

}  // namespace baleen
