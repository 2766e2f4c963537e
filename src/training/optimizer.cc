#include "training/optimizer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <numeric>

#include "base/machine.h"

namespace baleen {

using kernels::KernelContext;

namespace {

// Parameters that one task takes.
constexpr size_t kPart = size_t{1} << 15;

// Muon's matrices up to this size are stepped side by side, one a thread: experts are many and too
// small to keep all threads busy one after the other.
constexpr size_t kSmallMatrix = size_t{1} << 20;

size_t NumParts(size_t n) { return (n + kPart - 1) / kPart; }

Matrix FloatMatrix(const float* data, size_t rows, size_t cols) {
  return {.dtype = DType::kF32,
          .data = reinterpret_cast<const std::byte*>(data),
          .rows = rows,
          .cols = cols};
}

void Transpose(const float* x, size_t rows, size_t cols, float* out, KernelContext& ctx) {
  ForRows(cols, ctx, [&](size_t begin, size_t end) {
    for (size_t r = 0; r < rows; ++r) {
      for (size_t c = begin; c < end; ++c) out[c * rows + r] = x[r * cols + c];
    }
  });
}

// out [rows, n] = a [rows, k] b^T, b [n, k].
void Product(const float* a, size_t rows, const float* b, size_t n, size_t k, float* out,
             KernelContext& ctx) {
  kernels::Operand operand(a, rows, k, ctx);
  MatMul(operand, FloatMatrix(b, n, k), out, ctx);
}

// x [rows, cols], rows <= cols, becomes nearly orthogonal: singular values come near 1. The
// coefficients are Jordan's (kellerjordan.github.io/posts/muon), which Moonlight kept.
void NewtonSchulz(float* x, size_t rows, size_t cols, KernelContext& ctx) {
  constexpr float kA = 3.4445f, kB = -4.7750f, kC = 2.0315f;
  ArenaScope scope(ctx.arena);
  const size_t size = rows * cols;
  float* gram = ctx.arena.Allocate<float>(rows * rows);
  float* gram2 = ctx.arena.Allocate<float>(rows * rows);
  float* transposed = ctx.arena.Allocate<float>(size);
  float* product = ctx.arena.Allocate<float>(size);
  const float shrink = 1 / (std::sqrt(ctx.table.sum_squares(x, size)) + 1e-7f);
  for (size_t i = 0; i < size; ++i) x[i] *= shrink;
  for (int step = 0; step < 5; ++step) {
    ArenaScope step_scope(ctx.arena);
    Product(x, rows, x, rows, cols, gram, ctx);
    Product(gram, rows, gram, rows, rows, gram2, ctx);  // the Gram matrix is symmetric
    for (size_t i = 0; i < rows * rows; ++i) gram2[i] = kB * gram[i] + kC * gram2[i];
    Transpose(x, rows, cols, transposed, ctx);
    Product(gram2, rows, transposed, cols, rows, product, ctx);
    for (size_t i = 0; i < size; ++i) x[i] = kA * x[i] + product[i];
  }
}

}  // namespace

double LearningRate(const ScheduleOptions& options, uint64_t step) {
  if (step < options.warmup_steps) {
    return options.lr * static_cast<double>(step + 1) / static_cast<double>(options.warmup_steps);
  }
  const double total = static_cast<double>(std::max<uint64_t>(options.total_steps, 1));
  if (options.kind == Schedule::kStep) {
    double lr = options.lr;
    for (const double at : options.decay_at) {
      if (static_cast<double>(step) >= at * total) lr *= options.decay_factor;
    }
    return lr;
  }
  if (options.kind == Schedule::kConstant) return options.lr;
  const double warmup = static_cast<double>(options.warmup_steps);
  const double done =
      std::clamp((static_cast<double>(step) - warmup) / std::max(total - warmup, 1.0), 0.0, 1.0);
  const double share = 0.5 * (1 + std::cos(std::numbers::pi * done));
  return options.lr * (options.min_lr_ratio + (1 - options.min_lr_ratio) * share);
}

struct Optimizer::Alone {
  explicit Alone(const KernelContext& ctx)
      : ctx{.table = ctx.table, .pool = pool, .chained_f32_products = ctx.chained_f32_products} {}
  ThreadPool pool{1};
  KernelContext ctx;
};

Optimizer::~Optimizer() = default;

bool Optimizer::UsesMuon(const Parameter& parameter, const OptimizerOptions& options) {
  return options.muon && parameter.is_matrix() && parameter.name != "lm_head.weight" &&
         parameter.name != "model.embed_tokens.weight";
}

uint64_t Optimizer::Bytes(const Parameters& parameters, const OptimizerOptions& options) {
  uint64_t floats = 0;
  for (const Parameter& parameter : parameters.list()) {
    floats += parameter.value.size() * (UsesMuon(parameter, options) ? 1 : 2);
  }
  return floats * sizeof(float);
}

Optimizer::Optimizer(const Parameters& parameters, OptimizerOptions options)
    : options_(std::move(options)) {
  const uint64_t bytes = Bytes(parameters, options_);
  memory_.reserve(bytes / sizeof(float));
  AdviseHugePages(memory_.data(), bytes);
  memory_.resize(bytes / sizeof(float));
  std::span<float> rest(memory_);
  const auto take = [&](size_t count) {
    const std::span<float> part = rest.first(count);
    rest = rest.subspan(count);
    return part;
  };
  for (const Parameter& parameter : parameters.list()) {
    Slot& slot = slots_.emplace_back();
    slot.parameter = &parameter;
    slot.muon = UsesMuon(parameter, options_);
    slot.frozen =
        !options_.frozen_prefix.empty() && parameter.name.starts_with(options_.frozen_prefix);
    slot.m = take(parameter.value.size());
    if (!slot.muon) slot.v = take(parameter.value.size());
  }
  for (const Slot& slot : slots_) {
    const bool is_small = slot.parameter->value.size() <= kSmallMatrix;
    if (slot.muon && is_small && !slot.frozen) small_.push_back(&slot);
  }
}

void Optimizer::StepAdamW(const kernels::AdamWArgs& args, const Slot& slot, KernelContext& ctx) {
  const Parameter& p = *slot.parameter;
  const size_t n = p.value.size();
  ctx.pool.ParallelFor(NumParts(n), [&](size_t part, size_t) {
    const size_t begin = part * kPart;
    ctx.table.adamw(args, p.grad.data() + begin, std::min(kPart, n - begin), p.value.data() + begin,
                    slot.m.data() + begin, slot.v.data() + begin);
  });
}

void Optimizer::StepMuon(double lr, double grad_scale, const Slot& slot, KernelContext& ctx) {
  ArenaScope scope(ctx.arena);
  const Parameter& p = *slot.parameter;
  const size_t rows = p.shape[0], cols = p.shape[1], n = p.value.size();
  const auto momentum = static_cast<float>(options_.muon_momentum);
  const auto scale = static_cast<float>(grad_scale);
  float* update = ctx.arena.Allocate<float>(n);
  for (size_t i = 0; i < n; ++i) {
    const float grad = p.grad[i] * scale;
    slot.m[i] = momentum * slot.m[i] + grad;
    update[i] = grad + momentum * slot.m[i];  // Nesterov's look ahead
  }
  if (rows <= cols) {
    NewtonSchulz(update, rows, cols, ctx);
  } else {
    float* transposed = ctx.arena.Allocate<float>(n);
    Transpose(update, rows, cols, transposed, ctx);
    NewtonSchulz(transposed, cols, rows, ctx);
    Transpose(transposed, cols, rows, update, ctx);
  }
  const auto size = static_cast<float>(0.2 * std::sqrt(static_cast<double>(std::max(rows, cols))));
  const auto rate = static_cast<float>(lr), decay = static_cast<float>(options_.weight_decay);
  for (size_t i = 0; i < n; ++i) p.value[i] -= rate * (size * update[i] + decay * p.value[i]);
}

void Optimizer::StepSmallMatrices(double lr, double grad_scale, KernelContext& ctx) {
  while (alone_.size() < ctx.pool.num_threads()) alone_.push_back(std::make_unique<Alone>(ctx));
  ctx.pool.ParallelFor(small_.size(), [&](size_t i, size_t thread) {
    StepMuon(lr, grad_scale, *small_[i], alone_[thread]->ctx);
  });
}

void Optimizer::Step(uint64_t step, double lr, double grad_scale, KernelContext& ctx) {
  const auto correction = [&](double beta) {
    return static_cast<float>(1 / (1 - std::pow(beta, static_cast<double>(step))));
  };
  kernels::AdamWArgs args = {.lr = static_cast<float>(lr),
                             .beta1 = static_cast<float>(options_.beta1),
                             .beta2 = static_cast<float>(options_.beta2),
                             .eps = static_cast<float>(options_.eps),
                             .correction1 = correction(options_.beta1),
                             .correction2 = correction(options_.beta2),
                             .grad_scale = static_cast<float>(grad_scale)};
  for (const Slot& slot : slots_) {
    if (slot.frozen) continue;
    if (slot.muon) {
      if (slot.parameter->value.size() > kSmallMatrix) StepMuon(lr, grad_scale, slot, ctx);
      continue;
    }
    const bool decays = slot.parameter->is_matrix();
    args.weight_decay = decays ? static_cast<float>(options_.weight_decay) : 0.0f;
    StepAdamW(args, slot, ctx);
  }
  StepSmallMatrices(lr, grad_scale, ctx);
}

std::vector<Optimizer::State> Optimizer::state() {
  std::vector<State> state;
  for (const Slot& slot : slots_) {
    const Parameter& p = *slot.parameter;
    state.push_back({"optimizer.m." + p.name, p.shape, slot.m});
    if (!slot.muon) state.push_back({"optimizer.v." + p.name, p.shape, slot.v});
  }
  return state;
}

double GradientNorm(const Parameters& parameters, KernelContext& ctx) {
  double total = 0;
  for (const Parameter& p : parameters.list()) {
    std::vector<float> parts(NumParts(p.grad.size()));
    ctx.pool.ParallelFor(parts.size(), [&](size_t part, size_t) {
      const size_t begin = part * kPart;
      parts[part] =
          ctx.table.sum_squares(p.grad.data() + begin, std::min(kPart, p.grad.size() - begin));
    });
    total = std::accumulate(parts.begin(), parts.end(), total);
  }
  return std::sqrt(total);
}

}  // namespace baleen
