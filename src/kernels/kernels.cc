#include "kernels/kernels.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/tasks.h"

namespace baleen::kernels {

namespace {

// Rows of weights that one task takes: enough that handing out tasks costs nothing (64 rows of
// 2,048 BF16 weights are 256 KiB), few enough that two threads end together.
constexpr size_t kTaskRows = 64;
// Of a small matrix tasks take fewer, so that each thread has some.
constexpr size_t kMinTaskRows = kTileRows;
constexpr size_t kTasksPerThread = 4;
// Rows of activations that one task brings into another form.
constexpr size_t kPackRows = 64;

}  // namespace

void KernelContext::Account(uint64_t bytes, ActivationType type, uint64_t products) {
  work.weight_bytes += bytes;
  work.operations += 2 * products;
  if (roof.read_gb_per_s == 0) return;
  double peak = roof.gflops_f32;
  if (type == ActivationType::kBF16) peak = roof.gflops_bf16;
  // The scalar table multiplies whole numbers at the speed of its floats.
  if (type == ActivationType::kI8 && roof.gops_i8 > 0) peak = roof.gops_i8;
  work.roof_seconds += std::max(static_cast<double>(bytes) / (roof.read_gb_per_s * 1e9),
                                2 * static_cast<double>(products) / (peak * 1e9));
}

namespace {

size_t TaskRows(size_t rows, const KernelContext& ctx) {
  const size_t wanted = rows / (kTasksPerThread * ctx.pool.num_threads());
  return std::clamp(wanted / kMinTaskRows * kMinTaskRows, kMinTaskRows, kTaskRows);
}

size_t FormIdx(const ActivationForm& form) {
  switch (form.type) {
    case ActivationType::kF32:
      return 0;
    case ActivationType::kBF16:
      return 1;
    case ActivationType::kI8:
      break;
  }
  if (form.part_cols != 0) return form.part_cols == 16 ? 5 : 6;
  return form.group_cols == 32 ? 2 : form.group_cols == 64 ? 3 : 4;
}

}  // namespace

Operand::Operand(const float* x, size_t rows, size_t cols, size_t x_stride, KernelContext& ctx)
    : rows_(rows), cols_(cols), ctx_(ctx) {
  forms_[FormIdx({})] = {
      .type = ActivationType::kF32,
      .data = reinterpret_cast<const std::byte*>(x),
      .rows = rows,
      .cols = cols,
      .row_bytes = x_stride * sizeof(float),
  };
}

const Activations& Operand::As(const ActivationForm& form) {
  Activations& activations = forms_[FormIdx(form)];
  if (activations.data == nullptr) {
    const Activations& source = forms_[FormIdx({})];
    activations = NewActivations(form, rows_, cols_, ctx_.arena);
    const size_t num_tasks = (rows_ + kPackRows - 1) / kPackRows;
    ctx_.pool.ParallelFor(num_tasks, [&](size_t task, size_t) {
      const size_t end = std::min(rows_, (task + 1) * kPackRows);
      for (size_t r = task * kPackRows; r < end; ++r) {
        PackInto(activations, r, reinterpret_cast<const float*>(source.row(r)), 0, cols_,
                 ctx_.table);
      }
    });
  }
  return activations;
}

Activations Operand::Reordered(std::span<const int32_t> rows, const Matrix& w) {
  const ActivationForm form = ctx_.FormFor(w);
  if (w.column_order == nullptr) return As(form);
  const Activations& source = forms_[FormIdx({})];
  const size_t num_rows = rows.empty() ? rows_ : rows.size();
  const Activations result = NewActivations(form, num_rows, cols_, ctx_.arena);
  ArenaScope scope(ctx_.arena);
  const ThreadScratch gathered(cols_ * sizeof(float), ctx_);
  ctx_.pool.ParallelFor(num_rows, [&](size_t i, size_t thread) {
    const size_t r = rows.empty() ? i : static_cast<size_t>(rows[i]);
    const auto* x = reinterpret_cast<const float*>(source.row(r));
    float* row = reinterpret_cast<float*>(gathered.Of(thread));
    for (size_t c = 0; c < cols_; ++c) row[c] = x[w.column_order[c]];
    PackInto(result, i, row, 0, cols_, ctx_.table);
  });
  return result;
}

namespace {

void Multiply(const Activations& x, const Matrix& w, float* y, KernelContext& ctx) {
  ctx.Account(w.size_bytes(), x.type, x.rows * w.rows * w.cols);
  ArenaScope scope(ctx.arena);
  ThreadScratch scratch(MatMulScratchBytes(w.cols), ctx);
  const size_t task_rows = TaskRows(w.rows, ctx);
  ctx.pool.ParallelFor(NumSlices(w.rows, task_rows), [&](size_t slice, size_t thread) {
    ctx.table.matmul({.x = x,
                      .num_rows = x.rows,
                      .w = Slice(w, slice, task_rows),
                      .y = y + slice * task_rows,
                      .y_stride = w.rows,
                      .scratch = scratch.Of(thread),
                      .chained = ctx.Chains(w)});
  });
}

}  // namespace

void MatMul(Operand& x, const Matrix& w, float* y, KernelContext& ctx) {
  BALEEN_CHECK(x.cols() == w.cols);
  if (w.column_order == nullptr) return Multiply(x.As(ctx.FormFor(w)), w, y, ctx);
  ArenaScope scope(ctx.arena);
  Multiply(x.Reordered({}, w), w, y, ctx);
}

void MatMul(Operand& x, const Matrix& w, const ActivationForm& form, float* y, KernelContext& ctx) {
  BALEEN_CHECK(x.cols() == w.cols && w.column_order == nullptr);
  Multiply(x.As(form), w, y, ctx);
}

namespace {

// Heads and rows that one attention task takes. Eight heads share each block of the cache that a
// task reads; two threads have work from 16 heads on.
constexpr size_t kTaskHeads = 8;
constexpr size_t kTaskQueryRows = 8;

// Pairs of a query and a key that it sees.
size_t NumPairs(size_t first_position, size_t num_rows) {
  return num_rows * first_position + num_rows * (num_rows + 1) / 2;
}

}  // namespace

void MlaAbsorbed(MlaAbsorbedArgs args, KernelContext& ctx) {
  ArenaScope scope(ctx.arena);
  const size_t num_keys = args.first_position + args.num_rows;
  const size_t latent_dim = args.kv_lora_rank + args.qk_rope_head_dim;
  args.products = ctx.FormFor(Matrix{.dtype = args.cache.dtype}).type;
  ctx.Account(num_keys * args.cache.row_bytes, args.products,
              NumPairs(args.first_position, args.num_rows) * args.num_heads *
                  (latent_dim + args.kv_lora_rank));
  const size_t head_groups = (args.num_heads + kTaskHeads - 1) / kTaskHeads;
  const size_t row_groups = (args.num_rows + kTaskQueryRows - 1) / kTaskQueryRows;
  ThreadScratch scratch(
      MlaScratchBytes(kTaskHeads * kTaskQueryRows, args.kv_lora_rank, 0, args.qk_rope_head_dim, 0),
      ctx);
  ctx.pool.ParallelFor(head_groups * row_groups, [&](size_t task, size_t thread) {
    // Long rows first: the last rows see the most keys.
    const size_t row = (row_groups - 1 - task / head_groups) * kTaskQueryRows;
    MlaAbsorbedArgs part = args;
    part.head_begin = task % head_groups * kTaskHeads;
    part.head_end = std::min(args.num_heads, part.head_begin + kTaskHeads);
    part.num_rows = std::min(kTaskQueryRows, args.num_rows - row);
    part.first_position += row;
    part.q_latent += row * args.num_heads * args.kv_lora_rank;
    part.q_rope += row * args.num_heads * args.qk_rope_head_dim;
    part.out += row * args.num_heads * args.kv_lora_rank;
    part.scratch = scratch.Of(thread);
    ctx.table.mla_absorbed(part);
  });
}

namespace {

// Whether a head's weights are brought into F32 before its keys and values are rebuilt. Quantized
// weights are rebuilt from their exact values: whole numbers would round the latents once more. A
// head is decoded once for all keys.
bool IsDecoded(const Matrix& kv_b) { return kv_b.empty() || kv_b.is_tiled(); }

// W_UK and W_UV of one head as [nope + dv, rank] in `out`; `row` [nope] is scratch.
void DecodeHead(const MlaDirectArgs& args, const LatentHalves& halves, size_t head, size_t rank,
                float* out, float* row, const KernelTable& table) {
  const size_t nope = args.qk_nope_head_dim, dv = args.v_head_dim;
  if (!args.kv_b.empty()) {
    for (size_t r = 0; r < nope + dv; ++r) {
      table.decode_row(args.kv_b, head * (nope + dv) + r, out + r * rank);
    }
    return;
  }
  for (size_t c = 0; c < rank; ++c) {
    table.decode_row(halves.k_b, head * rank + c, row);
    for (size_t d = 0; d < nope; ++d) out[d * rank + c] = row[d];
  }
  for (size_t d = 0; d < dv; ++d) {
    table.decode_row(halves.v_b, head * dv + d, out + (nope + d) * rank);
  }
}

}  // namespace

void MlaDirect(MlaDirectArgs args, const LatentHalves& halves, KernelContext& ctx) {
  ArenaScope scope(ctx.arena);
  const Matrix& values = args.kv_b.empty() ? halves.v_b : args.kv_b;
  const size_t rank = values.cols, nope = args.qk_nope_head_dim;
  const size_t head_rows = nope + args.v_head_dim;
  const bool decoded = IsDecoded(args.kv_b);
  args.products = decoded ? ActivationType::kF32 : ctx.FormFor(args.kv_b).type;
  const size_t num_keys = args.first_position + args.num_rows;
  ctx.Account(args.kv_b.size_bytes() + halves.k_b.size_bytes() + halves.v_b.size_bytes() +
                  num_keys * args.cache.row_bytes,
              args.products, num_keys * args.num_heads * head_rows * rank);
  ctx.Account(0, ActivationType::kF32,
              NumPairs(args.first_position, args.num_rows) * args.num_heads *
                  (nope + args.qk_rope_head_dim + args.v_head_dim));
  ThreadScratch scratch(
      MlaScratchBytes(args.num_rows, rank, nope, args.qk_rope_head_dim, args.v_head_dim), ctx);
  ThreadScratch weights(decoded ? (head_rows * rank + nope) * sizeof(float) : 0, ctx);
  ctx.pool.ParallelFor(args.num_heads, [&](size_t head, size_t thread) {
    MlaDirectArgs part = args;
    part.head_begin = head;
    part.head_end = head + 1;
    part.scratch = scratch.Of(thread);
    if (decoded) {
      auto* out = reinterpret_cast<float*>(weights.Of(thread));
      DecodeHead(args, halves, head, rank, out, out + head_rows * rank, ctx.table);
      part.kv_b = {
          .dtype = DType::kF32, .data = weights.Of(thread), .rows = head_rows, .cols = rank};
      part.first_head = head;
    }
    ctx.table.mla_direct(part);
  });
}

namespace {

void AccountHeads(const HeadMatMulArgs& args, KernelContext& ctx) {
  BALEEN_CHECK(args.w.column_order == nullptr);
  const size_t rows = args.num_heads * args.used_rows;
  ctx.Account(args.w.size_bytes() / args.w.rows * rows, ActivationType::kF32,
              args.num_rows * rows * args.w.cols);
}

}  // namespace

void HeadMatMulTransposed(const HeadMatMulArgs& args, KernelContext& ctx) {
  AccountHeads(args, ctx);
  ctx.pool.ParallelFor(args.num_heads, [&](size_t h, size_t) {
    ctx.table.matmul_transposed(
        {.x = args.x + h * args.x_head_stride,
         .x_stride = args.x_row_stride,
         .num_rows = args.num_rows,
         .w = args.w.Rows(h * args.head_rows + args.first_row, args.used_rows),
         .y = args.y + h * args.y_head_stride,
         .y_stride = args.y_row_stride});
  });
}

void HeadMatMul(const HeadMatMulArgs& args, KernelContext& ctx) {
  AccountHeads(args, ctx);
  ArenaScope scope(ctx.arena);
  ThreadScratch scratch(MatMulScratchBytes(args.w.cols), ctx);
  ctx.pool.ParallelFor(args.num_heads, [&](size_t h, size_t thread) {
    const auto* x = reinterpret_cast<const std::byte*>(args.x + h * args.x_head_stride);
    ctx.table.matmul({.x = {.type = ActivationType::kF32,
                            .data = x,
                            .rows = args.num_rows,
                            .cols = args.w.cols,
                            .row_bytes = args.x_row_stride * sizeof(float)},
                      .num_rows = args.num_rows,
                      .w = args.w.Rows(h * args.head_rows + args.first_row, args.used_rows),
                      .y = args.y + h * args.y_head_stride,
                      .y_stride = args.y_row_stride,
                      .scratch = scratch.Of(thread)});
  });
}

void RmsNorm(const float* x, size_t x_stride, size_t rows, size_t n, const float* weight, float eps,
             float* y, size_t y_stride, KernelContext& ctx) {
  ForRows(rows, ctx, [&](size_t begin, size_t end) {
    for (size_t r = begin; r < end; ++r) {
      ctx.table.rms_norm(x + r * x_stride, weight, eps, n, y + r * y_stride);
    }
  });
}

void Add(const float* x, size_t n, float* y, KernelContext& ctx) {
  constexpr size_t kPart = size_t{1} << 14;
  ctx.pool.ParallelFor((n + kPart - 1) / kPart, [&](size_t task, size_t) {
    const size_t begin = task * kPart;
    ctx.table.add_scaled(1.0f, x + begin, std::min(kPart, n - begin), y + begin);
  });
}

void ForRows(size_t rows, KernelContext& ctx, FunctionRef<void(size_t begin, size_t end)> work) {
  constexpr size_t kPart = 32;
  ctx.pool.ParallelFor((rows + kPart - 1) / kPart, [&](size_t task, size_t) {
    work(task * kPart, std::min(rows, (task + 1) * kPart));
  });
}

}  // namespace baleen::kernels
