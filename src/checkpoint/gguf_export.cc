#include "checkpoint/gguf_export.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstring>
#include <exception>
#include <limits>
#include <mutex>
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "base/thread_pool.h"
#include "tensor/blocks.h"

namespace baleen {

namespace {

// Values that a thread takes at a time: 1 MB in F32, which stays in the second-level cache.
constexpr size_t kUnitElements = size_t{1} << 18;

// A tensor of the file, and where its values come from.
struct Planned {
  TensorSpec spec;
  std::vector<Matrix> parts = {};  // one after the other
  bool transposed = false;         // each part on its own
  Vector vector = nullptr;         // instead of parts
};

// Which tensors the file has, in order.
class ExportPlan {
 public:
  ExportPlan(const ModelConfig& config, const ModelWeights& weights, DType type)
      : config_(config), type_(type) {
    Add("token_embd.weight", weights.embed_tokens, type_);
    for (size_t i = 0; i < weights.layers.size(); ++i) AddLayer(i, weights.layers[i]);
    Add("output_norm.weight", weights.norm, config_.hidden_size);
    // Without it the embedding is the head.
    if (weights.lm_head.data != weights.embed_tokens.data) {
      Add("output.weight", weights.lm_head, Careful());
    }
  }

  const std::vector<Planned>& tensors() const { return tensors_; }
  std::vector<TensorSpec> Specs() const {
    std::vector<TensorSpec> specs;
    for (const Planned& tensor : tensors_) specs.push_back(tensor.spec);
    return specs;
  }

 private:
  // The type of small matrices that much depends on, and of the head.
  DType Careful() const { return type_ == DType::kQ4_0 ? DType::kQ8_0 : type_; }

  // Rows that are not whole blocks stay in F16, as with llama.cpp's converter.
  static DType TypeFor(DType wanted, size_t cols) {
    return cols % BlockSize(wanted) == 0 ? wanted : DType::kF16;
  }

  void Add(std::string name, const Matrix& matrix, DType wanted) {
    tensors_.push_back(
        {.spec = {std::move(name), TypeFor(wanted, matrix.cols), {matrix.rows, matrix.cols}},
         .parts = {matrix}});
  }
  void Add(std::string name, Vector vector, size_t size) {
    tensors_.push_back({.spec = {std::move(name), DType::kF32, {size}}, .vector = vector});
  }
  // Matrices of one shape, stacked.
  void AddStack(std::string name, std::vector<Matrix> parts, bool transposed, DType wanted) {
    size_t rows = parts[0].rows, cols = parts[0].cols;
    if (transposed) std::swap(rows, cols);
    tensors_.push_back(
        {.spec = {std::move(name), TypeFor(wanted, cols), {parts.size(), rows, cols}},
         .parts = std::move(parts),
         .transposed = transposed});
  }

  void AddLayer(size_t layer, const LayerWeights& w) {
    const std::string prefix = fmt::format("blk.{}.", layer);
    Add(prefix + "attn_norm.weight", w.input_layernorm, config_.hidden_size);
    AddAttention(prefix, w.attention);
    Add(prefix + "ffn_norm.weight", w.post_attention_layernorm, config_.hidden_size);
    if (config_.IsMoe(layer)) {
      AddMoe(prefix, w.moe);
    } else {
      AddMlp(prefix, ".weight", w.mlp);
    }
  }

  void AddAttention(const std::string& prefix, const AttentionWeights& w) {
    if (config_.q_lora_rank == 0) {
      Add(prefix + "attn_q.weight", w.q_proj, type_);
    } else {
      Add(prefix + "attn_q_a.weight", w.q_a_proj, Careful());
      Add(prefix + "attn_q_a_norm.weight", w.q_a_layernorm, config_.q_lora_rank);
      Add(prefix + "attn_q_b.weight", w.q_b_proj, type_);
    }
    Add(prefix + "attn_kv_a_mqa.weight", w.kv_a_proj_with_mqa, Careful());
    Add(prefix + "attn_kv_a_norm.weight", w.kv_a_layernorm, config_.kv_lora_rank);
    // kv_b_proj has, for each head, W_UK [nope, rank] and then W_UV [values, rank].
    const size_t nope = config_.qk_nope_head_dim, dv = config_.v_head_dim;
    const size_t rank = config_.kv_lora_rank;
    const bool is_split = w.kv_b_proj.empty();
    std::vector<Matrix> keys, values;
    for (size_t h = 0; h < config_.num_attention_heads; ++h) {
      if (is_split) {
        keys.push_back(w.k_b_proj.Rows(h * rank, rank));
        values.push_back(w.v_b_proj.Rows(h * dv, dv));
        continue;
      }
      keys.push_back(w.kv_b_proj.Rows(h * (nope + dv), nope));
      values.push_back(w.kv_b_proj.Rows(h * (nope + dv) + nope, dv));
    }
    AddStack(prefix + "attn_k_b.weight", std::move(keys), /*transposed=*/!is_split, Careful());
    AddStack(prefix + "attn_v_b.weight", std::move(values), /*transposed=*/false, Careful());
    Add(prefix + "attn_output.weight", w.o_proj, type_);
  }

  void AddMlp(const std::string& prefix, const std::string& suffix, const MlpWeights& w) {
    Add(prefix + "ffn_gate" + suffix, w.gate_proj, type_);
    Add(prefix + "ffn_up" + suffix, w.up_proj, type_);
    Add(prefix + "ffn_down" + suffix, w.down_proj, type_);
  }

  void AddMoe(const std::string& prefix, const MoeWeights& w) {
    Add(prefix + "ffn_gate_inp.weight", w.router, DType::kF32);
    if (w.e_score_correction_bias != nullptr) {
      Add(prefix + "exp_probs_b.bias", w.e_score_correction_bias, w.experts.size());
    }
    const auto stack = [&](const char* name, Matrix MlpWeights::*matrix) {
      std::vector<Matrix> parts;
      for (const MlpWeights& expert : w.experts) parts.push_back(expert.*matrix);
      AddStack(prefix + name, std::move(parts), /*transposed=*/false, type_);
    };
    stack("ffn_gate_exps.weight", &MlpWeights::gate_proj);
    stack("ffn_up_exps.weight", &MlpWeights::up_proj);
    stack("ffn_down_exps.weight", &MlpWeights::down_proj);
    if (config_.n_shared_experts > 0) AddMlp(prefix, "_shexp.weight", w.shared);
  }

  const ModelConfig& config_;
  const DType type_;
  std::vector<Planned> tensors_;
};

// The 256 values of FP8: looked up, as decoding one takes longer than all else that is done to it.
const std::array<float, 256>& F8Values() {
  static const std::array<float, 256> values = [] {
    std::array<float, 256> table{};
    for (size_t i = 0; i < table.size(); ++i) table[i] = F8E4M3ToF32(static_cast<uint8_t>(i));
    return table;
  }();
  return values;
}

// Row r as F32.
void LoadRow(const Matrix& m, size_t r, float* out) {
  if (m.dtype != DType::kF8E4M3) {
    return ToF32({.data = m.row(r), .dtype = m.dtype, .shape = {m.cols}}, 0, m.cols, out);
  }
  const std::array<float, 256>& values = F8Values();
  const float* const scales = m.scale_row(r);
  for (size_t c = 0; c < m.cols; ++c) {
    out[c] = values[std::to_integer<uint8_t>(m.row(r)[c])] * scales[c / kernels::kF8Block];
  }
}

// Memory of one thread.
struct Workspace {
  std::vector<float> values, transposed;
  std::vector<std::byte> bytes;
};

class Exporter {
 public:
  Exporter(const std::vector<Planned>& tensors, const GgufExportOptions& options,
           GgufWriter* writer)
      : tensors_(tensors), options_(options), writer_(*writer), pool_(options.num_threads) {
    for (const Planned& tensor : tensors_) total_bytes_ += tensor.spec.size_bytes();
    workspaces_.resize(options.num_threads);
  }

  void Run() {
    uint64_t done = 0;
    for (size_t i = 0; i < tensors_.size(); ++i) {
      const Planned& tensor = tensors_[i];
      if (tensor.vector != nullptr) {
        writer_.Write(i, 0, std::as_bytes(std::span(tensor.vector, tensor.spec.shape[0])));
      } else {
        WriteMatrices(i);
      }
      done += tensor.spec.size_bytes();
      if (options_.on_progress) options_.on_progress(done, total_bytes_);
    }
  }

 private:
  // A run of rows of one part; the whole part where it is transposed.
  struct Unit {
    size_t part, first_row, num_rows;
  };

  static std::vector<Unit> UnitsOf(const Planned& tensor) {
    std::vector<Unit> units;
    for (size_t p = 0; p < tensor.parts.size(); ++p) {
      const Matrix& part = tensor.parts[p];
      const size_t step =
          tensor.transposed ? part.rows : std::max<size_t>(1, kUnitElements / part.cols);
      for (size_t r = 0; r < part.rows; r += step) {
        units.push_back({p, r, std::min(step, part.rows - r)});
      }
    }
    return units;
  }

  void WriteMatrices(size_t index) {
    const std::vector<Unit> units = UnitsOf(tensors_[index]);
    std::mutex mutex;
    std::exception_ptr error;
    std::atomic<bool> stop = false;
    pool_.ParallelFor(units.size(), [&](size_t i, size_t thread) {
      if (stop) return;
      try {
        WriteUnit(index, units[i], workspaces_[thread]);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!stop.exchange(true)) error = std::current_exception();
      }
    });
    if (error) std::rethrow_exception(error);
  }

  void WriteUnit(size_t index, const Unit& unit, Workspace& space) {
    if (options_.cancelled && options_.cancelled()) {
      Throw(ErrorCode::kCancelled, "interrupted; nothing was written");
    }
    const Planned& tensor = tensors_[index];
    const Matrix& part = tensor.parts[unit.part];
    const DType dtype = tensor.spec.dtype;
    const size_t first = unit.part * part.rows * part.cols + unit.first_row * part.cols;
    const size_t count = unit.num_rows * part.cols;
    const uint64_t offset = RowBytes(dtype, first);
    if (part.dtype == dtype && !tensor.transposed) {
      return writer_.Write(index, offset, {part.row(unit.first_row), RowBytes(dtype, count)});
    }
    space.values.resize(count);
    for (size_t r = 0; r < unit.num_rows; ++r) {
      LoadRow(part, unit.first_row + r, space.values.data() + r * part.cols);
    }
    if (tensor.transposed) Transpose(part.rows, part.cols, space);
    CheckValues(tensor.spec, space.values);
    space.bytes.resize(RowBytes(dtype, count));
    Encode(dtype, space.values, space.bytes.data());
    writer_.Write(index, offset, space.bytes);
  }

  static void Transpose(size_t rows, size_t cols, Workspace& space) {
    space.transposed.resize(rows * cols);
    for (size_t c = 0; c < cols; ++c) {
      for (size_t r = 0; r < rows; ++r) {
        space.transposed[c * rows + r] = space.values[r * cols + c];
      }
    }
    space.values.swap(space.transposed);
  }

  // What the type cannot hold would come out as infinite or, quantized, as zeros.
  static void CheckValues(const TensorSpec& spec, const std::vector<float>& values) {
    const bool is_wide = spec.dtype == DType::kF32 || spec.dtype == DType::kBF16;
    const float limit = is_wide ? std::numeric_limits<float>::max() : 65504.0f;  // of F16
    // Of magnitudes the bits are in the same order, NaN above all: one comparison, no branch.
    int32_t largest = 0;
    for (const float value : values) {
      largest = std::max(largest, std::bit_cast<int32_t>(value) & 0x7fffffff);
    }
    const bool is_inside = largest <= std::bit_cast<int32_t>(limit);
    if (is_inside) return;
    Throw(ErrorCode::kCorruption,
          "the weights of {} hold a value that is not a number, or too large for {}", spec.name,
          DTypeName(spec.dtype));
  }

  static void Encode(DType dtype, const std::vector<float>& values, std::byte* out) {
    if (IsBlockType(dtype)) return EncodeBlocks(dtype, values.data(), values.size(), out);
    if (dtype == DType::kF32) {
      std::memcpy(out, values.data(), values.size() * sizeof(float));
      return;
    }
    for (size_t i = 0; i < values.size(); ++i) {
      const uint16_t bits = dtype == DType::kBF16 ? F32ToBf16(values[i]) : F32ToF16(values[i]);
      std::memcpy(out + i * sizeof(bits), &bits, sizeof(bits));
    }
  }

  const std::vector<Planned>& tensors_;
  const GgufExportOptions& options_;
  GgufWriter& writer_;
  ThreadPool pool_;
  std::vector<Workspace> workspaces_;
  uint64_t total_bytes_ = 0;
};

}  // namespace

GgufExportResult ExportGguf(const Checkpoint& checkpoint, const std::string& path,
                            const GgufExportOptions& options) {
  const ExportPlan plan(checkpoint.config.model, checkpoint.weights, options.type);
  for (const Planned& tensor : plan.tensors()) {
    for (const Matrix& part : tensor.parts) {
      if (!part.is_tiled()) continue;
      Throw(ErrorCode::kUnimplemented,
            "{}: is quantized already; convert the checkpoint that it was made from",
            checkpoint.path.name);
    }
  }
  GgufWriter writer(path, GgufExportKeys(checkpoint, options.type), plan.Specs(), options.sync);
  Exporter(plan.tensors(), options, &writer).Run();
  writer.Finish();
  return {writer.file_bytes(), plan.tensors().size()};
}

}  // namespace baleen
