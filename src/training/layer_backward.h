// training/layer_backward.h: the way back of one layer, by hand, operation by operation.
//
// Source of the formulas: the chain rule; the layer itself is model/mla.cc and model/moe.cc.
#ifndef BALEEN_TRAINING_LAYER_BACKWARD_H_
#define BALEEN_TRAINING_LAYER_BACKWARD_H_

#include "kernels/backward.h"
#include "model/forward.h"
#include "training/balance.h"
#include "training/parameters.h"

namespace baleen {

struct LayerBackwardArgs {
  const ModelConfig& config;
  const Parameters& parameters;
  const BalanceOptions& balance;
  size_t layer = 0;  // num_hidden_layers + i: of MTP module i
  const Batch& batch;
  const CacheLayout& cache;
  const RopeAngles& angles;
  const LayerTape& tape;
  // What the balance loss of one sequence counts in the whole loss.
  double balance_scale = 0;
};

// grad [rows, hidden]: of the layer's output when it is called, of its input when it returns.
// Adds to the gradients of the layer's weights. Returns the balance loss, summed over sequences (0
// for dense layers and without one).
double LayerBackward(const LayerBackwardArgs& args, float* grad, kernels::KernelContext& ctx);

// One product y = x W^T of weights that a Model sees as `weight`: adds to grad_weight, and writes
// or adds to grad_x [rows, weight.cols] if that is not null.
void ProductBackward(const Parameters& parameters, const Matrix& weight, const Matrix& grad_weight,
                     const float* x, const float* grad_y, size_t rows, bool accumulate,
                     float* grad_x, kernels::KernelContext& ctx);

}  // namespace baleen

#endif  // BALEEN_TRAINING_LAYER_BACKWARD_H_
