#include "checkpoint/load_weights.h"

#include <string>
#include <unordered_set>

#include "base/error.h"
#include "checkpoint/gguf_checkpoint.h"

namespace baleen {

namespace {

constexpr size_t kMaxMissing = 1000;

size_t CeilDiv(size_t a, size_t b) { return (a + b - 1) / b; }

// Types that a matrix may have without anything beside it.
bool IsPlainWeight(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16 ||
         IsBlockType(dtype);
}

class Loader {
 public:
  Loader(const ParsedConfig& parsed, const WeightSource& source, PackedMatrices* packed)
      : parsed_(parsed), config_(parsed.model), source_(source), packed_(packed) {}

  ModelWeights Load();

 private:
  // A weight matrix [rows, cols]; empty (and noted) when it is missing.
  Matrix LoadMatrix(const std::string& name, size_t rows, size_t cols);
  // The same stored as [experts, rows, cols], one matrix of experts * rows rows.
  Matrix LoadPacked(const std::string& name, size_t experts, size_t rows, size_t cols);
  Vector LoadVector(const std::string& name, size_t size);
  // The matrix NAME of a GPTQ directory, decoded or put into *packed_.
  Matrix LoadGptq(const std::string& name, size_t rows, size_t cols);
  Matrix DecodeGptq(const GptqTensor& tensor);
  bool CanBeTiles(const std::string& name, const GptqTensor& tensor) const;
  const float* LoadScales(const std::string& name, const Matrix& matrix);

  AttentionWeights LoadAttention(const std::string& prefix);
  MlpWeights LoadMlp(const std::string& prefix, size_t width);
  MoeWeights LoadMoe(const std::string& prefix);
  LayerWeights LoadLayer(size_t layer, bool is_moe);
  MtpWeights LoadMtp(size_t layer);

  const TensorView* Find(const std::string& name);
  const TensorView* Require(const std::string& name, const Shape& shape);
  void CheckComplete() const;

  const ParsedConfig& parsed_;
  const ModelConfig& config_;
  const WeightSource& source_;
  PackedMatrices* const packed_;
  ModelWeights weights_;
  std::unordered_set<std::string> used_;
  std::vector<std::string> missing_;
};

const TensorView* Loader::Find(const std::string& name) {
  const TensorView* view = source_.Find(name);
  if (view != nullptr) used_.insert(name);
  return view;
}

const TensorView* Loader::Require(const std::string& name, const Shape& shape) {
  const TensorView* view = Find(name);
  if (view == nullptr) {
    missing_.push_back(name);
    // A config that asks for millions of experts must not make us list them all.
    if (missing_.size() >= kMaxMissing) CheckComplete();
    return nullptr;
  }
  if (view->shape != shape) {
    Throw(ErrorCode::kCorruption, "{}: tensor {} has shape {}, but the config asks for {}",
          source_.FileOf(name), name, ShapeToString(view->shape), ShapeToString(shape));
  }
  return view;
}

const float* Loader::LoadScales(const std::string& name, const Matrix& matrix) {
  const std::string scale_name = name + "_scale_inv";
  const Shape shape = {CeilDiv(matrix.rows, kernels::kF8Block),
                       CeilDiv(matrix.cols, kernels::kF8Block)};
  const TensorView* view = Require(scale_name, shape);
  if (view == nullptr) return nullptr;
  if (view->dtype != DType::kF32 && view->dtype != DType::kBF16 && view->dtype != DType::kF8E8M0) {
    Throw(ErrorCode::kCorruption, "{}: tensor {} has type {}, expected F32, BF16 or F8_E8M0",
          source_.FileOf(scale_name), scale_name, DTypeName(view->dtype));
  }
  weights_.owned.push_back(ToF32(*view));
  return weights_.owned.back().data();
}

bool Loader::CanBeTiles(const std::string& name, const GptqTensor& tensor) const {
  if (!LayoutOf(tensor).IsValid()) return false;
  // The router multiplies in F32; attention takes parts of kv_b_proj, head by head.
  if (name.ends_with(".mlp.gate")) return false;
  if (!name.ends_with(".kv_b_proj")) return true;
  return config_.qk_nope_head_dim % kTileRows == 0 && config_.v_head_dim % kTileRows == 0 &&
         tensor.has_plain_groups();
}

Matrix Loader::LoadGptq(const std::string& name, size_t rows, size_t cols) {
  for (const char* part : {".qweight", ".qzeros", ".scales", ".g_idx"}) Find(name + part);
  auto tensor = std::make_shared<const GptqTensor>(source_, name, parsed_.gptq, rows, cols);
  if (packed_ == nullptr || !CanBeTiles(name, *tensor)) return DecodeGptq(*tensor);
  Matrix matrix = {
      .dtype = DType::kI32, .data = tensor->qweight().data, .rows = rows, .cols = cols};
  if (!tensor->has_plain_groups()) {
    // Matrices that read the same activations often share their order: kept once, so that the
    // reordered activations are shared too.
    matrix.column_order = weights_.column_orders.insert(tensor->column_order()).first->data();
  }
  packed_->emplace(matrix.data, std::move(tensor));
  return matrix;
}

Matrix Loader::DecodeGptq(const GptqTensor& tensor) {
  const GptqShape& shape = tensor.shape();
  const size_t rows = shape.rows, cols = shape.cols;
  std::vector<uint8_t> codes(cols);
  std::vector<uint16_t> scales(shape.num_groups()), zeros(shape.num_groups());
  std::vector<float> values(rows * cols);
  for (size_t r = 0; r < rows; ++r) {
    tensor.Read(r, 1, codes.data(), scales.data(), zeros.data());
    for (size_t c = 0; c < cols; ++c) {
      const size_t col =
          tensor.has_plain_groups() ? c : static_cast<size_t>(tensor.column_order()[c]);
      const size_t group = c / shape.group_cols;
      values[r * cols + col] =
          static_cast<float>(codes[c] - zeros[group]) * F16ToF32(scales[group]);
    }
  }
  weights_.owned.push_back(std::move(values));
  return {.dtype = DType::kF32,
          .data = reinterpret_cast<const std::byte*>(weights_.owned.back().data()),
          .rows = rows,
          .cols = cols};
}

Matrix Loader::LoadMatrix(const std::string& name, size_t rows, size_t cols) {
  if (parsed_.quantization == WeightQuantization::kGptq) {
    const std::string stem = name.substr(0, name.rfind('.'));
    if (GptqTensor::IsIn(source_, stem)) return LoadGptq(stem, rows, cols);
  }
  const TensorView* view = Require(name, {rows, cols});
  if (view == nullptr) return {};
  Matrix matrix = {.dtype = view->dtype, .data = view->data, .rows = rows, .cols = cols};
  if (IsPlainWeight(view->dtype)) return matrix;
  if (view->dtype != DType::kF8E4M3) {
    Throw(ErrorCode::kCorruption, "{}: tensor {} has type {}, expected F32, F16, BF16 or F8_E4M3",
          source_.FileOf(name), name, DTypeName(view->dtype));
  }
  matrix.scales = LoadScales(name, matrix);
  return matrix;
}

Matrix Loader::LoadPacked(const std::string& name, size_t experts, size_t rows, size_t cols) {
  const TensorView* view = Require(name, {experts, rows, cols});
  if (view == nullptr) return {};
  if (!IsPlainWeight(view->dtype)) {
    Throw(ErrorCode::kCorruption, "{}: tensor {} has type {}, expected F32, F16 or BF16",
          source_.FileOf(name), name, DTypeName(view->dtype));
  }
  return {.dtype = view->dtype, .data = view->data, .rows = experts * rows, .cols = cols};
}

Vector Loader::LoadVector(const std::string& name, size_t size) {
  const TensorView* view = Require(name, {size});
  if (view == nullptr) return nullptr;
  if (view->dtype != DType::kF32 && view->dtype != DType::kF16 && view->dtype != DType::kBF16) {
    Throw(ErrorCode::kCorruption, "{}: tensor {} has type {}, expected F32, F16 or BF16",
          source_.FileOf(name), name, DTypeName(view->dtype));
  }
  weights_.owned.push_back(ToF32(*view));
  return weights_.owned.back().data();
}

AttentionWeights Loader::LoadAttention(const std::string& prefix) {
  const size_t h = config_.num_attention_heads, hidden = config_.hidden_size;
  AttentionWeights w;
  if (config_.q_lora_rank == 0) {
    w.q_proj = LoadMatrix(prefix + "q_proj.weight", h * config_.qk_head_dim(), hidden);
  } else {
    w.q_a_proj = LoadMatrix(prefix + "q_a_proj.weight", config_.q_lora_rank, hidden);
    w.q_a_layernorm = LoadVector(prefix + "q_a_layernorm.weight", config_.q_lora_rank);
    w.q_b_proj =
        LoadMatrix(prefix + "q_b_proj.weight", h * config_.qk_head_dim(), config_.q_lora_rank);
  }
  w.kv_a_proj_with_mqa =
      LoadMatrix(prefix + "kv_a_proj_with_mqa.weight", config_.latent_dim(), hidden);
  w.kv_a_layernorm = LoadVector(prefix + "kv_a_layernorm.weight", config_.kv_lora_rank);
  if (source_.Find(prefix + kKeyHalf) != nullptr) {
    w.k_b_proj = LoadMatrix(prefix + kKeyHalf, h * config_.kv_lora_rank, config_.qk_nope_head_dim);
    w.v_b_proj = LoadMatrix(prefix + kValueHalf, h * config_.v_head_dim, config_.kv_lora_rank);
    used_.insert(prefix + "kv_b_proj.weight");  // which is made of the two
  } else {
    w.kv_b_proj =
        LoadMatrix(prefix + "kv_b_proj.weight", h * (config_.qk_nope_head_dim + config_.v_head_dim),
                   config_.kv_lora_rank);
  }
  w.o_proj = LoadMatrix(prefix + "o_proj.weight", hidden, h * config_.v_head_dim);
  return w;
}

MlpWeights Loader::LoadMlp(const std::string& prefix, size_t width) {
  MlpWeights w;
  w.gate_proj = LoadMatrix(prefix + "gate_proj.weight", width, config_.hidden_size);
  w.up_proj = LoadMatrix(prefix + "up_proj.weight", width, config_.hidden_size);
  w.down_proj = LoadMatrix(prefix + "down_proj.weight", config_.hidden_size, width);
  return w;
}

MoeWeights Loader::LoadMoe(const std::string& prefix) {
  const size_t experts = config_.n_routed_experts, width = config_.moe_intermediate_size;
  const size_t hidden = config_.hidden_size;
  MoeWeights w;
  w.router = LoadMatrix(prefix + "gate.weight", experts, hidden);
  if (config_.topk_method == TopkMethod::kNoauxTc) {
    w.e_score_correction_bias = LoadVector(prefix + "gate.e_score_correction_bias", experts);
  }
  w.experts.resize(experts);
  if (source_.Find(prefix + "experts.gate_up_proj") != nullptr) {
    // As transformers saves them from version 5 on: all experts in two tensors, gate rows first.
    const Matrix gate_up = LoadPacked(prefix + "experts.gate_up_proj", experts, 2 * width, hidden);
    const Matrix down = LoadPacked(prefix + "experts.down_proj", experts, hidden, width);
    for (size_t e = 0; e < experts && !down.empty(); ++e) {
      w.experts[e].gate_proj = gate_up.Rows(e * 2 * width, width);
      w.experts[e].up_proj = gate_up.Rows(e * 2 * width + width, width);
      w.experts[e].down_proj = down.Rows(e * hidden, hidden);
    }
  } else if (source_.Find(prefix + "experts.gate_proj") != nullptr) {
    // As GGUF has them: all experts in three tensors.
    const Matrix gate = LoadPacked(prefix + "experts.gate_proj", experts, width, hidden);
    const Matrix up = LoadPacked(prefix + "experts.up_proj", experts, width, hidden);
    const Matrix down = LoadPacked(prefix + "experts.down_proj", experts, hidden, width);
    for (size_t e = 0; e < experts && !up.empty() && !down.empty(); ++e) {
      w.experts[e] = {.gate_proj = gate.Rows(e * width, width),
                      .up_proj = up.Rows(e * width, width),
                      .down_proj = down.Rows(e * hidden, hidden)};
    }
  } else {
    for (size_t e = 0; e < experts; ++e) {
      w.experts[e] = LoadMlp(prefix + "experts." + std::to_string(e) + ".", width);
    }
  }
  if (config_.n_shared_experts > 0) {
    w.shared = LoadMlp(prefix + "shared_experts.", config_.n_shared_experts * width);
  }
  return w;
}

LayerWeights Loader::LoadLayer(size_t layer, bool is_moe) {
  const std::string prefix = "model.layers." + std::to_string(layer) + ".";
  LayerWeights w;
  w.input_layernorm = LoadVector(prefix + "input_layernorm.weight", config_.hidden_size);
  w.attention = LoadAttention(prefix + "self_attn.");
  w.post_attention_layernorm =
      LoadVector(prefix + "post_attention_layernorm.weight", config_.hidden_size);
  if (is_moe) {
    w.moe = LoadMoe(prefix + "mlp.");
  } else {
    w.mlp = LoadMlp(prefix + "mlp.", config_.intermediate_size);
  }
  return w;
}

MtpWeights Loader::LoadMtp(size_t layer) {
  const std::string prefix = "model.layers." + std::to_string(layer) + ".";
  const size_t hidden = config_.hidden_size, vocab = config_.vocab_size;
  MtpWeights w;
  w.layer = LoadLayer(layer, config_.n_routed_experts > 0);
  w.enorm = LoadVector(prefix + "enorm.weight", hidden);
  w.hnorm = LoadVector(prefix + "hnorm.weight", hidden);
  w.eh_proj = LoadMatrix(prefix + "eh_proj.weight", hidden, 2 * hidden);
  w.shared_head_norm = LoadVector(prefix + "shared_head.norm.weight", hidden);
  // Some writers leave out the two large tensors, which repeat the model's own.
  w.embed_tokens = source_.Find(prefix + "embed_tokens.weight")
                       ? LoadMatrix(prefix + "embed_tokens.weight", vocab, hidden)
                       : weights_.embed_tokens;
  w.shared_head = source_.Find(prefix + "shared_head.head.weight")
                      ? LoadMatrix(prefix + "shared_head.head.weight", vocab, hidden)
                      : weights_.lm_head;
  return w;
}

void Loader::CheckComplete() const {
  const auto list = [](const std::vector<std::string>& names) {
    std::string text;
    for (size_t i = 0; i < names.size() && i < 3; ++i) text += (i > 0 ? ", " : "") + names[i];
    if (names.size() > 3) text += fmt::format(" and {} more", names.size() - 3);
    return text;
  };
  if (!missing_.empty()) {
    Throw(ErrorCode::kCorruption,
          "the weights lack tensors that the config asks for: {}; is a shard missing?",
          list(missing_));
  }
  std::vector<std::string> extra;
  for (const std::string& name : source_.Names()) {
    // Buffers of old checkpoints that follow from the config.
    if (!used_.contains(name) && !name.ends_with("rotary_emb.inv_freq")) extra.push_back(name);
  }
  if (!extra.empty()) {
    Throw(ErrorCode::kCorruption,
          "{}: tensors that the config does not ask for: {}; do config.json and weights belong "
          "together?",
          source_.FileOf(extra[0]), list(extra));
  }
}

ModelWeights Loader::Load() {
  const size_t hidden = config_.hidden_size, vocab = config_.vocab_size;
  weights_.embed_tokens = LoadMatrix("model.embed_tokens.weight", vocab, hidden);
  if (parsed_.tie_word_embeddings) {
    weights_.lm_head = weights_.embed_tokens;
    Find("lm_head.weight");
  } else {
    weights_.lm_head = LoadMatrix("lm_head.weight", vocab, hidden);
  }
  weights_.norm = LoadVector("model.norm.weight", hidden);
  for (size_t l = 0; l < config_.num_hidden_layers; ++l) {
    weights_.layers.push_back(LoadLayer(l, config_.IsMoe(l)));
  }
  for (size_t i = 0; i < config_.num_nextn_predict_layers; ++i) {
    // A checkpoint that was saved by transformers has lost its MTP layers; it still runs.
    const size_t layer = config_.num_hidden_layers + i;
    if (source_.Find("model.layers." + std::to_string(layer) + ".eh_proj.weight") == nullptr) break;
    weights_.mtp.push_back(LoadMtp(layer));
  }
  CheckComplete();
  return std::move(weights_);
}

}  // namespace

TileLayout LayoutOf(const GptqTensor& tensor) {
  const GptqShape& shape = tensor.shape();
  return {.cols = shape.cols,
          .bits = shape.bits,
          .group_cols = shape.group_cols,
          .has_zeros = tensor.has_zeros()};
}

ModelWeights LoadWeights(const ParsedConfig& config, std::shared_ptr<const WeightSource> source,
                         PackedMatrices* packed) {
  ModelWeights weights = Loader(config, *source, packed).Load();
  weights.source = std::move(source);
  return weights;
}

}  // namespace baleen
