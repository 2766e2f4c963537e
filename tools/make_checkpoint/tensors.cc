#include "tensors.h"

#include <string>

#include "base/error.h"

namespace baleen::make_checkpoint {

namespace {

constexpr size_t kFp8Block = 128;
constexpr size_t kMaxSize = size_t{1} << 24;  // no dimension of any model comes near

class TensorLister {
 public:
  TensorLister(const Json& config, DType dtype) : config_(config), dtype_(dtype) {}

  std::vector<SyntheticTensor> List() {
    const size_t num_layers = Size("num_hidden_layers");
    const size_t num_mtp_layers = SizeOr("num_nextn_predict_layers", 0);
    Weights("model.embed_tokens", Size("vocab_size"), hidden_);
    for (size_t layer = 0; layer < num_layers; ++layer) Layer(layer);
    for (size_t i = 0; i < num_mtp_layers; ++i) MtpLayer(num_layers + i);
    Norm("model.norm", hidden_);
    Weights("lm_head", Size("vocab_size"), hidden_);
    return std::move(tensors_);
  }

 private:
  size_t Size(const char* key) const {
    const auto found = config_.find(key);
    if (found == config_.end() || !found->is_number_unsigned() || *found > kMaxSize) {
      Throw(ErrorCode::kInvalidArgument, "config: {} is not a whole number from 0 to {}", key,
            kMaxSize);
    }
    return found->get<size_t>();
  }

  size_t SizeOr(const char* key, size_t absent) const {
    const auto found = config_.find(key);
    return found == config_.end() || found->is_null() ? absent : Size(key);
  }

  bool IsMoe(size_t layer) const {
    const size_t frequency = SizeOr("moe_layer_freq", 1);
    return layer >= SizeOr("first_k_dense_replace", 0) && frequency > 0 && layer % frequency == 0;
  }

  void Layer(size_t layer) {
    const std::string prefix = fmt::format("model.layers.{}.", layer);
    Norm(prefix + "input_layernorm", hidden_);
    Attention(prefix + "self_attn.");
    Norm(prefix + "post_attention_layernorm", hidden_);
    if (IsMoe(layer)) {
      Moe(prefix + "mlp.");
    } else {
      SwiGlu(prefix + "mlp.", Size("intermediate_size"));
    }
  }

  void MtpLayer(size_t layer) {
    const std::string prefix = fmt::format("model.layers.{}.", layer);
    Layer(layer);
    Weights(prefix + "embed_tokens", Size("vocab_size"), hidden_);
    Norm(prefix + "enorm", hidden_);
    Norm(prefix + "hnorm", hidden_);
    Weights(prefix + "eh_proj", hidden_, 2 * hidden_);
    Norm(prefix + "shared_head.norm", hidden_);
    Weights(prefix + "shared_head.head", Size("vocab_size"), hidden_);
  }

  void Attention(const std::string& prefix) {
    const size_t heads = Size("num_attention_heads");
    const size_t nope = Size("qk_nope_head_dim");
    const size_t rope = Size("qk_rope_head_dim");
    const size_t value = Size("v_head_dim");
    const size_t latent = Size("kv_lora_rank");
    if (const size_t q_rank = SizeOr("q_lora_rank", 0); q_rank > 0) {
      Projection(prefix + "q_a_proj", q_rank, hidden_);
      Norm(prefix + "q_a_layernorm", q_rank);
      Projection(prefix + "q_b_proj", heads * (nope + rope), q_rank);
    } else {
      Projection(prefix + "q_proj", heads * (nope + rope), hidden_);
    }
    Projection(prefix + "kv_a_proj_with_mqa", latent + rope, hidden_);
    Norm(prefix + "kv_a_layernorm", latent);
    Projection(prefix + "kv_b_proj", heads * (nope + value), latent);
    Projection(prefix + "o_proj", hidden_, heads * value);
  }

  void Moe(const std::string& prefix) {
    const size_t experts = Size("n_routed_experts");
    const size_t width = Size("moe_intermediate_size");
    Weights(prefix + "gate", experts, hidden_);
    if (config_.value("topk_method", "") == "noaux_tc") {
      Add(prefix + "gate.e_score_correction_bias", DType::kF32, {experts}, Content::kBias);
    }
    for (size_t i = 0; i < experts; ++i) SwiGlu(fmt::format("{}experts.{}.", prefix, i), width);
    if (const size_t shared = SizeOr("n_shared_experts", 0); shared > 0) {
      SwiGlu(prefix + "shared_experts.", shared * width);
    }
  }

  void SwiGlu(const std::string& prefix, size_t width) {
    Projection(prefix + "gate_proj", width, hidden_);
    Projection(prefix + "up_proj", width, hidden_);
    Projection(prefix + "down_proj", hidden_, width);
  }

  // What FP8 checkpoints store in FP8.
  void Projection(const std::string& name, size_t out, size_t in) {
    Add(name + ".weight", dtype_, {out, in}, Content::kWeights);
    if (dtype_ != DType::kF8E4M3) return;
    const auto blocks = [](size_t n) { return (n + kFp8Block - 1) / kFp8Block; };
    Add(name + ".weight_scale_inv", DType::kF32, {blocks(out), blocks(in)}, Content::kScale);
  }

  void Weights(const std::string& name, size_t out, size_t in) {
    Add(name + ".weight", wide_dtype_, {out, in}, Content::kWeights);
  }

  void Norm(const std::string& name, size_t size) {
    Add(name + ".weight", wide_dtype_, {size}, Content::kOnes);
  }

  void Add(std::string name, DType dtype, Shape shape, Content content) {
    tensors_.push_back({{std::move(name), dtype, std::move(shape)}, content});
  }

  const Json& config_;
  const DType dtype_;
  const DType wide_dtype_ = dtype_ == DType::kF8E4M3 ? DType::kBF16 : dtype_;
  const size_t hidden_ = Size("hidden_size");
  std::vector<SyntheticTensor> tensors_;
};

}  // namespace

std::vector<SyntheticTensor> ListTensors(const Json& config, DType dtype) {
  return TensorLister(config, dtype).List();
}

}  // namespace baleen::make_checkpoint
