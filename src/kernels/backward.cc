#include "kernels/backward.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/check.h"

namespace baleen::kernels {

namespace {

// Rows and columns of an output that one task takes at most: what it copies of either side serves
// that many of the other. A job that is alone has smaller tasks, that threads may end together.
constexpr size_t kOuterTaskRows = 192, kTaskCols = 256, kLonelyRows = 96;
// Tasks are of one size, nearly, in whole tiles of every table.
constexpr size_t kTaskMultiple = 48;

size_t PartOf(size_t size, size_t most) {
  const size_t parts = (size + most - 1) / most;
  const size_t part = (size + parts - 1) / parts;
  return (part + kTaskMultiple - 1) / kTaskMultiple * kTaskMultiple;
}

void RunJobs(std::span<const OuterMatMulArgs> jobs, KernelContext& ctx) {
  struct Task {
    size_t job, row, col, rows, cols;
  };
  std::vector<Task> tasks;
  const bool lonely = jobs.size() < 4 * ctx.pool.num_threads();
  for (size_t j = 0; j < jobs.size(); ++j) {
    const size_t rows = PartOf(jobs[j].M, lonely ? kLonelyRows : kOuterTaskRows);
    const size_t cols = PartOf(jobs[j].N, kTaskCols);
    for (size_t m = 0; m < jobs[j].M; m += rows) {
      for (size_t n = 0; n < jobs[j].N; n += cols) tasks.push_back({j, m, n, rows, cols});
    }
  }
  ctx.pool.ParallelFor(tasks.size(), [&](size_t i, size_t) {
    const auto [job, row, col, rows, cols] = tasks[i];
    OuterMatMulArgs args = jobs[job];
    args.x = static_cast<const uint32_t*>(args.x) + (args.x_transposed ? row : row * args.x_stride);
    args.w = static_cast<const uint32_t*>(args.w) + col;
    args.y += row * args.y_stride + col;
    args.M = std::min(rows, args.M - row);
    args.N = std::min(cols, args.N - col);
    ctx.table.outer_matmul(args);
  });
}

}  // namespace

GradOperand::GradOperand(const float* x, size_t cols, size_t x_stride,
                         std::span<const size_t> offsets, KernelContext& ctx)
    : x_(x), cols_(cols), stride_(x_stride), offsets_(offsets), ctx_(ctx) {}

GradOperand::Elements GradOperand::Rows(size_t segment, ActivationType type) {
  if (type == ActivationType::kF32) {
    return {.data = x_ + begin(segment) * stride_, .stride = stride_, .count = cols_};
  }
  const size_t pairs = (cols_ + 1) / 2;
  if (bf16_rows_ == nullptr) {
    bf16_rows_ = ctx_.arena.Allocate<uint32_t>(num_rows() * pairs);
    ForRows(num_rows(), ctx_, [&](size_t first, size_t end) {
      for (size_t r = first; r < end; ++r) {
        uint32_t* out = bf16_rows_ + r * pairs;
        out[pairs - 1] = 0;  // an odd last column is paired with zero
        ctx_.table.pack(x_ + r * stride_, cols_, type, reinterpret_cast<std::byte*>(out));
      }
    });
  }
  return {.data = bf16_rows_ + begin(segment) * pairs, .stride = pairs, .count = pairs};
}

GradOperand::Elements GradOperand::RowPairs(size_t segment, ActivationType type) {
  if (type == ActivationType::kF32) {
    return {.data = x_ + begin(segment) * stride_, .stride = stride_, .count = rows(segment)};
  }
  // Segment s begins at pair (begin + s) / 2 rounded up: room for one odd row in each before it.
  const auto first_pair = [&](size_t s) { return (begin(s) + s + 1) / 2; };
  if (bf16_pairs_ == nullptr) {
    struct Pair {
      size_t row, out;
      bool whole;
    };
    std::vector<Pair> pairs;
    for (size_t s = 0; s < num_segments(); ++s) {
      for (size_t r = 0; r < rows(s); r += 2) {
        pairs.push_back({begin(s) + r, first_pair(s) + r / 2, r + 1 < rows(s)});
      }
    }
    bf16_pairs_ = ctx_.arena.Allocate<uint32_t>((num_rows() + num_segments() + 2) / 2 * cols_);
    ForRows(pairs.size(), ctx_, [&](size_t first, size_t end) {
      for (size_t i = first; i < end; ++i) {
        const float* row = x_ + pairs[i].row * stride_;
        ctx_.table.pack_pairs(row, pairs[i].whole ? row + stride_ : nullptr, cols_,
                              bf16_pairs_ + pairs[i].out * cols_);
      }
    });
  }
  return {.data = bf16_pairs_ + first_pair(segment) * cols_,
          .stride = cols_,
          .count = (rows(segment) + 1) / 2};
}

void PackRowPairs(const float* w, size_t rows, size_t cols, uint32_t* out, KernelContext& ctx) {
  ForRows((rows + 1) / 2, ctx, [&](size_t first, size_t end) {
    for (size_t i = first; i < end; ++i) {
      const float* row = w + 2 * i * cols;
      ctx.table.pack_pairs(row, 2 * i + 1 < rows ? row + cols : nullptr, cols, out + i * cols);
    }
  });
}

void GradInput(GradOperand& grad_y, std::span<const BackwardWeight> weights, bool accumulate,
               float* grad_x, size_t grad_x_stride, KernelContext& ctx) {
  BALEEN_CHECK(weights.size() == grad_y.num_segments());
  std::vector<OuterMatMulArgs> jobs;
  for (size_t s = 0; s < weights.size(); ++s) {
    const BackwardWeight& w = weights[s];
    if (grad_y.rows(s) == 0) continue;
    BALEEN_CHECK(w.rows == grad_y.cols());
    const GradOperand::Elements x = grad_y.Rows(s, w.type);
    jobs.push_back({.type = w.type,
                    .x = x.data,
                    .x_stride = x.stride,
                    .w = w.data,
                    .w_stride = w.cols,
                    .M = grad_y.rows(s),
                    .N = w.cols,
                    .K = x.count,
                    .y = grad_x + grad_y.begin(s) * grad_x_stride,
                    .y_stride = grad_x_stride,
                    .accumulate = accumulate});
  }
  RunJobs(jobs, ctx);
}

void GradWeight(GradOperand& grad_y, GradOperand& x, ActivationType type,
                std::span<float* const> grad_w, KernelContext& ctx) {
  BALEEN_CHECK(grad_w.size() == grad_y.num_segments() && grad_w.size() == x.num_segments());
  std::vector<OuterMatMulArgs> jobs;
  for (size_t s = 0; s < grad_w.size(); ++s) {
    if (grad_y.rows(s) == 0) continue;
    const GradOperand::Elements left = grad_y.RowPairs(s, type), right = x.RowPairs(s, type);
    jobs.push_back({.type = type,
                    .x = left.data,
                    .x_stride = left.stride,
                    .x_transposed = true,
                    .w = right.data,
                    .w_stride = right.stride,
                    .M = grad_y.cols(),
                    .N = x.cols(),
                    .K = left.count,
                    .y = grad_w[s],
                    .y_stride = x.cols(),
                    .accumulate = true});
  }
  RunJobs(jobs, ctx);
}

void RmsNormBackward(const RmsNormBackwardArgs& args, KernelContext& ctx) {
  // A part of the rows has a sum of its own for grad_weight; the parts are added in their order.
  constexpr size_t kPart = 128;
  ArenaScope scope(ctx.arena);
  const size_t num_parts = (args.rows + kPart - 1) / kPart;
  float* sums = ctx.arena.Allocate<float>(num_parts * args.n);
  std::fill_n(sums, num_parts * args.n, 0.0f);
  ctx.pool.ParallelFor(num_parts, [&](size_t part, size_t) {
    for (size_t r = part * kPart; r < std::min(args.rows, (part + 1) * kPart); ++r) {
      ctx.table.rms_norm_backward(args.x + r * args.x_stride, args.weight, args.eps, args.n,
                                  args.grad_y + r * args.grad_y_stride,
                                  args.grad_x + r * args.grad_x_stride, sums + part * args.n);
    }
  });
  for (size_t part = 0; part < num_parts; ++part) {
    ctx.table.add_scaled(1.0f, sums + part * args.n, args.n, args.grad_weight);
  }
}

}  // namespace baleen::kernels
