// quantize/layer_quantizer.h: quantizes the matrices of one layer, in the order of the data.
#ifndef BALEEN_QUANTIZE_LAYER_QUANTIZER_H_
#define BALEEN_QUANTIZE_LAYER_QUANTIZER_H_

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "quantize/quantize.h"
#include "quantize/token_stream.h"

namespace baleen {

// A layer whose matrices are replaced, one after the other, by what they become when quantized.
class LayerQuantizer {
 public:
  // What is done with each result; may be called by several threads at once.
  using Sink = std::function<void(const std::string& name, const RoundedMatrix& rounded)>;

  LayerQuantizer(const Model& model, size_t layer, const QuantizeOptions& options,
                 kernels::KernelContext& ctx, Sink sink);

  // The layer as far as it is quantized, for the rest of the pass: values rounded to BF16, which is
  // far below the error of the codes. Valid as long as this object.
  const LayerWeights& weights() const { return layer_; }

  // Without a stream (round to nearest) no calibration takes place.
  void QuantizeAttention(const TokenStream* stream);
  // After the stream has passed the attention.
  void QuantizeFeedForward(const TokenStream* stream);

  // Sorted by name.
  std::vector<TensorReport> TakeReports();

 private:
  struct Inputs;  // of one network: which rows of the normed stream, and what may be mixed in

  void QuantizeMlp(const std::string& name, MlpWeights& mlp, const Inputs& inputs,
                   kernels::KernelContext& ctx);
  // Quantizes matrices that share their input and puts the results in their place.
  void QuantizeShared(std::span<const std::string> names, std::span<Matrix* const> matrices,
                      const Hessian& hessian, uint64_t tokens, double borrowed,
                      const RoundingOptions& rounding);
  void QuantizeExperts(const Inputs& all);

  const Model& model_;
  size_t l_;
  const QuantizeOptions& options_;
  kernels::KernelContext& ctx_;
  Sink sink_;
  LayerWeights layer_;

  std::mutex mutex_;  // guards what follows
  std::deque<std::vector<uint16_t>> decoded_;
  std::vector<TensorReport> reports_;
};

}  // namespace baleen

#endif  // BALEEN_QUANTIZE_LAYER_QUANTIZER_H_
