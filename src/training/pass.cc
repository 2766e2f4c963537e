#include "training/pass.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <optional>

#include "base/check.h"
#include "kernels/backward.h"
#include "training/layer_backward.h"

namespace baleen {

using kernels::KernelContext;

namespace {

// Rows whose logits are held at once: enough to keep products efficient, few enough for a large
// vocabulary (512 rows of 16,384 logits are 32 MiB).
constexpr size_t kLossRows = 512;

}  // namespace

// Counts the experts' tokens and hands out tapes, or keeps the layers' inputs.
class TrainingPass::Recorder final : public ForwardObserver {
 public:
  Recorder(const ModelConfig& config, std::vector<LayerTape>* tapes, ExpertLoad* load)
      : config_(config), tapes_(tapes), load_(load) {}

  void KeepInputs(Arena& arena, size_t floats) {
    for (size_t l = 0; l < config_.num_hidden_layers; ++l) {
      inputs_.push_back(arena.Allocate<float>(floats));
    }
  }
  const float* input(size_t layer) const { return inputs_[layer]; }
  // Where the last layer's output goes.
  void KeepLast(float* last) { last_ = last; }

  void OnHidden(size_t stage, const float* hidden, size_t rows) override {
    if (stage < inputs_.size()) {
      std::memcpy(inputs_[stage], hidden, rows * config_.hidden_size * sizeof(float));
    }
    if (stage == config_.num_hidden_layers && last_ != nullptr) {
      std::memcpy(last_, hidden, rows * config_.hidden_size * sizeof(float));
    }
  }
  void OnRouting(size_t layer, const int32_t* experts, const float* /*weights*/, size_t rows,
                 size_t experts_per_row) override {
    if (load_ == nullptr) return;
    size_t index = 0;
    for (size_t l = 0; l < std::min(layer, config_.num_hidden_layers); ++l) {
      index += config_.IsMoe(l) ? 1 : 0;
    }
    if (layer > config_.num_hidden_layers) index += layer - config_.num_hidden_layers;
    for (size_t i = 0; i < rows * experts_per_row; ++i) {
      ++(*load_)[index][static_cast<size_t>(experts[i])];
    }
  }
  LayerTape* TapeOf(size_t layer) override {
    return tapes_ == nullptr || layer >= tapes_->size() ? nullptr : &(*tapes_)[layer];
  }

 private:
  const ModelConfig& config_;
  std::vector<LayerTape>* tapes_;
  ExpertLoad* load_;
  std::vector<float*> inputs_;
  float* last_ = nullptr;
};

TrainingPass::TrainingPass(const ModelConfig& config, const Parameters& parameters,
                           PassOptions options)
    : config_(config),
      parameters_(parameters),
      options_(std::move(options)),
      model_(config, parameters.forward()),
      cache_(MakeCacheLayout(config, DType::kF32, options_.sequence_length)),
      tapes_(options_.recompute ? 1 : config.num_hidden_layers) {
  cache_.num_layers += config.num_nextn_predict_layers;
  cache_memory_.resize(options_.num_sequences * cache_.block_bytes());
}

TrainingPass::~TrainingPass() = default;

ExpertLoad TrainingPass::EmptyLoad() const {
  return ExpertLoad(parameters_.num_moe_layers(),
                    std::vector<uint64_t>(config_.n_routed_experts, 0));
}

namespace {

// Losses of rows of logits, which become gradients; an ignored row's become zero.
double CrossEntropyRows(float* logits, size_t vocab, std::span<const int32_t> targets, float scale,
                        KernelContext& ctx) {
  std::vector<float> losses(targets.size());
  ForRows(targets.size(), ctx, [&](size_t begin, size_t end) {
    for (size_t r = begin; r < end; ++r) {
      float* row = logits + r * vocab;
      if (targets[r] < 0) {
        std::fill_n(row, vocab, 0.0f);
      } else {
        losses[r] = ctx.table.cross_entropy(row, vocab, static_cast<size_t>(targets[r]), scale);
      }
    }
  });
  return std::accumulate(losses.begin(), losses.end(), 0.0);
}

}  // namespace

// The summed loss of rows `hidden` that were normed for `head`; with grad_head also the way back to
// grad_hidden, which is overwritten.
double TrainingPass::Loss(const float* hidden, std::span<const int32_t> targets, const Matrix& head,
                          const Matrix* grad_head, float scale, float* grad_hidden,
                          KernelContext& ctx) const {
  const size_t width = config_.hidden_size, vocab = config_.vocab_size;
  double loss = 0;
  for (size_t first = 0; first < targets.size(); first += kLossRows) {
    ArenaScope scope(ctx.arena);
    const size_t rows = std::min(kLossRows, targets.size() - first);
    float* logits = ctx.arena.Allocate<float>(rows * vocab);
    kernels::Operand operand(hidden + first * width, rows, width, ctx);
    MatMul(operand, head, logits, ctx);
    loss += CrossEntropyRows(logits, vocab, targets.subspan(first, rows), scale, ctx);
    if (grad_head == nullptr) continue;
    ProductBackward(parameters_, head, *grad_head, hidden + first * width, logits, rows, false,
                    grad_hidden + first * width, ctx);
  }
  return loss;
}

namespace {

// Adds the gradient of each row's embedding to its token.
void EmbeddingBackward(std::span<const int32_t> tokens, size_t width, const float* grad,
                       const Matrix& grad_embedding, KernelContext& ctx) {
  for (size_t r = 0; r < tokens.size(); ++r) {
    ctx.table.add_scaled(1.0f, grad + r * width, width,
                         Writable(grad_embedding) + static_cast<size_t>(tokens[r]) * width);
  }
}

}  // namespace

PassResult TrainingPass::Run(std::span<const int32_t> tokens, size_t total_targets,
                             size_t total_sequences, KernelContext& ctx, ExpertLoad& load) {
  ArenaScope scope(ctx.arena);
  const Layout layout = MakeLayout(tokens);
  const size_t rows = layout.inputs.size(), width = config_.hidden_size;
  const double balance_scale = 1.0 / static_cast<double>(total_sequences);
  const float scale = 1.0f / static_cast<float>(total_targets);
  PassResult result;
  result.num_targets = layout.num_targets;

  std::vector<std::optional<ArenaScope>> tape_scopes(tapes_.size() + 1);
  for (size_t i = 0; i < tapes_.size(); ++i) tape_scopes[i].emplace(tapes_[i].arena);
  tape_scopes.back().emplace(mtp_tape_.layer.arena);

  Recorder recorder(config_, options_.recompute ? nullptr : &tapes_, &load);
  if (options_.recompute) recorder.KeepInputs(ctx.arena, rows * width);
  float* hidden = ctx.arena.Allocate<float>(rows * width);
  float* last = ctx.arena.Allocate<float>(rows * width);  // before the final norm
  recorder.KeepLast(last);
  model_.Forward(layout.batch, cache_, hidden, ctx, &recorder);

  const ModelWeights& weights = parameters_.forward();
  const ModelWeights& grads = parameters_.grads();
  float* grad_hidden = ctx.arena.Allocate<float>(rows * width);
  result.loss =
      Loss(hidden, layout.targets, weights.lm_head, &grads.lm_head, scale, grad_hidden, ctx);
  if (!weights.mtp.empty() && options_.mtp_weight > 0) {
    result.mtp_loss = RunMtp(layout, hidden, static_cast<float>(options_.mtp_weight) * scale,
                             balance_scale, grad_hidden, recorder, result.balance_loss, ctx);
  }

  float* grad = ctx.arena.Allocate<float>(rows * width);
  std::memset(grad, 0, rows * width * sizeof(float));
  NormBackward(last, weights.norm, grads.norm, grad_hidden, rows, grad, ctx);
  const RopeAngles angles = model_.Angles(layout.batch, ctx.arena);
  for (size_t l = config_.num_hidden_layers; l-- > 0;) {
    LayerTape& tape = options_.recompute ? tapes_[0] : tapes_[l];
    ArenaScope tape_scope(tape.arena), layer_scope(ctx.arena);
    if (options_.recompute) {
      float* x = ctx.arena.Allocate<float>(rows * width);
      std::memcpy(x, recorder.input(l), rows * width * sizeof(float));
      model_.Layer(l, layout.batch, cache_, angles, x, ctx, nullptr, &tape);
    }
    result.balance_loss += LayerBackward({.config = config_,
                                          .parameters = parameters_,
                                          .balance = options_.balance,
                                          .layer = l,
                                          .batch = layout.batch,
                                          .cache = cache_,
                                          .angles = angles,
                                          .tape = tape,
                                          .balance_scale = balance_scale},
                                         grad, ctx);
  }
  EmbeddingBackward(layout.inputs, width, grad, grads.embed_tokens, ctx);
  return result;
}

PassResult TrainingPass::Evaluate(std::span<const int32_t> tokens, KernelContext& ctx,
                                  ExpertLoad& load) {
  ArenaScope scope(ctx.arena);
  const Layout layout = MakeLayout(tokens);
  float* hidden = ctx.arena.Allocate<float>(layout.inputs.size() * config_.hidden_size);
  Recorder recorder(config_, nullptr, &load);
  model_.Forward(layout.batch, cache_, hidden, ctx, &recorder);
  PassResult result;
  result.num_targets = layout.num_targets;
  result.loss =
      Loss(hidden, layout.targets, parameters_.forward().lm_head, nullptr, 1.0f, nullptr, ctx);
  return result;
}

// The module's loss and its way back: adds to grad_hidden and to all that is shared with the model.
double TrainingPass::RunMtp(const Layout& layout, const float* hidden, float scale,
                            double balance_scale, float* grad_hidden, Recorder& recorder,
                            double& balance_loss, KernelContext& ctx) {
  ArenaScope scope(ctx.arena);
  const size_t rows = layout.inputs.size(), width = config_.hidden_size;
  const MtpWeights& weights = parameters_.forward().mtp[0];
  const MtpWeights& grads = parameters_.grads().mtp[0];
  const float eps = static_cast<float>(config_.rms_norm_eps);

  // The last row of a sequence has a next token, but none after that.
  std::vector<int32_t> next(rows), targets(rows, -1);
  for (size_t r = 0; r < rows; ++r) {
    next[r] = std::max(layout.targets[r], 0);
    if ((r + 1) % options_.sequence_length != 0) targets[r] = layout.targets[r + 1];
  }
  Batch batch = layout.batch;
  batch.token_ids = next;
  float* final_hidden = ctx.arena.Allocate<float>(rows * width);
  model_.Mtp(0, batch, cache_, hidden, final_hidden, ctx, &recorder, &mtp_tape_);

  float* grad_final = ctx.arena.Allocate<float>(rows * width);
  const double loss =
      Loss(final_hidden, targets, weights.shared_head, &grads.shared_head, scale, grad_final, ctx);
  float* grad = ctx.arena.Allocate<float>(rows * width);
  std::memset(grad, 0, rows * width * sizeof(float));
  NormBackward(mtp_tape_.output, weights.shared_head_norm, grads.shared_head_norm, grad_final, rows,
               grad, ctx);
  const RopeAngles angles = model_.Angles(batch, ctx.arena);
  balance_loss += LayerBackward({.config = config_,
                                 .parameters = parameters_,
                                 .balance = options_.balance,
                                 .layer = config_.num_hidden_layers,
                                 .batch = batch,
                                 .cache = cache_,
                                 .angles = angles,
                                 .tape = mtp_tape_.layer,
                                 .balance_scale = balance_scale},
                                grad, ctx);

  float* grad_joined = ctx.arena.Allocate<float>(rows * 2 * width);
  ProductBackward(parameters_, weights.eh_proj, grads.eh_proj, mtp_tape_.joined, grad, rows, false,
                  grad_joined, ctx);
  const auto half_backward = [&](const float* x, Vector weight, Vector grad_weight, size_t half,
                                 float* grad_x) {
    RmsNormBackward({.x = x,
                     .x_stride = width,
                     .rows = rows,
                     .n = width,
                     .weight = weight,
                     .eps = eps,
                     .grad_y = grad_joined + half * width,
                     .grad_y_stride = 2 * width,
                     .grad_x = grad_x,
                     .grad_x_stride = width,
                     .grad_weight = Writable(grad_weight)},
                    ctx);
  };
  float* embedded = ctx.arena.Allocate<float>(rows * width);
  float* grad_embedded = ctx.arena.Allocate<float>(rows * width);
  for (size_t r = 0; r < rows; ++r) {
    ctx.table.decode_row(weights.embed_tokens, static_cast<size_t>(next[r]), embedded + r * width);
  }
  std::memset(grad_embedded, 0, rows * width * sizeof(float));
  half_backward(embedded, weights.enorm, grads.enorm, 0, grad_embedded);
  half_backward(hidden, weights.hnorm, grads.hnorm, 1, grad_hidden);
  EmbeddingBackward(next, width, grad_embedded, grads.embed_tokens, ctx);
  return loss;
}

void TrainingPass::NormBackward(const float* x, Vector weight, Vector grad_weight,
                                const float* grad_y, size_t rows, float* grad_x,
                                KernelContext& ctx) const {
  const size_t width = config_.hidden_size;
  RmsNormBackward({.x = x,
                   .x_stride = width,
                   .rows = rows,
                   .n = width,
                   .weight = weight,
                   .eps = static_cast<float>(config_.rms_norm_eps),
                   .grad_y = grad_y,
                   .grad_y_stride = width,
                   .grad_x = grad_x,
                   .grad_x_stride = width,
                   .grad_weight = Writable(grad_weight)},
                  ctx);
}

TrainingPass::Layout TrainingPass::MakeLayout(std::span<const int32_t> tokens) {
  const size_t length = options_.sequence_length;
  const size_t count = tokens.size() / (length + 1);
  BALEEN_CHECK(count * (length + 1) == tokens.size() && count <= options_.num_sequences);
  Layout layout;
  layout.blocks.reserve(count);
  for (size_t s = 0; s < count; ++s) {
    const auto sequence = tokens.subspan(s * (length + 1), length + 1);
    for (size_t i = 0; i < length; ++i) {
      layout.inputs.push_back(std::max(sequence[i], 0));
      layout.targets.push_back(sequence[i + 1]);
      layout.num_targets += sequence[i + 1] >= 0 ? 1 : 0;
    }
    layout.blocks.push_back(cache_memory_.data() + s * cache_.block_bytes());
    layout.slices.push_back({.first_row = s * length,
                             .num_rows = length,
                             .first_position = 0,
                             .form = MlaForm::kDirect,
                             .blocks = {layout.blocks.data() + s, 1}});
  }
  layout.all_rows.resize(layout.inputs.size());
  std::iota(layout.all_rows.begin(), layout.all_rows.end(), 0);
  layout.batch = {
      .token_ids = layout.inputs, .slices = layout.slices, .output_rows = layout.all_rows};
  return layout;
}

namespace {

// Floats for each row that are alive at once; names of widths as in the configuration.
struct RowFloats {
  uint64_t dense_tape, moe_tape;  // of one layer
  uint64_t forward;               // of one layer, beside its tape
  uint64_t backward;              // likewise
};

RowFloats FloatsOfRow(const ModelConfig& c, Products products, size_t num_threads) {
  const uint64_t h = c.hidden_size, heads = c.num_attention_heads, k = c.num_experts_per_tok;
  const uint64_t experts = c.n_routed_experts, width = c.moe_intermediate_size;
  const uint64_t shared = c.n_shared_experts * width, rank = c.q_lora_rank;
  const uint64_t q = heads * c.qk_head_dim(), v = heads * c.v_head_dim, latent = c.latent_dim();
  const uint64_t kv = heads * (c.qk_nope_head_dim + c.v_head_dim);
  const bool moe = experts > 0, dense = !moe || c.first_k_dense_replace > 0;
  // With BF16 products the larger side of each product has two rounded copies.
  const uint64_t copies = products == Products::kBF16 ? 1 : 0;
  const uint64_t mlp = std::max(dense ? uint64_t{c.intermediate_size} : 0, moe ? shared : 0);
  // GroupedSwiGlu keeps two tiles of 128 columns for each thread.
  const uint64_t tiles = 2 * 128 * num_threads;

  RowFloats floats;
  const uint64_t routing = experts + 4 * k, slots = 2 * k * width;
  const uint64_t attention = 2 * h + q + rank + latent + v + 2 * heads;
  floats.dense_tape = attention + 2 * uint64_t{c.intermediate_size};
  floats.moe_tape = attention + routing + slots + 2 * shared;
  const uint64_t hidden = std::max(moe ? k * width + shared : 0, mlp);
  floats.forward = 3 * h + std::max(latent + rank, hidden + tiles);
  const uint64_t mla = v + kv + 2 * latent + q + kv + heads * c.qk_rope_head_dim + c.kv_lora_rank +
                       3 * rank + c.qk_rope_head_dim / 2 + copies * 2 * (q + kv);
  const uint64_t slot_rows = moe ? k * (3 * h + 4) + copies * 2 * k * h : 0;
  const uint64_t swiglu =
      std::max((4 + 2 * copies) * (moe ? k * width : 0), (4 + 2 * copies) * mlp + experts + 3 * k);
  floats.backward = 2 * h + std::max(mla, slot_rows + swiglu);
  return floats;
}

}  // namespace

uint64_t TrainingPass::Bytes(const ModelConfig& c, const PassOptions& options, Products products,
                             size_t num_threads) {
  const uint64_t rows = uint64_t{options.num_sequences} * options.sequence_length;
  const uint64_t layers = c.num_hidden_layers, modules = c.num_nextn_predict_layers;
  const uint64_t h = c.hidden_size;
  const RowFloats floats = FloatsOfRow(c, products, num_threads);
  // The hidden states and their gradients, and the angles of the rope.
  uint64_t kept = 4 * h + c.qk_rope_head_dim + (layers + modules) * c.latent_dim();
  for (size_t l = 0; l < layers && !options.recompute; ++l) {
    kept += c.IsMoe(l) ? floats.moe_tape : floats.dense_tape;
  }
  const bool dense_first = layers > 0 && !c.IsMoe(0);
  if (options.recompute) {
    kept += layers * h + std::max(dense_first ? floats.dense_tape : 0, floats.moe_tape);
  }
  kept += modules * ((c.n_routed_experts > 0 ? floats.moe_tape : floats.dense_tape) + 3 * h);
  const uint64_t worst =
      std::max(floats.forward, floats.backward) + (options.recompute ? h : 0) + modules * 4 * h;
  const uint64_t logits = std::min<uint64_t>(rows, kLossRows) * c.vocab_size;
  return 4 * (rows * kept + std::max(rows * worst, logits));
}

}  // namespace baleen
