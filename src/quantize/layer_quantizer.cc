#include "quantize/layer_quantizer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <exception>
#include <numeric>

#include "base/error.h"
#include "model/moe.h"
#include "quantize/layer_plan.h"

namespace baleen {

using kernels::KernelContext;
using kernels::Operand;

namespace {

constexpr size_t kChunkRows = 1024;   // inputs that go through a network together
constexpr size_t kErrorRows = 64;     // rows of a matrix whose output error stands for all
constexpr size_t kRowsPerColumn = 2;  // of inputs, below which an expert borrows from the others

std::vector<float> Decode(const std::string& name, const Matrix& matrix,
                          const kernels::KernelTable& table) {
  std::vector<float> w(matrix.rows * matrix.cols);
  for (size_t r = 0; r < matrix.rows; ++r) table.decode_row(matrix, r, w.data() + r * matrix.cols);
  for (size_t i = 0; i < w.size(); ++i) {
    if (!std::isfinite(w[i])) {
      Throw(ErrorCode::kCorruption, "tensor {}.weight holds {} in row {}, column {}", name, w[i],
            i / matrix.cols, i % matrix.cols);
    }
  }
  return w;
}

double SumSquares(const std::vector<float>& values) {
  double sum = 0;
  for (float value : values) sum += static_cast<double>(value) * value;
  return sum;
}

// The part of the outputs' (without inputs: the weights') square that the rounding changed.
double RelativeError(const std::vector<float>& w, const GptqMatrix& rounded, const Hessian& hessian,
                     const kernels::KernelTable& table) {
  const size_t cols = rounded.shape.cols;
  const size_t step = std::max<size_t>(1, rounded.shape.rows / kErrorRows);
  std::vector<float> before, change(cols);
  std::vector<float> changes;
  for (size_t r = 0; r < rounded.shape.rows; r += step) {
    rounded.DecodeRow(r, change.data());
    for (size_t c = 0; c < cols; ++c) change[c] -= w[r * cols + c];
    before.insert(before.end(), w.begin() + static_cast<ptrdiff_t>(r * cols),
                  w.begin() + static_cast<ptrdiff_t>((r + 1) * cols));
    changes.insert(changes.end(), change.begin(), change.end());
  }
  if (hessian.weight() == 0) {
    const double all = SumSquares(before);
    return all > 0 ? SumSquares(changes) / all : 0;
  }
  const size_t rows = before.size() / cols;
  const double all = hessian.OutputError(before.data(), rows, table);
  return all > 0 ? hessian.OutputError(changes.data(), rows, table) / all : 0;
}

bool Wants(const Matrix& matrix, const RoundingOptions& rounding) {
  return !matrix.empty() && CanQuantize(matrix, rounding);
}

std::vector<int32_t> EveryRow(size_t rows) {
  std::vector<int32_t> all(rows);
  std::iota(all.begin(), all.end(), 0);
  return all;
}

// Calls visit(hidden, rows) with silu(gate x) * up x of the named rows of x, in chunks.
template <typename Visit>
void ForHidden(const MlpWeights& mlp, const float* x, std::span<const int32_t> rows,
               KernelContext& ctx, const Visit& visit) {
  const size_t cols = mlp.gate_proj.cols, width = mlp.gate_proj.rows;
  for (size_t begin = 0; begin < rows.size(); begin += kChunkRows) {
    const size_t count = std::min(kChunkRows, rows.size() - begin);
    ArenaScope scope(ctx.arena);
    float* gathered = ctx.arena.Allocate<float>(count * cols);
    float* gate = ctx.arena.Allocate<float>(count * width);
    float* up = ctx.arena.Allocate<float>(count * width);
    for (size_t i = 0; i < count; ++i) {
      std::memcpy(gathered + i * cols, x + static_cast<size_t>(rows[begin + i]) * cols,
                  cols * sizeof(float));
    }
    Operand operand(gathered, count, cols, ctx);
    MatMul(operand, mlp.gate_proj, gate, ctx);
    MatMul(operand, mlp.up_proj, up, ctx);
    ctx.table.swiglu(gate, up, count * width, gate);
    visit(gate, count);
  }
}

}  // namespace

// Rows of x [*, hidden] that visit a network. `others`: rows that stand for all tokens, and their
// sums, for those whose own rows are too few; null: none.
struct LayerQuantizer::Inputs {
  const float* x = nullptr;
  std::span<const int32_t> rows;
  std::span<const int32_t> other_rows;
  const Hessian* others = nullptr;
};

LayerQuantizer::LayerQuantizer(const Model& model, size_t layer, const QuantizeOptions& options,
                               KernelContext& ctx, Sink sink)
    : model_(model),
      l_(layer),
      options_(options),
      ctx_(ctx),
      sink_(std::move(sink)),
      layer_(model.LayerOf(layer)) {}

void LayerQuantizer::QuantizeShared(std::span<const std::string> names,
                                    std::span<Matrix* const> matrices, const Hessian& hessian,
                                    uint64_t tokens, double borrowed,
                                    const RoundingOptions& rounding) {
  const GptqPlan plan(hessian, rounding, ctx_.table);
  for (size_t i = 0; i < names.size(); ++i) {
    Matrix& matrix = *matrices[i];
    const std::vector<float> w = Decode(names[i], matrix, ctx_.table);
    const RoundedMatrix rounded = plan.Round(matrix.rows, w.data());
    const TensorReport report = {
        .name = names[i],
        .bits = rounding.scale.bits,
        .method = rounded.method,
        .error = RelativeError(w, rounded.matrix, hessian, ctx_.table),
        .damp = rounded.damp,
        .tokens = tokens,
        .borrowed_tokens = borrowed,
    };
    sink_(names[i], rounded);

    std::vector<uint16_t> decoded(w.size());
    std::vector<float> row(matrix.cols);
    for (size_t r = 0; r < matrix.rows; ++r) {
      rounded.matrix.DecodeRow(r, row.data());
      std::ranges::transform(row, decoded.begin() + static_cast<ptrdiff_t>(r * matrix.cols),
                             F32ToBf16);
    }
    const std::lock_guard lock(mutex_);
    decoded_.push_back(std::move(decoded));
    matrix = {.dtype = DType::kBF16,
              .data = reinterpret_cast<const std::byte*>(decoded_.back().data()),
              .rows = matrix.rows,
              .cols = matrix.cols};
    reports_.push_back(report);
  }
}

void LayerQuantizer::QuantizeAttention(const TokenStream* stream) {
  AttentionWeights& a = layer_.attention;
  const bool has_latent = !a.q_b_proj.empty();
  const bool with_small = options_.small_projections == SmallProjections::kEightBits;
  const size_t hidden = model_.config().hidden_size;
  // Of what enters the layer; of both latents; of what the heads give. One of size 0 is of no use.
  Hessian input_sums(with_small || !has_latent ? hidden : 0);
  Hessian query_sums(has_latent ? a.q_b_proj.cols : 0);
  Hessian latent_sums(with_small ? a.kv_b_proj.cols : 0);
  Hessian output_sums(a.o_proj.cols);
  // Adds norm(x) of rows that lie `stride` apart.
  const auto add_normed = [&](Hessian& sums, const float* x, size_t stride, size_t rows,
                              const float* weight, float eps) {
    if (sums.size() == 0) return;
    std::vector<float> normed(rows * sums.size());
    RmsNorm(x, stride, rows, sums.size(), weight, eps, normed.data(), sums.size(), ctx_);
    sums.Add(normed.data(), rows, ctx_);
  };
  const auto add = [&](const LayerTape& tape, size_t rows) {
    add_normed(input_sums, tape.input, hidden, rows, layer_.input_layernorm,
               static_cast<float>(model_.config().rms_norm_eps));
    add_normed(query_sums, tape.q_latent, query_sums.size(), rows, a.q_a_layernorm, kLatentNormEps);
    add_normed(latent_sums, tape.kv_a, a.kv_a_proj_with_mqa.rows, rows, a.kv_a_layernorm,
               kLatentNormEps);
    output_sums.Add(tape.attended, rows, ctx_);
  };
  if (stream != nullptr) stream->VisitAttention(l_, layer_, ctx_, add);
  const uint64_t tokens = stream != nullptr ? stream->num_tokens() : 0;
  const auto quantize = [&](const char* name, Matrix& matrix, const Hessian& sums,
                            const RoundingOptions& rounding) {
    const std::string full_name = LayerPrefix(l_) + "self_attn." + name;
    Matrix* const matrices[] = {&matrix};
    if (!Wants(matrix, rounding)) return;
    QuantizeShared({&full_name, 1}, matrices, sums, tokens, 0, rounding);
  };
  if (with_small) {
    const RoundingOptions small = SmallRounding(options_);
    quantize("q_a_proj", a.q_a_proj, input_sums, small);
    quantize("kv_a_proj_with_mqa", a.kv_a_proj_with_mqa, input_sums, small);
    quantize("kv_b_proj", a.kv_b_proj, latent_sums, small);
  }
  quantize("q_proj", a.q_proj, input_sums, options_.rounding);
  quantize("q_b_proj", a.q_b_proj, query_sums, options_.rounding);
  quantize("o_proj", a.o_proj, output_sums, options_.rounding);
}

void LayerQuantizer::QuantizeMlp(const std::string& name, MlpWeights& mlp, const Inputs& inputs,
                                 KernelContext& ctx) {
  // An expert that saw few tokens borrows so many of all that they make kRowsPerColumn each column.
  const auto missing = [&](size_t cols) {
    const auto wanted = static_cast<double>(kRowsPerColumn * cols);
    return inputs.others == nullptr
               ? 0.0
               : std::max(0.0, wanted - static_cast<double>(inputs.rows.size()));
  };
  const RoundingOptions& rounding = options_.rounding;
  if (Wants(mlp.gate_proj, rounding)) {
    Hessian sums(mlp.gate_proj.cols);
    sums.AddRows(inputs.x, inputs.rows, ctx);
    const double borrowed = missing(mlp.gate_proj.cols);
    if (borrowed > 0) sums.Blend(*inputs.others, borrowed);
    const std::string names[] = {name + "gate_proj", name + "up_proj"};
    Matrix* const matrices[] = {&mlp.gate_proj, &mlp.up_proj};
    QuantizeShared(names, matrices, sums, inputs.rows.size(), borrowed, rounding);
  }
  if (!Wants(mlp.down_proj, rounding)) return;
  Hessian sums(mlp.down_proj.cols);
  const double borrowed = missing(mlp.down_proj.cols);
  const auto add_to = [&](Hessian& target) {
    return [&target, &ctx](const float* hidden, size_t rows) { target.Add(hidden, rows, ctx); };
  };
  ForHidden(mlp, inputs.x, inputs.rows, ctx, add_to(sums));
  if (borrowed > 0) {
    Hessian others(mlp.down_proj.cols);
    ForHidden(mlp, inputs.x, inputs.other_rows, ctx, add_to(others));
    sums.Blend(others, borrowed);
  }
  const std::string down = name + "down_proj";
  Matrix* const matrices[] = {&mlp.down_proj};
  QuantizeShared({&down, 1}, matrices, sums, inputs.rows.size(), borrowed, rounding);
}

void LayerQuantizer::QuantizeExperts(const Inputs& all) {
  const ModelConfig& config = model_.config();
  const size_t hidden = config.hidden_size, num_experts = config.n_routed_experts;
  ArenaScope scope(ctx_.arena);
  Dispatch dispatch = {.offsets = std::vector<size_t>(num_experts + 1, 0)};
  std::vector<int32_t> other_rows;
  Hessian others(hidden);
  if (!all.rows.empty()) {
    Operand operand(all.x, all.rows.size(), hidden, ctx_);
    dispatch = DispatchRows(config, layer_.moe, l_, operand, ctx_);
    const size_t wanted = 2 * kRowsPerColumn * hidden;
    const size_t step = std::max<size_t>(1, all.rows.size() / wanted);
    for (size_t i = 0; i < all.rows.size(); i += step) other_rows.push_back(all.rows[i]);
    others.AddRows(all.x, other_rows, ctx_);
  }

  // A thread takes a whole expert; what it throws must not leave the task.
  std::vector<std::unique_ptr<ThreadPool>> pools;
  std::vector<std::unique_ptr<KernelContext>> contexts;
  for (size_t t = 0; t < ctx_.pool.num_threads(); ++t) {
    pools.push_back(std::make_unique<ThreadPool>(1));
    contexts.push_back(std::make_unique<KernelContext>(KernelContext{
        .table = ctx_.table, .pool = *pools[t], .allow_bf16_products = ctx_.allow_bf16_products}));
  }
  std::exception_ptr error;
  ctx_.pool.ParallelFor(num_experts, [&](size_t e, size_t thread) {
    try {
      const Inputs inputs = {.x = all.x,
                             .rows = dispatch.RowsOf(e),
                             .other_rows = other_rows,
                             .others = others.weight() > 0 ? &others : nullptr};
      QuantizeMlp(LayerPrefix(l_) + "mlp.experts." + std::to_string(e) + ".", layer_.moe.experts[e],
                  inputs, *contexts[thread]);
    } catch (...) {
      const std::lock_guard lock(mutex_);
      error = std::current_exception();
    }
  });
  if (error) std::rethrow_exception(error);
}

void LayerQuantizer::QuantizeFeedForward(const TokenStream* stream) {
  const size_t hidden = model_.config().hidden_size;
  const size_t rows = stream != nullptr ? stream->num_tokens() : 0;
  std::vector<float> normed(rows * hidden);
  if (rows > 0) {
    RmsNorm(stream->x().data(), hidden, rows, hidden, layer_.post_attention_layernorm,
            static_cast<float>(model_.config().rms_norm_eps), normed.data(), hidden, ctx_);
  }
  const std::vector<int32_t> every_row = EveryRow(rows);
  const Inputs all = {.x = normed.data(), .rows = every_row};
  const std::string prefix = LayerPrefix(l_) + "mlp.";
  if (layer_.moe.experts.empty()) {
    QuantizeMlp(prefix, layer_.mlp, all, ctx_);
    return;
  }
  if (!layer_.moe.shared.gate_proj.empty()) {
    QuantizeMlp(prefix + "shared_experts.", layer_.moe.shared, all, ctx_);
  }
  QuantizeExperts(all);
}

std::vector<TensorReport> LayerQuantizer::TakeReports() {
  std::ranges::sort(reports_, {}, &TensorReport::name);
  return std::move(reports_);
}

}  // namespace baleen
