// GgufWeights: tensors by their Hugging Face names.
#include <array>
#include <charconv>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "base/quote.h"
#include "checkpoint/gguf_checkpoint.h"
#include "tensor/tiles.h"

namespace baleen {

namespace {

struct Name {
  std::string_view gguf, hugging_face;
};

constexpr std::array<Name, 3> kModelNames = {{
    {"token_embd.weight", "model.embed_tokens.weight"},
    {"output_norm.weight", "model.norm.weight"},
    {"output.weight", "lm_head.weight"},
}};

// Behind "blk.N." and "model.layers.N.".
constexpr std::array<Name, 28> kLayerNames = {{
    {"attn_norm.weight", "input_layernorm.weight"},
    {"attn_q.weight", "self_attn.q_proj.weight"},
    {"attn_q_a.weight", "self_attn.q_a_proj.weight"},
    {"attn_q_a_norm.weight", "self_attn.q_a_layernorm.weight"},
    {"attn_q_b.weight", "self_attn.q_b_proj.weight"},
    {"attn_kv_a_mqa.weight", "self_attn.kv_a_proj_with_mqa.weight"},
    {"attn_kv_a_norm.weight", "self_attn.kv_a_layernorm.weight"},
    {"attn_kv_b.weight", "self_attn.kv_b_proj.weight"},
    {"attn_output.weight", "self_attn.o_proj.weight"},
    {"ffn_norm.weight", "post_attention_layernorm.weight"},
    {"ffn_gate.weight", "mlp.gate_proj.weight"},
    {"ffn_up.weight", "mlp.up_proj.weight"},
    {"ffn_down.weight", "mlp.down_proj.weight"},
    {"ffn_gate_inp.weight", "mlp.gate.weight"},
    {"exp_probs_b.bias", "mlp.gate.e_score_correction_bias"},
    {"ffn_gate_exps.weight", "mlp.experts.gate_proj"},
    {"ffn_up_exps.weight", "mlp.experts.up_proj"},
    {"ffn_down_exps.weight", "mlp.experts.down_proj"},
    {"ffn_gate_shexp.weight", "mlp.shared_experts.gate_proj.weight"},
    {"ffn_up_shexp.weight", "mlp.shared_experts.up_proj.weight"},
    {"ffn_down_shexp.weight", "mlp.shared_experts.down_proj.weight"},
    {"nextn.eh_proj.weight", "eh_proj.weight"},
    {"nextn.embed_tokens.weight", "embed_tokens.weight"},
    {"nextn.enorm.weight", "enorm.weight"},
    {"nextn.hnorm.weight", "hnorm.weight"},
    {"nextn.shared_head_head.weight", "shared_head.head.weight"},
    {"nextn.shared_head_norm.weight", "shared_head.norm.weight"},
    {"nextn.shared_head.norm.weight", "shared_head.norm.weight"},
}};

constexpr std::string_view kKeys = "attn_k_b.weight", kValues = "attn_v_b.weight";

template <size_t N>
std::optional<std::string_view> Translate(const std::array<Name, N>& names, std::string_view gguf) {
  for (const Name& name : names) {
    if (name.gguf == gguf) return name.hugging_face;
  }
  return std::nullopt;
}

// "blk.12.rest": the number and the rest.
struct LayerName {
  size_t layer;
  std::string_view rest;
};
std::optional<LayerName> SplitLayerName(std::string_view name) {
  constexpr std::string_view kPrefix = "blk.";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  LayerName split{};
  const char* const begin = name.data() + kPrefix.size();
  const char* const end = name.data() + name.size();
  const auto [after, error] = std::from_chars(begin, end, split.layer);
  if (error != std::errc() || after == end || *after != '.') return std::nullopt;
  split.rest = std::string_view(after + 1, end);
  return split;
}

class GgufSource : public WeightSource {
 public:
  GgufSource(std::shared_ptr<const GgufModel> model, const ModelConfig& config)
      : model_(std::move(model)), config_(config) {
    for (const std::string& name : model_->Names()) AddTensor(name);
  }

  const TensorView* Find(const std::string& name) const override {
    if (const auto half = halves_.find(name); half != halves_.end()) return &half->second;
    const auto found = places_.find(name);
    if (found == places_.end()) return nullptr;
    if (!found->second.joined_layer.empty()) {
      const std::lock_guard lock(join_mutex_);
      if (found->second.view.data == nullptr) {
        found->second.view = JoinKeysAndValues(found->second.joined_layer);
      }
    }
    return &found->second.view;
  }
  std::vector<std::string> Names() const override {
    std::vector<std::string> names;
    names.reserve(places_.size());
    for (const auto& [name, place] : places_) names.push_back(name);
    return names;
  }
  std::string FileOf(const std::string& name) const override {
    const auto found = places_.find(name);
    BALEEN_CHECK(found != places_.end());
    return model_->FileOf(found->second.gguf);
  }
  std::optional<FilePlace> PlaceOf(const std::byte* data) const override {
    return model_->PlaceOf(data);
  }

 private:
  struct Place {
    mutable TensorView view;
    std::string gguf;               // its name in the file
    std::string joined_layer = {};  // "blk.N.": joined from two tensors when somebody asks for it
  };

  void AddTensor(const std::string& name) {
    const TensorView& view = *model_->Find(name);
    if (const auto known = Translate(kModelNames, name))
      return Add(std::string(*known), view, name);
    const auto split = SplitLayerName(name);
    if (!split) return Add(name, view, name);  // LoadWeights refuses what nobody asks for
    const std::string prefix = fmt::format("model.layers.{}.", split->layer);
    if (const auto known = Translate(kLayerNames, split->rest)) {
      return Add(prefix + std::string(*known), view, name);
    }
    if (split->rest != kKeys && split->rest != kValues) return Add(name, view, name);
    // Some files have the halves besides the whole.
    const std::string layer = fmt::format("blk.{}.", split->layer);
    if (model_->Find(layer + "attn_kv_b.weight") != nullptr || split->rest == kValues) return;
    const std::string joined = prefix + "self_attn.kv_b_proj.weight";
    if (!StayApart(layer)) return Add(joined, JoinKeysAndValues(layer), name);
    const size_t heads = config_.num_attention_heads, rank = config_.kv_lora_rank;
    const size_t nope = config_.qk_nope_head_dim, dv = config_.v_head_dim;
    Add(joined, {.dtype = DType::kF32, .shape = {heads * (nope + dv), rank}}, name, layer);
    AddHalf(prefix + "self_attn." + kKeyHalf, layer + std::string(kKeys), heads * rank, nope);
    AddHalf(prefix + "self_attn." + kValueHalf, layer + std::string(kValues), heads * dv, rank);
  }

  // Halves that become tiles are used as they are.
  bool StayApart(const std::string& layer) const {
    if (config_.kv_lora_rank % kTileRows != 0 || config_.v_head_dim % kTileRows != 0) return false;
    const auto can_be_tiles = [&](std::string_view name) {
      const TensorView* view = model_->Find(layer + std::string(name));
      return view != nullptr && IsBlockType(view->dtype);
    };
    return can_be_tiles(kKeys) && can_be_tiles(kValues);
  }

  void AddHalf(std::string name, const std::string& gguf, size_t rows, size_t cols) {
    TensorView view = Half(gguf, rows, cols);
    view.shape = {rows, cols};
    halves_.emplace(std::move(name), view);
  }

  void Add(std::string name, const TensorView& view, const std::string& gguf,
           std::string joined_layer = {}) {
    const auto [place, added] =
        places_.emplace(std::move(name), Place{view, gguf, std::move(joined_layer)});
    if (!added) {
      Throw(ErrorCode::kCorruption, "{}: tensors {} and {} are the same weights",
            model_->FileOf(gguf), Quote(place->second.gguf), Quote(gguf));
    }
  }

  // attn_k_b [heads, rank, nope] is W_UK transposed, attn_v_b [heads, values, rank] is W_UV; the
  // checkpoint has, for each head, W_UK [nope, rank] and then W_UV.
  TensorView JoinKeysAndValues(const std::string& layer) const {
    const size_t heads = config_.num_attention_heads, rank = config_.kv_lora_rank;
    const size_t nope = config_.qk_nope_head_dim, dv = config_.v_head_dim;
    const TensorView& keys = Half(layer + std::string(kKeys), heads * rank, nope);
    const TensorView& values = Half(layer + std::string(kValues), heads * dv, rank);
    const bool narrow =
        keys.dtype == values.dtype && (keys.dtype == DType::kBF16 || keys.dtype == DType::kF16);
    TensorView joined = {.dtype = narrow ? keys.dtype : DType::kF32,
                         .shape = {heads * (nope + dv), rank}};
    std::vector<std::byte>& bytes = owned_.emplace_back(joined.size_bytes());
    joined.data = bytes.data();
    std::vector<float> stored(rank * nope), head((nope + dv) * rank);
    for (size_t h = 0; h < heads; ++h) {
      ToF32(keys, h * stored.size(), stored.size(), stored.data());
      for (size_t c = 0; c < rank; ++c) {
        for (size_t d = 0; d < nope; ++d) head[d * rank + c] = stored[c * nope + d];
      }
      ToF32(values, h * dv * rank, dv * rank, head.data() + nope * rank);
      Store(head, joined.dtype, bytes.data() + RowBytes(joined.dtype, h * head.size()));
    }
    return joined;
  }

  // A tensor of rows x cols, whatever dimensions the rows are written in.
  const TensorView& Half(const std::string& name, size_t rows, size_t cols) const {
    const TensorView* view = model_->Find(name);
    if (view == nullptr) {
      Throw(ErrorCode::kCorruption, "{}: tensor {} is missing", model_->metadata().path(), name);
    }
    const bool is_float = IsBlockType(view->dtype) || view->dtype == DType::kF32 ||
                          view->dtype == DType::kF16 || view->dtype == DType::kBF16;
    if (view->shape.back() != cols || view->num_elements() / cols != rows || !is_float) {
      Throw(ErrorCode::kCorruption, "{}: tensor {} is {} {}, but the keys ask for {} rows of {}",
            model_->FileOf(name), name, DTypeName(view->dtype), ShapeToString(view->shape), rows,
            cols);
    }
    return *view;
  }

  // Values that came from `dtype`, or F32, back to it.
  static void Store(const std::vector<float>& values, DType dtype, std::byte* out) {
    if (dtype == DType::kF32) {
      std::memcpy(out, values.data(), values.size() * sizeof(float));
      return;
    }
    for (size_t i = 0; i < values.size(); ++i) {
      const uint16_t bits = dtype == DType::kBF16 ? F32ToBf16(values[i]) : F32ToF16(values[i]);
      std::memcpy(out + i * sizeof(bits), &bits, sizeof(bits));
    }
  }

  std::shared_ptr<const GgufModel> model_;
  const ModelConfig config_;
  std::map<std::string, Place> places_;
  std::map<std::string, TensorView> halves_;  // found by name, but not listed
  mutable std::mutex join_mutex_;
  mutable std::deque<std::vector<std::byte>> owned_;
};

}  // namespace

std::shared_ptr<const WeightSource> GgufWeights(std::shared_ptr<const GgufModel> model,
                                                const ModelConfig& config) {
  return std::make_shared<GgufSource>(std::move(model), config);
}

}  // namespace baleen
