// quantize/token_stream.h: texts on their way through a model, all of them a layer at a time.
#ifndef BALEEN_QUANTIZE_TOKEN_STREAM_H_
#define BALEEN_QUANTIZE_TOKEN_STREAM_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/function_ref.h"
#include "model/forward.h"
#include "model/tape.h"

namespace baleen {

// The residual stream of all tokens of some windows, which stand between two layers. Does not own
// the windows. Threads: one at a time.
class TokenStream {
 public:
  // Before the first layer.
  TokenStream(const Model& model, const std::vector<std::vector<int32_t>>& windows,
              kernels::KernelContext& ctx);

  size_t num_tokens() const { return num_tokens_; }
  // [num_tokens, hidden_size]
  std::vector<float>& x() { return x_; }
  const std::vector<float>& x() const { return x_; }

  // Adds the attention of layer l to the stream, window by window.
  void Attend(size_t l, const LayerWeights& layer, kernels::KernelContext& ctx);
  // Calls visit(tape, rows) for each window, after computing what Attend would; the stream stays.
  void VisitAttention(size_t l, const LayerWeights& layer, kernels::KernelContext& ctx,
                      FunctionRef<void(const LayerTape& tape, size_t rows)> visit) const;
  // Adds the experts, or the dense network, of layer l.
  void FeedForward(size_t l, const LayerWeights& layer, kernels::KernelContext& ctx);

  // exp of the mean loss over all tokens but the first of each window, after the last layer.
  double Perplexity(kernels::KernelContext& ctx) const;

 private:
  void Attend(size_t l, const LayerWeights& layer, const std::vector<int32_t>& window, float* x,
              kernels::KernelContext& ctx, LayerTape* tape) const;

  const Model& model_;
  const std::vector<std::vector<int32_t>>& windows_;
  size_t num_tokens_ = 0;
  std::vector<float> x_;
  CacheLayout cache_;
  mutable std::vector<std::byte> block_;  // the latent rows of one window
};

}  // namespace baleen

#endif  // BALEEN_QUANTIZE_TOKEN_STREAM_H_
