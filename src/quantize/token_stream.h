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

// The residual stream of all tokens of some windows, which stand between two layers. Threads: one
// at a time.
class TokenStream {
 public:
  // Before the first layer.
  TokenStream(const Model& model, std::vector<std::vector<int32_t>> windows,
              kernels::KernelContext& ctx);
  // After the last layer: the stream that enters MTP module 0, before its layer. A token's row is
  // made of its hidden state and the token that follows, so the last of each window has none.
  TokenStream EnterMtp(kernels::KernelContext& ctx) const;

  size_t num_tokens() const { return num_tokens_; }
  // [num_tokens, hidden_size]
  std::vector<float>& x() { return x_; }
  const std::vector<float>& x() const { return x_; }

  // Adds the attention of layer l (num_hidden_layers: of MTP module 0) to the stream, window by
  // window.
  void Attend(size_t l, const LayerWeights& layer, kernels::KernelContext& ctx);
  // Calls visit(tape, rows) for each window, after computing what Attend would; the stream stays.
  void VisitAttention(size_t l, const LayerWeights& layer, kernels::KernelContext& ctx,
                      FunctionRef<void(const LayerTape& tape, size_t rows)> visit) const;
  // Adds the experts, or the dense network, of layer l.
  void FeedForward(size_t l, const LayerWeights& layer, kernels::KernelContext& ctx);

  // exp of the mean loss over all tokens but the first of each window, after the last layer.
  double Perplexity(kernels::KernelContext& ctx) const;

 private:
  // Nothing has entered yet.
  TokenStream(const Model& model, std::vector<std::vector<int32_t>> windows);
  void Attend(size_t l, const LayerWeights& layer, const std::vector<int32_t>& window, float* x,
              kernels::KernelContext& ctx, LayerTape* tape) const;

  const Model& model_;
  std::vector<std::vector<int32_t>> windows_;
  size_t num_tokens_ = 0;
  std::vector<float> x_;
  CacheLayout cache_;
  mutable std::vector<std::byte> block_;  // the latent rows of one window
};

}  // namespace baleen

#endif  // BALEEN_QUANTIZE_TOKEN_STREAM_H_
