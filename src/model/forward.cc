#include "model/forward.h"

#include <cmath>
#include <cstring>

#include "base/check.h"
#include "model/mla.h"
#include "model/moe.h"

namespace baleen {

CacheLayout MakeCacheLayout(const ModelConfig& config, DType dtype, size_t block_tokens) {
  BALEEN_CHECK(dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kI8);
  const kernels::LatentLayout row = {dtype, config.kv_lora_rank, config.qk_rope_head_dim};
  return {.dtype = dtype,
          .block_tokens = block_tokens,
          .row_bytes = row.row_bytes(),
          .num_layers = config.num_hidden_layers};
}

Model::Model(ModelConfig config, ModelWeights weights)
    : config_(std::move(config)),
      weights_(std::move(weights)),
      rope_(MakeRopeFrequencies(config_)) {}

// cos and sin of each row's position, [rows, qk_rope_head_dim / 2]. The angle is a product of
// floats, as in the reference: at long contexts its rounding is part of the model.
RopeAngles Model::Angles(const Batch& batch, Arena& arena) const {
  const size_t num_pairs = rope_.inv_freq.size();
  float* cosines = arena.Allocate<float>(batch.token_ids.size() * num_pairs);
  float* sines = arena.Allocate<float>(batch.token_ids.size() * num_pairs);
  for (const SequenceSlice& slice : batch.slices) {
    for (size_t i = 0; i < slice.num_rows; ++i) {
      const float position = static_cast<float>(slice.first_position + i);
      const size_t offset = (slice.first_row + i) * num_pairs;
      for (size_t pair = 0; pair < num_pairs; ++pair) {
        const double angle = rope_.inv_freq[pair] * position;
        cosines[offset + pair] = static_cast<float>(std::cos(angle)) * rope_.magnitude;
        sines[offset + pair] = static_cast<float>(std::sin(angle)) * rope_.magnitude;
      }
    }
  }
  return {.cos = cosines, .sin = sines, .num_pairs = num_pairs};
}

void Model::Forward(const Batch& batch, const CacheLayout& cache, float* final_hidden,
                    kernels::KernelContext& ctx, ForwardObserver* observer) const {
  const size_t rows = batch.token_ids.size();
  const size_t hidden = config_.hidden_size;
  ArenaScope scope(ctx.arena);
  const auto watch = [&](size_t stage, const float* x, size_t num_rows) {
    if (observer != nullptr) observer->OnHidden(stage, x, num_rows);
  };

  float* x = ctx.arena.Allocate<float>(rows * hidden);  // the residual stream
  const RopeAngles angles = Angles(batch, ctx.arena);
  Embed(batch.token_ids, x, ctx);
  watch(0, x, rows);
  for (size_t l = 0; l < config_.num_hidden_layers; ++l) {
    LayerTape* tape = observer == nullptr ? nullptr : observer->TapeOf(l);
    Layer(l, batch, cache, angles, x, ctx, observer, tape);
    watch(l + 1, x, rows);
  }

  const size_t num_outputs = batch.output_rows.size();
  for (size_t i = 0; i < num_outputs; ++i) {
    const auto row = static_cast<size_t>(batch.output_rows[i]);
    FinalNorm(x + row * hidden, 1, final_hidden + i * hidden, ctx);
  }
  watch(config_.num_hidden_layers + 1, final_hidden, num_outputs);
}

void Model::Embed(std::span<const int32_t> token_ids, float* x, kernels::KernelContext& ctx) const {
  for (size_t r = 0; r < token_ids.size(); ++r) {
    ctx.table.decode_row(weights_.embed_tokens, static_cast<size_t>(token_ids[r]),
                         x + r * config_.hidden_size);
  }
}

void Model::FinalNorm(const float* x, size_t rows, float* y, kernels::KernelContext& ctx) const {
  const size_t hidden = config_.hidden_size;
  RmsNorm(x, hidden, rows, hidden, weights_.norm, static_cast<float>(config_.rms_norm_eps), y,
          hidden, ctx);
}

namespace {

// A copy of the residual stream that outlives the pass.
float* Keep(const float* x, size_t count, LayerTape& tape) {
  float* copy = tape.arena.Allocate<float>(count);
  std::memcpy(copy, x, count * sizeof(float));
  return copy;
}

}  // namespace

void Model::Layer(size_t l, const Batch& batch, const CacheLayout& cache, const RopeAngles& angles,
                  float* x, kernels::KernelContext& ctx, ForwardObserver* observer,
                  LayerTape* tape) const {
  const LayerWeights& weights = LayerOf(l);
  AttentionHalf(l, weights, batch, cache, angles, x, ctx, tape);
  FeedForwardHalf(l, weights, batch.token_ids.size(), x, ctx, observer, tape);
}

void Model::AttentionHalf(size_t l, const LayerWeights& weights, const Batch& batch,
                          const CacheLayout& cache, const RopeAngles& angles, float* x,
                          kernels::KernelContext& ctx, LayerTape* tape) const {
  const size_t rows = batch.token_ids.size(), hidden = config_.hidden_size;
  const float eps = static_cast<float>(config_.rms_norm_eps);
  ArenaScope scope(ctx.arena);
  float* normed = ctx.arena.Allocate<float>(rows * hidden);
  float* y = ctx.arena.Allocate<float>(rows * hidden);
  if (tape != nullptr) tape->input = Keep(x, rows * hidden, *tape);
  RmsNorm(x, hidden, rows, hidden, weights.input_layernorm, eps, normed, hidden, ctx);
  MlaLayer(config_, weights.attention, l, batch, cache, angles, normed, y, ctx, tape);
  Add(y, rows * hidden, x, ctx);
}

void Model::FeedForwardHalf(size_t l, const LayerWeights& weights, size_t rows, float* x,
                            kernels::KernelContext& ctx, ForwardObserver* observer,
                            LayerTape* tape) const {
  const size_t hidden = config_.hidden_size;
  const float eps = static_cast<float>(config_.rms_norm_eps);
  ArenaScope scope(ctx.arena);
  float* normed = ctx.arena.Allocate<float>(rows * hidden);
  float* y = ctx.arena.Allocate<float>(rows * hidden);
  if (tape != nullptr) tape->middle = Keep(x, rows * hidden, *tape);
  RmsNorm(x, hidden, rows, hidden, weights.post_attention_layernorm, eps, normed, hidden, ctx);
  const bool is_mtp = l >= config_.num_hidden_layers;
  if (is_mtp ? config_.n_routed_experts > 0 : config_.IsMoe(l)) {
    const bool is_stored = expert_store_ != nullptr && expert_store_->HasLayer(l);
    MoeLayer(config_, weights.moe, is_stored ? expert_store_.get() : nullptr, l, normed, rows, y,
             ctx, observer, tape);
  } else {
    MlpLayer(weights.mlp, normed, rows, hidden, y, ctx, tape);
  }
  Add(y, rows * hidden, x, ctx);
}

void Model::Mtp(size_t module, const Batch& batch, const CacheLayout& cache, const float* hidden,
                float* final_hidden, kernels::KernelContext& ctx, ForwardObserver* observer,
                MtpTape* tape) const {
  const MtpWeights& mtp = weights_.mtp[module];
  const size_t rows = batch.token_ids.size(), width = config_.hidden_size;
  const float eps = static_cast<float>(config_.rms_norm_eps);
  ArenaScope scope(ctx.arena);
  Arena& memory = tape == nullptr ? ctx.arena : tape->layer.arena;
  float* joined = memory.Allocate<float>(rows * 2 * width);
  float* x = memory.Allocate<float>(rows * width);
  EnterMtp(module, batch.token_ids, hidden, joined, x, ctx);
  const RopeAngles angles = Angles(batch, ctx.arena);
  Layer(config_.num_hidden_layers + module, batch, cache, angles, x, ctx, observer,
        tape == nullptr ? nullptr : &tape->layer);
  RmsNorm(x, width, rows, width, mtp.shared_head_norm, eps, final_hidden, width, ctx);
  if (tape != nullptr) {
    tape->joined = joined;
    tape->output = x;
  }
}

void Model::EnterMtp(size_t module, std::span<const int32_t> token_ids, const float* hidden,
                     float* joined, float* x, kernels::KernelContext& ctx) const {
  const MtpWeights& mtp = weights_.mtp[module];
  const size_t rows = token_ids.size(), width = config_.hidden_size;
  const float eps = static_cast<float>(config_.rms_norm_eps);
  ArenaScope scope(ctx.arena);
  for (size_t r = 0; r < rows; ++r) {
    float* embedding = joined + r * 2 * width;
    ctx.table.decode_row(mtp.embed_tokens, static_cast<size_t>(token_ids[r]), embedding);
    ctx.table.rms_norm(embedding, mtp.enorm, eps, width, embedding);
  }
  RmsNorm(hidden, width, rows, width, mtp.hnorm, eps, joined + width, 2 * width, ctx);
  kernels::Operand operand(joined, rows, 2 * width, ctx);
  MatMul(operand, mtp.eh_proj, x, ctx);
}

void Model::Logits(const float* final_hidden, size_t rows, float* logits,
                   kernels::KernelContext& ctx) const {
  ArenaScope scope(ctx.arena);
  kernels::Operand operand(final_hidden, rows, config_.hidden_size, ctx);
  MatMul(operand, weights_.lm_head, logits, ctx);
}

}  // namespace baleen
