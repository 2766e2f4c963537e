#include "kernels/kernels.h"

#include <algorithm>

#include "base/check.h"

namespace baleen::kernels {

namespace {

// Rows of weights that one task takes: enough that handing out tasks costs nothing (64 rows of
// 2,048 BF16 weights are 256 KiB), few enough that two threads end together.
constexpr size_t kTaskRows = 64;

size_t NumSlices(size_t rows) { return (rows + kTaskRows - 1) / kTaskRows; }

Matrix Slice(const Matrix& w, size_t slice) {
  const size_t begin = slice * kTaskRows;
  return w.Rows(begin, std::min(kTaskRows, w.rows - begin));
}

// Scratch of one size for each thread.
class ThreadScratch {
 public:
  ThreadScratch(size_t bytes, KernelContext& ctx)
      : bytes_((bytes + Arena::kAlignment - 1) / Arena::kAlignment * Arena::kAlignment),
        data_(ctx.arena.Allocate<std::byte>(bytes_ * ctx.pool.num_threads())) {}
  std::byte* Of(size_t thread) const { return data_ + thread * bytes_; }

 private:
  size_t bytes_;
  std::byte* data_;
};

}  // namespace

void KernelContext::Account(uint64_t bytes, ActivationType type, uint64_t products) {
  work.weight_bytes += bytes;
  work.operations += 2 * products;
  if (roof.read_gb_per_s == 0) return;
  const double peak = type == ActivationType::kBF16 ? roof.gflops_bf16 : roof.gflops_f32;
  work.roof_seconds += std::max(static_cast<double>(bytes) / (roof.read_gb_per_s * 1e9),
                                2 * static_cast<double>(products) / (peak * 1e9));
}

Operand::Operand(const float* x, size_t rows, size_t cols, size_t x_stride, KernelContext& ctx)
    : rows_(rows), cols_(cols), ctx_(ctx) {
  forms_[static_cast<size_t>(ActivationType::kF32)] = {
      .type = ActivationType::kF32,
      .data = reinterpret_cast<const std::byte*>(x),
      .rows = rows,
      .cols = cols,
      .row_bytes = x_stride * sizeof(float),
  };
}

const Activations& Operand::As(ActivationType type) {
  Activations& form = forms_[static_cast<size_t>(type)];
  if (form.data == nullptr) {
    const Activations& source = forms_[static_cast<size_t>(ActivationType::kF32)];
    const size_t row_bytes = cols_ * ActivationSize(type);
    std::byte* data = ctx_.arena.Allocate<std::byte>(rows_ * row_bytes);
    const size_t num_tasks = (rows_ + kTaskRows - 1) / kTaskRows;
    ctx_.pool.ParallelFor(num_tasks, [&](size_t task, size_t) {
      const size_t end = std::min(rows_, (task + 1) * kTaskRows);
      for (size_t r = task * kTaskRows; r < end; ++r) {
        ctx_.table.pack(reinterpret_cast<const float*>(source.row(r)), cols_, type,
                        data + r * row_bytes);
      }
    });
    form = {.type = type, .data = data, .rows = rows_, .cols = cols_, .row_bytes = row_bytes};
  }
  return form;
}

void MatMul(Operand& x, const Matrix& w, float* y, KernelContext& ctx) {
  MatMul(x, w, ctx.ActivationFor(w), y, ctx);
}

void MatMul(Operand& x, const Matrix& w, ActivationType type, float* y, KernelContext& ctx) {
  BALEEN_CHECK(x.cols() == w.cols);
  ctx.Account(w.size_bytes(), type, x.rows() * w.rows * w.cols);
  const Activations& activations = x.As(type);
  ArenaScope scope(ctx.arena);
  ThreadScratch scratch(MatMulScratchBytes(w.cols), ctx);
  ctx.pool.ParallelFor(NumSlices(w.rows), [&](size_t slice, size_t thread) {
    ctx.table.matmul({.x = activations,
                      .num_rows = x.rows(),
                      .w = Slice(w, slice),
                      .y = y + slice * kTaskRows,
                      .y_stride = w.rows,
                      .scratch = scratch.Of(thread)});
  });
}

void GroupedSwiGlu(Operand& x, std::span<const SwiGluGroup> groups, float* out,
                   KernelContext& ctx) {
  ArenaScope scope(ctx.arena);

  // The hidden activations of each group, in the form that its down_proj asks for, and the tasks
  // of the first phase: (group, slice of the intermediate width).
  struct Task {
    size_t group, slice;
  };
  auto* hidden = ctx.arena.Allocate<Activations>(groups.size());
  size_t num_tasks = 0, max_rows = 0, max_cols = x.cols();
  for (const SwiGluGroup& group : groups) num_tasks += NumSlices(group.gate.rows);
  auto* tasks = ctx.arena.Allocate<Task>(num_tasks);
  num_tasks = 0;
  for (size_t g = 0; g < groups.size(); ++g) {
    const SwiGluGroup& group = groups[g];
    BALEEN_CHECK(group.gate.cols == x.cols() && group.down.cols == group.gate.rows);
    const ActivationType type = ctx.ActivationFor(group.down);
    const size_t row_bytes = group.down.cols * ActivationSize(type);
    hidden[g] = {.type = type,
                 .data = ctx.arena.Allocate<std::byte>(group.rows.size() * row_bytes),
                 .rows = group.rows.size(),
                 .cols = group.down.cols,
                 .row_bytes = row_bytes};
    for (const Matrix* w : {&group.gate, &group.up, &group.down}) {
      ctx.Account(w->size_bytes(), ctx.ActivationFor(*w), group.rows.size() * w->rows * w->cols);
    }
    max_rows = std::max(max_rows, group.rows.size());
    max_cols = std::max(max_cols, group.down.cols);
    for (size_t s = 0; s < NumSlices(group.gate.rows); ++s) tasks[num_tasks++] = {g, s};
    x.As(ctx.ActivationFor(group.gate));
    x.As(ctx.ActivationFor(group.up));
  }
  const size_t tile_bytes = max_rows * kTaskRows * sizeof(float);
  ThreadScratch unpacked(MatMulScratchBytes(max_cols), ctx);
  ThreadScratch tiles(2 * tile_bytes, ctx);

  ctx.pool.ParallelFor(num_tasks, [&](size_t task, size_t thread) {
    const auto [g, slice] = tasks[task];
    const SwiGluGroup& group = groups[g];
    const size_t begin = slice * kTaskRows;
    const size_t width = std::min(kTaskRows, group.gate.rows - begin);
    float* tile = reinterpret_cast<float*>(tiles.Of(thread));
    const bool keep = group.gate_out != nullptr;
    const size_t stride = keep ? group.gate.rows : kTaskRows;
    float* gate = keep ? group.gate_out + begin : tile;
    float* up = keep ? group.up_out + begin : tile + max_rows * kTaskRows;
    const auto multiply = [&](const Matrix& w, float* y) {
      ctx.table.matmul({.x = x.As(ctx.ActivationFor(w)),
                        .x_rows = group.rows.data(),
                        .num_rows = group.rows.size(),
                        .w = Slice(w, slice),
                        .y = y,
                        .y_stride = stride,
                        .scratch = unpacked.Of(thread)});
    };
    multiply(group.gate, gate);
    multiply(group.up, up);
    for (size_t m = 0; m < group.rows.size(); ++m) {
      float* row = tile + m * kTaskRows;
      ctx.table.swiglu(gate + m * stride, up + m * stride, width, row);
      auto* target = const_cast<std::byte*>(hidden[g].row(m));
      ctx.table.pack(row, width, hidden[g].type, target + begin * ActivationSize(hidden[g].type));
    }
  });

  // Second phase: each task owns a slice of the output's columns and adds up the groups in order.
  const size_t out_cols = groups.empty() ? 0 : groups[0].down.rows;
  ctx.pool.ParallelFor(NumSlices(out_cols), [&](size_t slice, size_t thread) {
    const size_t begin = slice * kTaskRows;
    const size_t width = std::min(kTaskRows, out_cols - begin);
    for (size_t r = 0; r < x.rows(); ++r) std::fill_n(out + r * out_cols + begin, width, 0.0f);
    float* y = reinterpret_cast<float*>(tiles.Of(thread));
    for (size_t g = 0; g < groups.size(); ++g) {
      const SwiGluGroup& group = groups[g];
      ctx.table.matmul({.x = hidden[g],
                        .num_rows = group.rows.size(),
                        .w = Slice(group.down, slice),
                        .y = y,
                        .y_stride = kTaskRows,
                        .scratch = unpacked.Of(thread)});
      for (size_t m = 0; m < group.rows.size(); ++m) {
        const float weight = group.row_weights ? group.row_weights[m] : 1.0f;
        ctx.table.add_scaled(weight, y + m * kTaskRows, width,
                             out + group.rows[m] * out_cols + begin);
      }
    }
  });
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
  args.products = ctx.ActivationFor(Matrix{.dtype = args.cache.dtype});
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

void MlaDirect(MlaDirectArgs args, KernelContext& ctx) {
  ArenaScope scope(ctx.arena);
  args.products = ctx.ActivationFor(args.kv_b);
  const size_t num_keys = args.first_position + args.num_rows;
  ctx.Account(args.kv_b.size_bytes() + num_keys * args.cache.row_bytes, args.products,
              num_keys * args.kv_b.rows * args.kv_b.cols);
  ctx.Account(0, ActivationType::kF32,
              NumPairs(args.first_position, args.num_rows) * args.num_heads *
                  (args.qk_nope_head_dim + args.qk_rope_head_dim + args.v_head_dim));
  ThreadScratch scratch(MlaScratchBytes(args.num_rows, args.kv_b.cols, args.qk_nope_head_dim,
                                        args.qk_rope_head_dim, args.v_head_dim),
                        ctx);
  ctx.pool.ParallelFor(args.num_heads, [&](size_t head, size_t thread) {
    MlaDirectArgs part = args;
    part.head_begin = head;
    part.head_end = head + 1;
    part.scratch = scratch.Of(thread);
    ctx.table.mla_direct(part);
  });
}

namespace {

void AccountHeads(const HeadMatMulArgs& args, KernelContext& ctx) {
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
