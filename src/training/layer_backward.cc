#include "training/layer_backward.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>

#include "base/check.h"
#include "model/moe.h"
#include "training/router_gradient.h"

namespace baleen {

using kernels::ActivationType;
using kernels::BackwardWeight;
using kernels::GradOperand;
using kernels::KernelContext;

namespace {

// What the weights of both passes are called while a layer is on its way back.
struct LayerViews {
  const LayerWeights& weights;
  const LayerWeights& grads;
};

LayerViews ViewsOf(const LayerBackwardArgs& args) {
  const ModelWeights& forward = args.parameters.forward();
  const ModelWeights& grads = args.parameters.grads();
  const size_t depth = args.config.num_hidden_layers;
  if (args.layer < depth) return {forward.layers[args.layer], grads.layers[args.layer]};
  return {forward.mtp[args.layer - depth].layer, grads.mtp[args.layer - depth].layer};
}

// One dense product: the operands that several products of a layer share are given as objects.
void Dense(const Parameters& parameters, const Matrix& weight, const Matrix& grad_weight,
           GradOperand& x, GradOperand& grad_y, bool accumulate, float* grad_x,
           KernelContext& ctx) {
  const BackwardWeight back = parameters.Backward(weight);
  float* const grad_w[1] = {Writable(grad_weight)};
  kernels::GradWeight(grad_y, x, back.type, grad_w, ctx);
  if (grad_x != nullptr) {
    kernels::GradInput(grad_y, {&back, 1}, accumulate, grad_x, weight.cols, ctx);
  }
}

float* Zeros(size_t count, KernelContext& ctx) {
  float* data = ctx.arena.Allocate<float>(count);
  std::memset(data, 0, count * sizeof(float));
  return data;
}

// The latent rows of all tokens, side by side: c [rows, dc + dr].
float* GatherLatents(const LayerBackwardArgs& args, KernelContext& ctx) {
  const size_t width = args.config.latent_dim();
  BALEEN_CHECK(args.cache.dtype == DType::kF32);
  float* c = ctx.arena.Allocate<float>(args.batch.token_ids.size() * width);
  for (const SequenceSlice& slice : args.batch.slices) {
    const kernels::LatentRows rows = {.dtype = DType::kF32,
                                      .blocks = slice.blocks.data(),
                                      .block_tokens = args.cache.block_tokens,
                                      .offset_bytes = args.layer * args.cache.layer_bytes(),
                                      .row_bytes = args.cache.row_bytes};
    for (size_t i = 0; i < slice.num_rows; ++i) {
      std::memcpy(c + (slice.first_row + i) * width, rows.row(slice.first_position + i),
                  width * sizeof(float));
    }
  }
  return c;
}

// Turns the last dr of each of `heads` groups of `group` numbers back by the row's angle.
void RotateBack(const RopeAngles& angles, const float* negative_sin, size_t rows, size_t heads,
                size_t group, float* x, size_t row_stride, KernelContext& ctx) {
  const size_t pairs = angles.num_pairs;
  ForRows(rows, ctx, [&](size_t begin, size_t end) {
    for (size_t r = begin; r < end; ++r) {
      for (size_t h = 0; h < heads; ++h) {
        ctx.table.rotate_pairs(x + r * row_stride + (h + 1) * group - 2 * pairs,
                               angles.cos + r * pairs, negative_sin + r * pairs, pairs);
      }
    }
  });
}

// Attention proper: from grad_out [rows, heads, dv] to grad_q, grad_kv and the rope part of
// grad_kv_a [rows, dc + dr].
struct AttentionGradients {
  float* q;
  float* kv;
};
AttentionGradients AttendBackward(const LayerBackwardArgs& args, const float* kv,
                                  const float* latents, const float* grad_out, float* grad_kv_a,
                                  KernelContext& ctx) {
  const ModelConfig& c = args.config;
  const size_t rows = args.batch.token_ids.size(), heads = c.num_attention_heads;
  const size_t width = c.qk_head_dim(), kv_width = c.qk_nope_head_dim + c.v_head_dim;
  const size_t dc = c.kv_lora_rank, dr = c.qk_rope_head_dim, dv = c.v_head_dim;
  float* grad_q = ctx.arena.Allocate<float>(rows * heads * width);
  float* grad_kv = ctx.arena.Allocate<float>(rows * heads * kv_width);
  float* grad_k_rope = ctx.arena.Allocate<float>(rows * heads * dr);

  size_t longest = 0;
  for (const SequenceSlice& slice : args.batch.slices) {
    BALEEN_CHECK(slice.first_position == 0);
    longest = std::max(longest, slice.num_rows);
  }
  const size_t scratch_bytes = kernels::MlaBackwardScratchBytes(longest, width, dv);
  auto* scratch = ctx.arena.Allocate<std::byte>(scratch_bytes * ctx.pool.num_threads());
  ctx.pool.ParallelFor(args.batch.slices.size() * heads, [&](size_t task, size_t thread) {
    const SequenceSlice& slice = args.batch.slices[task / heads];
    const size_t first = slice.first_row * heads;
    ctx.table.mla_backward({.num_rows = slice.num_rows,
                            .num_heads = heads,
                            .head_begin = task % heads,
                            .head_end = task % heads + 1,
                            .qk_nope_head_dim = c.qk_nope_head_dim,
                            .qk_rope_head_dim = dr,
                            .v_head_dim = dv,
                            .scale = static_cast<float>(SoftmaxScale(c)),
                            .q = args.tape.q + first * width,
                            .kv = kv + first * kv_width,
                            .k_rope = latents + slice.first_row * c.latent_dim() + dc,
                            .k_rope_stride = c.latent_dim(),
                            .out = args.tape.attended + first * dv,
                            .states = args.tape.states + first * 2,
                            .grad_out = grad_out + first * dv,
                            .grad_q = grad_q + first * width,
                            .grad_kv = grad_kv + first * kv_width,
                            .grad_k_rope = grad_k_rope + first * dr,
                            .scratch = scratch + thread * scratch_bytes});
  });
  // All heads share the rope key.
  for (const SequenceSlice& slice : args.batch.slices) {
    const float* shares = grad_k_rope + slice.first_row * heads * dr;
    ForRows(slice.num_rows, ctx, [&](size_t begin, size_t end) {
      for (size_t i = begin; i < end; ++i) {
        float* sum = grad_kv_a + (slice.first_row + i) * c.latent_dim() + dc;
        std::fill_n(sum, dr, 0.0f);
        for (size_t h = 0; h < heads; ++h) {
          ctx.table.add_scaled(1.0f, shares + (h * slice.num_rows + i) * dr, dr, sum);
        }
      }
    });
  }
  return {grad_q, grad_kv};
}

// grad_y, grad_x [rows, hidden] of the attention and its normed input; grad_x is overwritten.
void MlaLayerBackward(const LayerBackwardArgs& args, const float* x, const float* grad_y,
                      float* grad_x, KernelContext& ctx) {
  ArenaScope scope(ctx.arena);
  const ModelConfig& c = args.config;
  const AttentionWeights& weights = ViewsOf(args).weights.attention;
  const AttentionWeights& grads = ViewsOf(args).grads.attention;
  const size_t rows = args.batch.token_ids.size(), heads = c.num_attention_heads;
  const size_t dc = c.kv_lora_rank, latent_dim = c.latent_dim();
  const size_t whole[2] = {0, rows};
  const auto operand = [&](const float* data, size_t cols) {
    return GradOperand(data, cols, cols, whole, ctx);
  };
  GradOperand input = operand(x, c.hidden_size);

  float* grad_out = ctx.arena.Allocate<float>(rows * heads * c.v_head_dim);
  {
    GradOperand out = operand(args.tape.attended, heads * c.v_head_dim);
    GradOperand grad = operand(grad_y, c.hidden_size);
    Dense(args.parameters, weights.o_proj, grads.o_proj, out, grad, false, grad_out, ctx);
  }

  // Keys and values once more, as the way there rebuilt them.
  float* latents = GatherLatents(args, ctx);
  float* kv = ctx.arena.Allocate<float>(rows * weights.kv_b_proj.rows);
  kernels::Operand latent_operand(latents, rows, dc, latent_dim, ctx);
  MatMul(latent_operand, weights.kv_b_proj, kv, ctx);

  float* grad_kv_a = ctx.arena.Allocate<float>(rows * latent_dim);
  const auto [grad_q, grad_kv] = AttendBackward(args, kv, latents, grad_out, grad_kv_a, ctx);

  float* negative_sin = ctx.arena.Allocate<float>(rows * args.angles.num_pairs);
  for (size_t i = 0; i < rows * args.angles.num_pairs; ++i) negative_sin[i] = -args.angles.sin[i];
  RotateBack(args.angles, negative_sin, rows, heads, c.qk_head_dim(), grad_q,
             heads * c.qk_head_dim(), ctx);
  RotateBack(args.angles, negative_sin, rows, 1, latent_dim, grad_kv_a, latent_dim, ctx);

  // The latent: through kv_b_proj and its norm into the first part of grad_kv_a.
  {
    float* grad_latent = ctx.arena.Allocate<float>(rows * dc);
    GradOperand latent(latents, dc, latent_dim, whole, ctx);
    GradOperand grad = operand(grad_kv, weights.kv_b_proj.rows);
    Dense(args.parameters, weights.kv_b_proj, grads.kv_b_proj, latent, grad, false, grad_latent,
          ctx);
    for (size_t r = 0; r < rows; ++r) std::fill_n(grad_kv_a + r * latent_dim, dc, 0.0f);
    RmsNormBackward({.x = args.tape.kv_a,
                     .x_stride = latent_dim,
                     .rows = rows,
                     .n = dc,
                     .weight = weights.kv_a_layernorm,
                     .eps = kLatentNormEps,
                     .grad_y = grad_latent,
                     .grad_y_stride = dc,
                     .grad_x = grad_kv_a,
                     .grad_x_stride = latent_dim,
                     .grad_weight = Writable(grads.kv_a_layernorm)},
                    ctx);
  }
  {
    GradOperand grad = operand(grad_kv_a, latent_dim);
    Dense(args.parameters, weights.kv_a_proj_with_mqa, grads.kv_a_proj_with_mqa, input, grad, false,
          grad_x, ctx);
  }

  GradOperand query = operand(grad_q, heads * c.qk_head_dim());
  if (c.q_lora_rank == 0) {
    Dense(args.parameters, weights.q_proj, grads.q_proj, input, query, true, grad_x, ctx);
    return;
  }
  const size_t rank = c.q_lora_rank;
  float* normed = ctx.arena.Allocate<float>(rows * rank);
  RmsNorm(args.tape.q_latent, rank, rows, rank, weights.q_a_layernorm, kLatentNormEps, normed, rank,
          ctx);
  float* grad_normed = ctx.arena.Allocate<float>(rows * rank);
  GradOperand latent = operand(normed, rank);
  Dense(args.parameters, weights.q_b_proj, grads.q_b_proj, latent, query, false, grad_normed, ctx);
  float* grad_latent = Zeros(rows * rank, ctx);
  RmsNormBackward({.x = args.tape.q_latent,
                   .x_stride = rank,
                   .rows = rows,
                   .n = rank,
                   .weight = weights.q_a_layernorm,
                   .eps = kLatentNormEps,
                   .grad_y = grad_normed,
                   .grad_y_stride = rank,
                   .grad_x = grad_latent,
                   .grad_x_stride = rank,
                   .grad_weight = Writable(grads.q_a_layernorm)},
                  ctx);
  GradOperand grad = operand(grad_latent, rank);
  Dense(args.parameters, weights.q_a_proj, grads.q_a_proj, input, grad, true, grad_x, ctx);
}

// Several SwiGLU networks, each over its own segment of rows. x, grad_y [rows, hidden] and the
// tape's rows are in the order of the segments. grad_x is written or added to.
struct SwiGluBackwardArgs {
  const Parameters& parameters;
  std::span<const MlpWeights> weights, grads;
  std::span<const size_t> offsets;
  SwiGluTape tape;
  const float* x = nullptr;
  const float* grad_y = nullptr;
  const float* row_weights = nullptr;  // [rows]: what an output was multiplied by; null: 1
  float* grad_row_weights = nullptr;   // [rows], with row_weights
  bool accumulate = false;
  float* grad_x = nullptr;
};

void SwiGluBackward(const SwiGluBackwardArgs& args, KernelContext& ctx) {
  ArenaScope scope(ctx.arena);
  const size_t rows = args.offsets.back(), segments = args.weights.size();
  const size_t hidden = args.weights[0].down_proj.rows, width = args.weights[0].gate_proj.rows;
  std::vector<BackwardWeight> gate, up, down;
  std::vector<float*> grad_gate_w, grad_up_w, grad_down_w;
  for (size_t s = 0; s < segments; ++s) {
    gate.push_back(args.parameters.Backward(args.weights[s].gate_proj));
    up.push_back(args.parameters.Backward(args.weights[s].up_proj));
    down.push_back(args.parameters.Backward(args.weights[s].down_proj));
    grad_gate_w.push_back(Writable(args.grads[s].gate_proj));
    grad_up_w.push_back(Writable(args.grads[s].up_proj));
    grad_down_w.push_back(Writable(args.grads[s].down_proj));
  }
  const ActivationType type = down[0].type;

  GradOperand grad_y(args.grad_y, hidden, hidden, args.offsets, ctx);
  float* grad_hidden = ctx.arena.Allocate<float>(rows * width);
  kernels::GradInput(grad_y, down, false, grad_hidden, width, ctx);

  float* activated = ctx.arena.Allocate<float>(rows * width);  // silu(gate) * up, then times weight
  float* grad_gate = ctx.arena.Allocate<float>(rows * width);
  float* grad_up = ctx.arena.Allocate<float>(rows * width);
  ForRows(rows, ctx, [&](size_t begin, size_t end) {
    for (size_t r = begin; r < end; ++r) {
      const float* g = args.tape.gate + r * width;
      const float* u = args.tape.up + r * width;
      float* h = activated + r * width;
      float* grad_h = grad_hidden + r * width;
      ctx.table.swiglu(g, u, width, h);
      if (args.row_weights != nullptr) {
        args.grad_row_weights[r] = std::inner_product(h, h + width, grad_h, 0.0f);
        for (size_t i = 0; i < width; ++i) {
          h[i] *= args.row_weights[r];
          grad_h[i] *= args.row_weights[r];
        }
      }
      ctx.table.swiglu_backward(g, u, grad_h, width, grad_gate + r * width, grad_up + r * width);
    }
  });
  GradOperand x(args.x, hidden, hidden, args.offsets, ctx);
  GradOperand h(activated, width, width, args.offsets, ctx);
  GradOperand g(grad_gate, width, width, args.offsets, ctx);
  GradOperand u(grad_up, width, width, args.offsets, ctx);
  kernels::GradWeight(grad_y, h, type, grad_down_w, ctx);
  kernels::GradWeight(g, x, type, grad_gate_w, ctx);
  kernels::GradWeight(u, x, type, grad_up_w, ctx);
  kernels::GradInput(g, gate, args.accumulate, args.grad_x, hidden, ctx);
  kernels::GradInput(u, up, true, args.grad_x, hidden, ctx);
}

// The router: from grad_weights [rows, k] to its weights and grad_x. Returns the balance loss.
double RouterBackward(const LayerBackwardArgs& args, const float* x, const float* grad_weights,
                      float* grad_x, KernelContext& ctx) {
  ArenaScope scope(ctx.arena);
  const ModelConfig& c = args.config;
  const LayerTape& tape = args.tape;
  const size_t rows = args.batch.token_ids.size(), k = c.num_experts_per_tok;
  const size_t num_experts = c.n_routed_experts;
  float* grad_logits = ctx.arena.Allocate<float>(rows * num_experts);
  double loss = 0;
  for (const SequenceSlice& slice : args.batch.slices) {
    const size_t first = slice.first_row;
    float* grad_shares = nullptr;
    if (args.balance.has_loss()) {
      grad_shares = ctx.arena.Allocate<float>(num_experts);
      loss += SequenceBalanceLoss(c, args.balance, tape.scores + first * num_experts,
                                  tape.experts + first * k, slice.num_rows, grad_shares);
      for (size_t e = 0; e < num_experts; ++e) {
        grad_shares[e] *= static_cast<float>(args.balance_scale);
      }
    }
    ForRows(slice.num_rows, ctx, [&](size_t begin, size_t end) {
      for (size_t r = first + begin; r < first + end; ++r) {
        RouterGradient<float>(c,
                              {.scores = tape.scores + r * num_experts,
                               .experts = tape.experts + r * k,
                               .weights = tape.expert_weights + r * k,
                               .grad_weights = grad_weights + r * k,
                               .grad_shares = grad_shares},
                              grad_logits + r * num_experts);
      }
    });
  }
  const size_t whole[2] = {0, rows};
  GradOperand input(x, c.hidden_size, c.hidden_size, whole, ctx);
  GradOperand grad(grad_logits, num_experts, num_experts, whole, ctx);
  const LayerViews views = ViewsOf(args);
  Dense(args.parameters, views.weights.moe.router, views.grads.moe.router, input, grad, true,
        grad_x, ctx);
  return loss;
}

double MoeLayerBackward(const LayerBackwardArgs& args, const float* x, const float* grad_y,
                        float* grad_x, KernelContext& ctx) {
  ArenaScope scope(ctx.arena);
  const LayerTape& tape = args.tape;
  const LayerViews views = ViewsOf(args);
  const size_t hidden = args.config.hidden_size, k = args.config.num_experts_per_tok;
  const size_t rows = args.batch.token_ids.size(), slots = rows * k;

  // Rows in the order of their experts.
  float* slot_x = ctx.arena.Allocate<float>(slots * hidden);
  float* slot_grad_y = ctx.arena.Allocate<float>(slots * hidden);
  float* slot_grad_x = ctx.arena.Allocate<float>(slots * hidden);
  float* slot_grad_weights = ctx.arena.Allocate<float>(slots);
  ForRows(slots, ctx, [&](size_t begin, size_t end) {
    for (size_t s = begin; s < end; ++s) {
      const size_t offset = static_cast<size_t>(tape.slot_rows[s]) * hidden;
      std::memcpy(slot_x + s * hidden, x + offset, hidden * sizeof(float));
      std::memcpy(slot_grad_y + s * hidden, grad_y + offset, hidden * sizeof(float));
    }
  });
  SwiGluBackward({.parameters = args.parameters,
                  .weights = views.weights.moe.experts,
                  .grads = views.grads.moe.experts,
                  .offsets = tape.offsets,
                  .tape = tape.routed,
                  .x = slot_x,
                  .grad_y = slot_grad_y,
                  .row_weights = tape.slot_weights,
                  .grad_row_weights = slot_grad_weights,
                  .grad_x = slot_grad_x},
                 ctx);

  // Back to rows: each adds up what its slots say, in the order in which it chose its experts.
  auto* slot_of = ctx.arena.Allocate<size_t>(slots);
  std::vector<size_t> next(tape.offsets.begin(), tape.offsets.end() - 1);
  for (size_t i = 0; i < slots; ++i) slot_of[i] = next[static_cast<size_t>(tape.experts[i])]++;
  float* grad_weights = ctx.arena.Allocate<float>(slots);
  ForRows(rows, ctx, [&](size_t begin, size_t end) {
    for (size_t r = begin; r < end; ++r) {
      std::fill_n(grad_x + r * hidden, hidden, 0.0f);
      for (size_t i = r * k; i < (r + 1) * k; ++i) {
        grad_weights[i] = slot_grad_weights[slot_of[i]];
        ctx.table.add_scaled(1.0f, slot_grad_x + slot_of[i] * hidden, hidden, grad_x + r * hidden);
      }
    }
  });
  if (!views.weights.moe.shared.gate_proj.empty()) {
    const size_t whole[2] = {0, rows};
    SwiGluBackward({.parameters = args.parameters,
                    .weights = {&views.weights.moe.shared, 1},
                    .grads = {&views.grads.moe.shared, 1},
                    .offsets = whole,
                    .tape = tape.mlp,
                    .x = x,
                    .grad_y = grad_y,
                    .accumulate = true,
                    .grad_x = grad_x},
                   ctx);
  }
  return RouterBackward(args, x, grad_weights, grad_x, ctx);
}

}  // namespace

void ProductBackward(const Parameters& parameters, const Matrix& weight, const Matrix& grad_weight,
                     const float* x, const float* grad_y, size_t rows, bool accumulate,
                     float* grad_x, KernelContext& ctx) {
  ArenaScope scope(ctx.arena);
  const size_t whole[2] = {0, rows};
  GradOperand input(x, weight.cols, weight.cols, whole, ctx);
  GradOperand grad(grad_y, weight.rows, weight.rows, whole, ctx);
  Dense(parameters, weight, grad_weight, input, grad, accumulate, grad_x, ctx);
}

double LayerBackward(const LayerBackwardArgs& args, float* grad, KernelContext& ctx) {
  ArenaScope scope(ctx.arena);
  const LayerViews views = ViewsOf(args);
  const size_t rows = args.batch.token_ids.size(), hidden = args.config.hidden_size;
  const float eps = static_cast<float>(args.config.rms_norm_eps);
  float* normed = ctx.arena.Allocate<float>(rows * hidden);
  float* grad_normed = ctx.arena.Allocate<float>(rows * hidden);
  // The residual stream takes the gradient past the sublayer; the norm's is added to it.
  const auto through_norm = [&](const float* x, Vector weight, Vector grad_weight) {
    RmsNormBackward({.x = x,
                     .x_stride = hidden,
                     .rows = rows,
                     .n = hidden,
                     .weight = weight,
                     .eps = eps,
                     .grad_y = grad_normed,
                     .grad_y_stride = hidden,
                     .grad_x = grad,
                     .grad_x_stride = hidden,
                     .grad_weight = Writable(grad_weight)},
                    ctx);
  };

  RmsNorm(args.tape.middle, hidden, rows, hidden, views.weights.post_attention_layernorm, eps,
          normed, hidden, ctx);
  double balance_loss = 0;
  if (!views.weights.moe.experts.empty()) {
    balance_loss = MoeLayerBackward(args, normed, grad, grad_normed, ctx);
  } else {
    const size_t whole[2] = {0, rows};
    SwiGluBackward({.parameters = args.parameters,
                    .weights = {&views.weights.mlp, 1},
                    .grads = {&views.grads.mlp, 1},
                    .offsets = whole,
                    .tape = args.tape.mlp,
                    .x = normed,
                    .grad_y = grad,
                    .grad_x = grad_normed},
                   ctx);
  }
  through_norm(args.tape.middle, views.weights.post_attention_layernorm,
               views.grads.post_attention_layernorm);

  RmsNorm(args.tape.input, hidden, rows, hidden, views.weights.input_layernorm, eps, normed, hidden,
          ctx);
  MlaLayerBackward(args, normed, grad, grad_normed, ctx);
  through_norm(args.tape.input, views.weights.input_layernorm, views.grads.input_layernorm);
  return balance_loss;
}

}  // namespace baleen
