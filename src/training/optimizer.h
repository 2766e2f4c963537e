// training/optimizer.h: AdamW, and Muon for matrices, over all parameters; learning-rate schedules.
//
// AdamW: arXiv:1711.05101; norms do not decay. Muon as Moonlight and Kimi-K2 use it
// (arXiv:2502.16982): the momentum of a matrix is made orthogonal by five steps of Newton and
// Schulz, and scaled by 0.2 sqrt(max(rows, cols)) so that it takes AdamW's learning rate and decay;
// embedding, head and norms stay with AdamW.
#ifndef BALEEN_TRAINING_OPTIMIZER_H_
#define BALEEN_TRAINING_OPTIMIZER_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kernels/kernels.h"
#include "training/parameters.h"

namespace baleen {

struct OptimizerOptions {
  bool muon = false;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;
  double muon_momentum = 0.95;
  std::string frozen_prefix;  // parameters whose names begin so keep their values; empty: none
};

enum class Schedule { kConstant, kCosine, kStep };

struct ScheduleOptions {
  Schedule kind = Schedule::kCosine;
  double lr = 1e-3;
  double min_lr_ratio = 0.1;  // cosine: what is left at the end
  uint64_t warmup_steps = 0;
  uint64_t total_steps = 0;
  // kStep: from this share of the steps on, lr is multiplied by the factor (once more each).
  std::vector<double> decay_at = {0.6, 0.9};
  double decay_factor = 0.316;
};

// Of step `step`, from 0 on. Warm-up is linear and reaches lr with its last step.
double LearningRate(const ScheduleOptions& options, uint64_t step);

class Optimizer {
 public:
  Optimizer(const Parameters& parameters, OptimizerOptions options);
  ~Optimizer();

  // `step` counts from 1; gradients are multiplied by grad_scale first. Changes the values.
  void Step(uint64_t step, double lr, double grad_scale, kernels::KernelContext& ctx);

  // All that must be kept to go on: names and numbers.
  struct State {
    std::string name;
    Shape shape;
    std::span<float> values;
  };
  std::vector<State> state();

  static uint64_t Bytes(const Parameters& parameters, const OptimizerOptions& options);

 private:
  struct Slot {
    const Parameter* parameter;
    bool muon;
    bool frozen;
    std::span<float> m, v;  // v is empty with Muon
  };
  struct Alone;  // what a thread needs to work on a matrix by itself
  static bool UsesMuon(const Parameter& parameter, const OptimizerOptions& options);
  void StepAdamW(const kernels::AdamWArgs& args, const Slot& slot, kernels::KernelContext& ctx);
  void StepMuon(double lr, double grad_scale, const Slot& slot, kernels::KernelContext& ctx);
  void StepSmallMatrices(double lr, double grad_scale, kernels::KernelContext& ctx);

  const OptimizerOptions options_;
  std::vector<float> memory_;
  std::vector<Slot> slots_;
  std::vector<const Slot*> small_;             // Muon's matrices that one thread takes whole
  std::vector<std::unique_ptr<Alone>> alone_;  // one for each thread
};

// The Euclidean norm over all gradients.
double GradientNorm(const Parameters& parameters, kernels::KernelContext& ctx);

}  // namespace baleen

#endif  // BALEEN_TRAINING_OPTIMIZER_H_
