// training/parameters.h: what is trained: master weights in F32 and their gradients, and the forms
// in which both passes read them.
//
// A gradient has the shape of its weight, so gradients are a ModelWeights too, whose views point to
// memory that may be written. With BF16 products the passes read rounded copies, which Publish
// makes anew after each step; embedding, router and norms are read as they are.
#ifndef BALEEN_TRAINING_PARAMETERS_H_
#define BALEEN_TRAINING_PARAMETERS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "kernels/backward.h"
#include "model/config.h"
#include "model/weights.h"
#include "tensor/tensor_view.h"

namespace baleen {

// One trained tensor under its Hugging Face name.
struct Parameter {
  std::string name;
  Shape shape;  // [n] or [rows, cols]
  std::span<float> value;
  std::span<float> grad;

  bool is_matrix() const { return shape.size() == 2; }
};

enum class Products { kF32, kBF16 };

class Parameters {
 public:
  // All values and gradients are zero. With `tied`, lm_head is the embedding. An MTP module shares
  // the embedding and the head of the model.
  Parameters(const ModelConfig& config, bool tied, Products products);

  const std::vector<Parameter>& list() const { return list_; }
  size_t num_values() const { return values_.size(); }
  bool tied() const { return tied_; }

  // N(0, range^2) for matrices, 1 for norms; biases of routers 0. Each tensor has a stream of
  // random numbers of its own, so its values do not depend on the others.
  void Initialize(uint64_t seed, double range);
  // Views into the master weights, as grads() are of the gradients, and into the routers' biases.
  ModelWeights Masters();

  // e_score_correction_bias of each MoE layer, MTP modules last: state, but not trained by
  // gradients.
  std::vector<std::span<float>>& router_biases() { return router_biases_; }
  const std::vector<std::span<float>>& router_biases() const { return router_biases_; }
  size_t num_moe_layers() const { return num_moe_layers_; }
  const std::vector<std::string>& router_bias_names() const { return router_bias_names_; }

  // For Model: views that stay valid; Publish changes what they see.
  const ModelWeights& forward() const { return forward_; }
  // Views into the gradients. Only `data` of matrices and vectors means anything.
  const ModelWeights& grads() const { return grads_; }
  // How the way back reads a matrix of forward().
  kernels::BackwardWeight Backward(const Matrix& forward) const;

  void ClearGradients();
  // To be called after the values have changed.
  void Publish(kernels::KernelContext& ctx);

  // Bytes that an object for this config takes.
  static uint64_t Bytes(const ModelConfig& config, bool tied, Products products);

 private:
  const ModelConfig config_;
  bool tied_;
  Products products_;
  size_t num_moe_layers_ = 0;  // MTP modules included
  std::vector<float> values_, gradients_, biases_;
  std::vector<Parameter> list_;
  std::vector<std::span<float>> router_biases_;
  std::vector<std::string> router_bias_names_;

  // Copies for BF16 products: rows for the way there, pairs of rows for the way back.
  struct Rounded {
    const float* value;
    size_t rows, cols;
    std::vector<uint16_t> there;
    std::vector<uint32_t> back;
  };
  std::vector<Rounded> rounded_;
  std::unordered_map<const std::byte*, size_t> rounded_by_data_;  // of `there`
  ModelWeights forward_, grads_;
};

// The memory behind a gradient view.
inline float* Writable(const Matrix& grad) {
  return reinterpret_cast<float*>(const_cast<std::byte*>(grad.data));
}
inline float* Writable(Vector grad) { return const_cast<float*>(grad); }

}  // namespace baleen

#endif  // BALEEN_TRAINING_PARAMETERS_H_
