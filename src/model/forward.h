// model/forward.h: the forward pass. One for prefill, decode, scoring, calibration and training.
//
// A batch is rows of several sequences, flattened; each slice is consecutive positions of one
// sequence. The pass writes the latent rows of all its tokens into the cache and gives the
// final hidden state of the rows that are asked for. A row's results depend on its own sequence
// only, bit for bit.
#ifndef BALEEN_MODEL_FORWARD_H_
#define BALEEN_MODEL_FORWARD_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/kernels.h"
#include "model/config.h"
#include "model/expert_store.h"
#include "model/tape.h"
#include "model/weights.h"

namespace baleen {

// The two algebraically equal ways to attend (arXiv:2405.04434, section 2.1), named by form:
// kDirect rebuilds keys and values of each head, kAbsorbed folds the up-projections into the query
// and the output and works on latent rows.
enum class MlaForm { kDirect, kAbsorbed };

// How the latent cache lies in memory: blocks of block_tokens positions, all layers in one block.
struct CacheLayout {
  DType dtype = DType::kBF16;
  size_t block_tokens = 0;
  size_t row_bytes = 0;
  size_t num_layers = 0;

  size_t layer_bytes() const { return block_tokens * row_bytes; }
  size_t block_bytes() const { return num_layers * layer_bytes(); }
};
CacheLayout MakeCacheLayout(const ModelConfig& config, DType dtype, size_t block_tokens);

// Rows [first_row, first_row + num_rows) of the batch: positions first_position and on of one
// sequence, whose block b holds positions [b * block_tokens, (b + 1) * block_tokens). Blocks for
// all positions up to the last row's must be there.
struct SequenceSlice {
  size_t first_row = 0;
  size_t num_rows = 0;
  size_t first_position = 0;
  MlaForm form = MlaForm::kAbsorbed;
  std::span<std::byte* const> blocks;
};

struct Batch {
  std::span<const int32_t> token_ids;  // checked against the vocabulary by the caller
  std::span<const SequenceSlice> slices;
  std::span<const int32_t> output_rows;  // ascending; the rows whose output is wanted
};

// Watches a pass from inside: for tests, calibration and the study of routing. Rows are the
// batch's.
class ForwardObserver {
 public:
  virtual ~ForwardObserver() = default;
  // After the embedding (stage 0), after layer l (l + 1), and after the final norm of the output
  // rows (num_hidden_layers + 1). hidden [rows, hidden_size].
  virtual void OnHidden(size_t /*stage*/, const float* /*hidden*/, size_t /*rows*/) {}
  // experts, weights [rows, experts_per_row], largest selection score first.
  virtual void OnRouting(size_t /*layer*/, const int32_t* /*experts*/, const float* /*weights*/,
                         size_t /*rows*/, size_t /*experts_per_row*/) {}
  // Where a layer is to keep what the way back needs; null: nowhere.
  virtual LayerTape* TapeOf(size_t /*layer*/) { return nullptr; }
};

// Rotation of each row of a batch.
struct RopeAngles {
  const float* cos = nullptr;  // [rows, num_pairs]
  const float* sin = nullptr;
  size_t num_pairs = 0;
};

class Model {
 public:
  // The weights' shapes have been checked against the config by whoever made them.
  Model(ModelConfig config, ModelWeights weights);

  const ModelConfig& config() const { return config_; }
  const ModelWeights& weights() const { return weights_; }

  // From now on the experts of the layers that it has are computed from its slots, and passes come
  // from one thread at a time. Null: from the weights.
  void set_expert_store(std::unique_ptr<ExpertStore> store) { expert_store_ = std::move(store); }
  const ExpertStore* expert_store() const { return expert_store_.get(); }

  // final_hidden [batch.output_rows.size(), hidden_size], overwritten: after the final norm, ready
  // for Logits. Threads: concurrent calls need different contexts and different cache blocks.
  void Forward(const Batch& batch, const CacheLayout& cache, float* final_hidden,
               kernels::KernelContext& ctx, ForwardObserver* observer = nullptr) const;

  // One layer of that pass: x [rows, hidden_size] becomes its output. Layer num_hidden_layers + i
  // is that of MTP module i.
  void Layer(size_t layer, const Batch& batch, const CacheLayout& cache, const RopeAngles& angles,
             float* x, kernels::KernelContext& ctx, ForwardObserver* observer,
             LayerTape* tape) const;

  // The two halves of a layer, which add to x [rows, hidden_size]; `weights` stand for the model's
  // own. For one who takes many batches through a half before the next (quantize/).
  void AttentionHalf(size_t layer, const LayerWeights& weights, const Batch& batch,
                     const CacheLayout& cache, const RopeAngles& angles, float* x,
                     kernels::KernelContext& ctx, LayerTape* tape = nullptr) const;
  void FeedForwardHalf(size_t layer, const LayerWeights& weights, size_t rows, float* x,
                       kernels::KernelContext& ctx, ForwardObserver* observer = nullptr,
                       LayerTape* tape = nullptr) const;

  // MTP module `module` (arXiv:2412.19437, section 2.2): for each row of the batch, the hidden
  // state from which its head predicts the token after next. batch.token_ids are the tokens that
  // follow the rows; hidden [rows, hidden_size] what Forward gave for these rows (the module
  // before, for modules above 0). final_hidden [rows, hidden_size] is ready for the module's
  // shared_head. The layer's latent rows go into the cache as layer num_hidden_layers + module.
  void Mtp(size_t module, const Batch& batch, const CacheLayout& cache, const float* hidden,
           float* final_hidden, kernels::KernelContext& ctx, ForwardObserver* observer = nullptr,
           MtpTape* tape = nullptr) const;

  // The first half of that, before the module's layer: x [rows, hidden_size] becomes what the layer
  // reads; joined [rows, 2 hidden_size] the input of eh_proj.
  void EnterMtp(size_t module, std::span<const int32_t> token_ids, const float* hidden,
                float* joined, float* x, kernels::KernelContext& ctx) const;

  // Layer num_hidden_layers + i is that of MTP module i.
  const LayerWeights& LayerOf(size_t layer) const {
    const size_t num_layers = weights_.layers.size();
    return layer < num_layers ? weights_.layers[layer] : weights_.mtp[layer - num_layers].layer;
  }

  // x [token_ids.size(), hidden_size]: the embeddings.
  void Embed(std::span<const int32_t> token_ids, float* x, kernels::KernelContext& ctx) const;
  // y [rows, hidden_size], which may be x: what the head reads.
  void FinalNorm(const float* x, size_t rows, float* y, kernels::KernelContext& ctx) const;

  // Of the batch's rows, in `arena`.
  RopeAngles Angles(const Batch& batch, Arena& arena) const;

  // logits [rows, vocab_size] = lm_head final_hidden. Apart from Forward, so that scoring a long
  // text never holds the logits of all its rows.
  void Logits(const float* final_hidden, size_t rows, float* logits,
              kernels::KernelContext& ctx) const;

 private:
  ModelConfig config_;
  ModelWeights weights_;
  RopeFrequencies rope_;
  std::unique_ptr<ExpertStore> expert_store_;
};

}  // namespace baleen

#endif  // BALEEN_MODEL_FORWARD_H_
