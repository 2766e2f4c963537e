#include "model/mla.h"

#include <cstring>

#include "base/check.h"

namespace baleen {

using kernels::KernelContext;
using kernels::Operand;

namespace {

struct Shape {
  size_t heads, dn, dr, dv, dc;  // the paper's symbols
  float scale;
};

// Where what a tape keeps is allocated.
Arena& MemoryFor(LayerTape* tape, KernelContext& ctx) {
  return tape == nullptr ? ctx.arena : tape->arena;
}

// q [rows, heads, dn + dr] from x, through the query latent where there is one.
float* ProjectQueries(const ModelConfig& config, const AttentionWeights& weights, Operand& x,
                      KernelContext& ctx, LayerTape* tape) {
  const size_t width = config.num_attention_heads * config.qk_head_dim();
  float* q = MemoryFor(tape, ctx).Allocate<float>(x.rows() * width);
  if (config.q_lora_rank == 0) {
    MatMul(x, weights.q_proj, q, ctx);
    return q;
  }
  const size_t rank = config.q_lora_rank;
  float* latent = MemoryFor(tape, ctx).Allocate<float>(x.rows() * rank);
  float* normed = ctx.arena.Allocate<float>(x.rows() * rank);
  MatMul(x, weights.q_a_proj, latent, ctx);
  RmsNorm(latent, rank, x.rows(), rank, weights.q_a_layernorm, kLatentNormEps, normed, rank, ctx);
  if (tape != nullptr) tape->q_latent = latent;
  Operand operand(normed, x.rows(), rank, ctx);
  MatMul(operand, weights.q_b_proj, q, ctx);
  return q;
}

kernels::LatentRows Rows(const CacheLayout& cache, size_t layer, const SequenceSlice& slice) {
  return {.dtype = cache.dtype,
          .blocks = slice.blocks.data(),
          .block_tokens = cache.block_tokens,
          .offset_bytes = layer * cache.layer_bytes(),
          .row_bytes = cache.row_bytes};
}

// Norms the latents, rotates the keys, and stores both in the cache. kv [rows, dc + dr].
void StoreLatents(const Shape& s, const AttentionWeights& weights, size_t layer, const Batch& batch,
                  const CacheLayout& cache, const RopeAngles& angles, const float* kv,
                  KernelContext& ctx) {
  ArenaScope scope(ctx.arena);
  float* stored = ctx.arena.Allocate<float>(batch.token_ids.size() * (s.dc + s.dr));
  const kernels::LatentLayout layout = {cache.dtype, s.dc, s.dr};
  const auto type =
      cache.dtype == DType::kF32 ? kernels::ActivationType::kF32 : kernels::ActivationType::kBF16;
  for (const SequenceSlice& slice : batch.slices) {
    const kernels::LatentRows rows = Rows(cache, layer, slice);
    ForRows(slice.num_rows, ctx, [&](size_t begin, size_t end) {
      for (size_t i = begin; i < end; ++i) {
        const size_t r = slice.first_row + i;
        float* row = stored + r * (s.dc + s.dr);
        std::memcpy(row, kv + r * (s.dc + s.dr), (s.dc + s.dr) * sizeof(float));
        ctx.table.rms_norm(row, weights.kv_a_layernorm, kLatentNormEps, s.dc, row);
        ctx.table.rotate_pairs(row + s.dc, angles.cos + r * angles.num_pairs,
                               angles.sin + r * angles.num_pairs, angles.num_pairs);
        auto* target = const_cast<std::byte*>(rows.row(slice.first_position + i));
        if (cache.dtype == DType::kI8) {
          PackLatentI8(layout, row, target);
        } else {
          ctx.table.pack(row, s.dc + s.dr, type, target);
        }
      }
    });
  }
}

void RotateQueries(const Shape& s, size_t rows, const RopeAngles& angles, float* q,
                   KernelContext& ctx) {
  ForRows(rows, ctx, [&](size_t begin, size_t end) {
    for (size_t i = begin * s.heads; i < end * s.heads; ++i) {
      const size_t offset = i / s.heads * angles.num_pairs;
      ctx.table.rotate_pairs(q + i * (s.dn + s.dr) + s.dn, angles.cos + offset, angles.sin + offset,
                             angles.num_pairs);
    }
  });
}

void AttendDirect(const Shape& s, const AttentionWeights& weights, const kernels::LatentRows& rows,
                  const SequenceSlice& slice, const float* q, float* out, float* states,
                  KernelContext& ctx) {
  kernels::MlaDirect({.cache = rows,
                      .kv_b = weights.kv_b_proj,
                      .qk_nope_head_dim = s.dn,
                      .qk_rope_head_dim = s.dr,
                      .v_head_dim = s.dv,
                      .scale = s.scale,
                      .num_heads = s.heads,
                      .num_rows = slice.num_rows,
                      .first_position = slice.first_position,
                      .q = q + slice.first_row * s.heads * (s.dn + s.dr),
                      .out = out + slice.first_row * s.heads * s.dv,
                      .states = states ? states + slice.first_row * s.heads * 2 : nullptr},
                     {weights.k_b_proj, weights.v_b_proj}, ctx);
}

// q_latent [rows, heads, dc] = W_UK^T q for each head; q [rows, heads, dn + dr].
void AbsorbQueries(const Shape& s, const AttentionWeights& weights, const float* q, size_t rows,
                   float* q_latent, KernelContext& ctx) {
  kernels::HeadMatMulArgs args = {.x = q,
                                  .x_row_stride = s.heads * (s.dn + s.dr),
                                  .x_head_stride = s.dn + s.dr,
                                  .num_rows = rows,
                                  .num_heads = s.heads,
                                  .y = q_latent,
                                  .y_row_stride = s.heads * s.dc,
                                  .y_head_stride = s.dc};
  if (weights.kv_b_proj.empty()) {
    args.w = weights.k_b_proj;
    args.head_rows = args.used_rows = s.dc;
    return HeadMatMul(args, ctx);
  }
  args.w = weights.kv_b_proj;
  args.head_rows = s.dn + s.dv;
  args.used_rows = s.dn;
  HeadMatMulTransposed(args, ctx);
}

// out [rows, heads, dv] = W_UV attended; attended [rows, heads, dc].
void ProjectValues(const Shape& s, const AttentionWeights& weights, const float* attended,
                   size_t rows, float* out, KernelContext& ctx) {
  const bool is_split = weights.kv_b_proj.empty();
  kernels::HeadMatMul({.x = attended,
                       .x_row_stride = s.heads * s.dc,
                       .x_head_stride = s.dc,
                       .num_rows = rows,
                       .num_heads = s.heads,
                       .w = is_split ? weights.v_b_proj : weights.kv_b_proj,
                       .head_rows = is_split ? s.dv : s.dn + s.dv,
                       .first_row = is_split ? 0 : s.dn,
                       .used_rows = s.dv,
                       .y = out,
                       .y_row_stride = s.heads * s.dv,
                       .y_head_stride = s.dv},
                      ctx);
}

// The absorbed form for neighbouring slices: the up-projections are read once for all their rows.
void AttendAbsorbed(const Shape& s, const AttentionWeights& weights, size_t layer,
                    const CacheLayout& cache, std::span<const SequenceSlice> slices, const float* q,
                    float* out, KernelContext& ctx) {
  ArenaScope scope(ctx.arena);
  const size_t begin = slices.front().first_row;
  const size_t rows = slices.back().first_row + slices.back().num_rows - begin;
  const size_t q_width = s.heads * (s.dn + s.dr);
  q += begin * q_width;
  float* q_latent = ctx.arena.Allocate<float>(rows * s.heads * s.dc);
  float* q_rope = ctx.arena.Allocate<float>(rows * s.heads * s.dr);
  float* attended = ctx.arena.Allocate<float>(rows * s.heads * s.dc);

  AbsorbQueries(s, weights, q, rows, q_latent, ctx);
  for (size_t i = 0; i < rows * s.heads; ++i) {
    std::memcpy(q_rope + i * s.dr, q + i * (s.dn + s.dr) + s.dn, s.dr * sizeof(float));
  }
  for (const SequenceSlice& slice : slices) {
    const size_t offset = (slice.first_row - begin) * s.heads;
    kernels::MlaAbsorbed({.cache = Rows(cache, layer, slice),
                          .kv_lora_rank = s.dc,
                          .qk_rope_head_dim = s.dr,
                          .scale = s.scale,
                          .num_heads = s.heads,
                          .num_rows = slice.num_rows,
                          .first_position = slice.first_position,
                          .q_latent = q_latent + offset * s.dc,
                          .q_rope = q_rope + offset * s.dr,
                          .out = attended + offset * s.dc},
                         ctx);
  }
  ProjectValues(s, weights, attended, rows, out + begin * s.heads * s.dv, ctx);
}

}  // namespace

void MlaLayer(const ModelConfig& config, const AttentionWeights& weights, size_t layer,
              const Batch& batch, const CacheLayout& cache, const RopeAngles& angles,
              const float* x, float* y, KernelContext& ctx, LayerTape* tape) {
  const Shape s = {.heads = config.num_attention_heads,
                   .dn = config.qk_nope_head_dim,
                   .dr = config.qk_rope_head_dim,
                   .dv = config.v_head_dim,
                   .dc = config.kv_lora_rank,
                   .scale = static_cast<float>(SoftmaxScale(config))};
  const size_t rows = batch.token_ids.size();
  ArenaScope scope(ctx.arena);

  Operand input(x, rows, config.hidden_size, ctx);
  Arena& memory = MemoryFor(tape, ctx);
  float* q = ProjectQueries(config, weights, input, ctx, tape);
  float* kv = memory.Allocate<float>(rows * (s.dc + s.dr));
  MatMul(input, weights.kv_a_proj_with_mqa, kv, ctx);
  StoreLatents(s, weights, layer, batch, cache, angles, kv, ctx);
  RotateQueries(s, rows, angles, q, ctx);

  float* attended = memory.Allocate<float>(rows * s.heads * s.dv);
  float* states = nullptr;
  if (tape != nullptr) {
    states = memory.Allocate<float>(rows * s.heads * 2);
    tape->q = q;
    tape->kv_a = kv;
    tape->attended = attended;
    tape->states = states;
  }
  for (size_t i = 0; i < batch.slices.size();) {
    const SequenceSlice& slice = batch.slices[i];
    BALEEN_CHECK(tape == nullptr || slice.form == MlaForm::kDirect);
    if (slice.form == MlaForm::kDirect) {
      AttendDirect(s, weights, Rows(cache, layer, slice), slice, q, attended, states, ctx);
      ++i;
      continue;
    }
    size_t end = i + 1;
    while (end < batch.slices.size() && batch.slices[end].form == MlaForm::kAbsorbed) ++end;
    AttendAbsorbed(s, weights, layer, cache, batch.slices.subspan(i, end - i), q, attended, ctx);
    i = end;
  }
  Operand output(attended, rows, s.heads * s.dv, ctx);
  MatMul(output, weights.o_proj, y, ctx);
}

}  // namespace baleen
