// training/pass.h: one micro-batch there and back: loss and gradients of packed sequences.
//
// The way there is Model::Forward, sequences being slices in the direct form and the latent cache
// holding one block for each sequence. An observer gives each layer a tape. With `recompute` only
// the layers' inputs are kept, and each layer runs once more, with a tape, right before its way
// back: the same results, bit for bit, for a third more time and a fraction of the memory.
#ifndef BALEEN_TRAINING_PASS_H_
#define BALEEN_TRAINING_PASS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "model/forward.h"
#include "training/balance.h"
#include "training/parameters.h"

namespace baleen {

struct PassOptions {
  size_t num_sequences = 0;    // of a micro-batch
  size_t sequence_length = 0;  // tokens that are read; one more is predicted
  bool recompute = false;
  double mtp_weight = 0.3;  // of the loss of MTP modules; 0: they are not computed
  BalanceOptions balance;
};

struct PassResult {
  double loss = 0;  // nats, summed over targets
  double mtp_loss = 0;
  size_t num_targets = 0;
  double balance_loss = 0;  // summed over sequences and layers
};

// Tokens that each expert got, [MoE layers, MTP modules last][n_routed_experts].
using ExpertLoad = std::vector<std::vector<uint64_t>>;

class TrainingPass {
 public:
  TrainingPass(const ModelConfig& config, const Parameters& parameters, PassOptions options);
  ~TrainingPass();

  // tokens [num_sequences, sequence_length + 1]; a negative token is read as 0 and not predicted.
  // Adds to the gradients of
  //   (sum of losses + mtp_weight * sum of losses of MTP) / total_targets
  //   + balance losses / total_sequences,
  // the totals being those of all micro-batches of the step, and to `load`.
  PassResult Run(std::span<const int32_t> tokens, size_t total_targets, size_t total_sequences,
                 kernels::KernelContext& ctx, ExpertLoad& load);

  // The way there only; the loss of the model itself.
  PassResult Evaluate(std::span<const int32_t> tokens, kernels::KernelContext& ctx,
                      ExpertLoad& load);

  ExpertLoad EmptyLoad() const;

  // Bytes of activations and of the latent cache, to be known before they are taken: what is alive
  // at once at the worst moment. It grows linearly with the length of a sequence.
  static uint64_t Bytes(const ModelConfig& config, const PassOptions& options, Products products,
                        size_t num_threads);

 private:
  class Recorder;

  // The batch of a pass and what lies behind its spans.
  struct Layout {
    std::vector<int32_t> inputs, targets;  // [rows]; a target below 0 is not predicted
    std::vector<int32_t> all_rows;
    std::vector<std::byte*> blocks;  // one for each sequence
    std::vector<SequenceSlice> slices;
    size_t num_targets = 0;
    Batch batch;
  };
  Layout MakeLayout(std::span<const int32_t> tokens);

  double Loss(const float* hidden, std::span<const int32_t> targets, const Matrix& head,
              const Matrix* grad_head, float scale, float* grad_hidden,
              kernels::KernelContext& ctx) const;
  double RunMtp(const Layout& layout, const float* hidden, float scale, double balance_scale,
                float* grad_hidden, Recorder& recorder, double& balance_loss,
                kernels::KernelContext& ctx);
  void NormBackward(const float* x, Vector weight, Vector grad_weight, const float* grad_y,
                    size_t rows, float* grad_x, kernels::KernelContext& ctx) const;

  const ModelConfig config_;
  const Parameters& parameters_;
  const PassOptions options_;
  Model model_;
  CacheLayout cache_;
  std::vector<std::byte> cache_memory_;
  std::vector<LayerTape> tapes_;
  MtpTape mtp_tape_;
};

}  // namespace baleen

#endif  // BALEEN_TRAINING_PASS_H_
