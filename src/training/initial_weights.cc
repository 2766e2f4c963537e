#include "training/initial_weights.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "base/error.h"
#include "base/json.h"
#include "training/config.h"

namespace baleen {

using kernels::ForRows;

namespace {

// Walks through the checkpoint and the master weights side by side.
class Copier {
 public:
  Copier(const Checkpoint& checkpoint, kernels::KernelContext& ctx)
      : checkpoint_(checkpoint), config_(checkpoint.config.model), ctx_(ctx) {}

  void Copy(const ModelWeights& to) const {
    const ModelWeights& from = checkpoint_.weights;
    Copy(from.embed_tokens, to.embed_tokens, "model.embed_tokens");
    if (to.lm_head.data != to.embed_tokens.data) Copy(from.lm_head, to.lm_head, "lm_head");
    Copy(from.norm, to.norm, config_.hidden_size);
    for (size_t l = 0; l < to.layers.size(); ++l) Copy(from.layers[l], to.layers[l], l);
    if (from.mtp.size() < to.mtp.size()) {
      Throw(ErrorCode::kCorruption,
            "{}: the weights lack the MTP module that the config names; set "
            "num_nextn_predict_layers to 0 to train without it",
            checkpoint_.path.directory);
    }
    for (size_t i = 0; i < to.mtp.size(); ++i) {
      Copy(from.mtp[i].layer, to.mtp[i].layer, to.layers.size() + i);
      Copy(from.mtp[i].enorm, to.mtp[i].enorm, config_.hidden_size);
      Copy(from.mtp[i].hnorm, to.mtp[i].hnorm, config_.hidden_size);
      Copy(from.mtp[i].eh_proj, to.mtp[i].eh_proj, "eh_proj");
      Copy(from.mtp[i].shared_head_norm, to.mtp[i].shared_head_norm, config_.hidden_size);
    }
  }

 private:
  void Copy(const Matrix& from, const Matrix& to, const std::string& name) const {
    float* values = Writable(to);
    std::atomic<bool> finite = true;
    ForRows(from.rows, ctx_, [&](size_t begin, size_t end) {
      for (size_t r = begin; r < end; ++r) {
        float* row = values + r * from.cols;
        ctx_.table.decode_row(from, r, row);
        if (!std::all_of(row, row + from.cols, [](float x) { return std::isfinite(x); })) {
          finite = false;
        }
      }
    });
    if (!finite) {
      Throw(ErrorCode::kCorruption, "{}: {} holds values that are no numbers",
            checkpoint_.path.directory, name);
    }
  }

  void Copy(Vector from, Vector to, size_t size) const {
    if (from != nullptr) std::copy_n(from, size, Writable(to));
  }

  void Copy(const MlpWeights& from, const MlpWeights& to, const std::string& name) const {
    Copy(from.gate_proj, to.gate_proj, name + "gate_proj");
    Copy(from.up_proj, to.up_proj, name + "up_proj");
    Copy(from.down_proj, to.down_proj, name + "down_proj");
  }

  void Copy(const AttentionWeights& from, const AttentionWeights& to,
            const std::string& name) const {
    Copy(from.q_proj, to.q_proj, name + "q_proj");
    Copy(from.q_a_proj, to.q_a_proj, name + "q_a_proj");
    Copy(from.q_a_layernorm, to.q_a_layernorm, config_.q_lora_rank);
    Copy(from.q_b_proj, to.q_b_proj, name + "q_b_proj");
    Copy(from.kv_a_proj_with_mqa, to.kv_a_proj_with_mqa, name + "kv_a_proj_with_mqa");
    Copy(from.kv_a_layernorm, to.kv_a_layernorm, config_.kv_lora_rank);
    if (from.kv_b_proj.empty()) {
      // Two halves in a GGUF file, of which its source makes the whole.
      const TensorView& whole = *checkpoint_.source->Find(name + "kv_b_proj.weight");
      ToF32(whole, 0, whole.num_elements(), Writable(to.kv_b_proj));
    } else {
      Copy(from.kv_b_proj, to.kv_b_proj, name + "kv_b_proj");
    }
    Copy(from.o_proj, to.o_proj, name + "o_proj");
  }

  void Copy(const LayerWeights& from, const LayerWeights& to, size_t layer) const {
    const std::string name = fmt::format("model.layers.{}.", layer);
    Copy(from.input_layernorm, to.input_layernorm, config_.hidden_size);
    Copy(from.attention, to.attention, name + "self_attn.");
    Copy(from.post_attention_layernorm, to.post_attention_layernorm, config_.hidden_size);
    Copy(from.mlp, to.mlp, name + "mlp.");
    Copy(from.moe.router, to.moe.router, name + "mlp.gate");
    Copy(from.moe.e_score_correction_bias, to.moe.e_score_correction_bias,
         config_.n_routed_experts);
    Copy(from.moe.shared, to.moe.shared, name + "mlp.shared_experts.");
    for (size_t e = 0; e < to.moe.experts.size(); ++e) {
      Copy(from.moe.experts[e], to.moe.experts[e], fmt::format("{}mlp.experts.{}.", name, e));
    }
  }

  const Checkpoint& checkpoint_;
  const ModelConfig& config_;
  kernels::KernelContext& ctx_;
};

}  // namespace

std::string WithoutQuantization(const std::string& config_json) {
  constexpr std::string_view kKey = "quantization_config";
  const JsonDocument document = JsonDocument::Parse(config_json, "config.json");
  if (document.root().at_key(kKey).error()) return config_json;
  std::string kept;
  for (const auto [key, value] : document.object()) {
    if (key == kKey) continue;
    kept += fmt::format("{}\n  {}: {}", kept.empty() ? "" : ",", JsonString(key),
                        simdjson::minify(value));
  }
  return "{" + kept + "\n}\n";
}

void CopyWeights(const Checkpoint& checkpoint, Parameters& parameters,
                 kernels::KernelContext& ctx) {
  Copier(checkpoint, ctx).Copy(parameters.Masters());
}

}  // namespace baleen
