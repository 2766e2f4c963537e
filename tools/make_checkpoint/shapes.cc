#include "shapes.h"

#include <utility>

#include "base/error.h"

namespace baleen::make_checkpoint {

namespace {

// What all published models share.
constexpr const char* kCommon = R"({
  "architectures": ["DeepseekV3ForCausalLM"],
  "model_type": "deepseek_v3",
  "attention_bias": false,
  "attention_dropout": 0.0,
  "aux_loss_alpha": 0.001,
  "bos_token_id": 0,
  "eos_token_id": 1,
  "ep_size": 1,
  "first_k_dense_replace": 1,
  "hidden_act": "silu",
  "initializer_range": 0.02,
  "kv_lora_rank": 512,
  "max_position_embeddings": 163840,
  "moe_layer_freq": 1,
  "pretraining_tp": 1,
  "q_lora_rank": null,
  "qk_nope_head_dim": 128,
  "qk_rope_head_dim": 64,
  "rms_norm_eps": 1e-06,
  "rope_scaling": null,
  "rope_theta": 10000,
  "seq_aux": true,
  "tie_word_embeddings": false,
  "torch_dtype": "bfloat16",
  "use_cache": true,
  "v_head_dim": 128
})";

constexpr const char* kV2Lite = R"({
  "architectures": ["DeepseekV2ForCausalLM"],
  "model_type": "deepseek_v2",
  "bos_token_id": 100000,
  "eos_token_id": 100001,
  "vocab_size": 102400,
  "hidden_size": 2048,
  "num_hidden_layers": 27,
  "num_attention_heads": 16,
  "num_key_value_heads": 16,
  "intermediate_size": 10944,
  "moe_intermediate_size": 1408,
  "n_routed_experts": 64,
  "n_shared_experts": 2,
  "num_experts_per_tok": 6,
  "n_group": 1,
  "topk_group": 1,
  "topk_method": "greedy",
  "scoring_func": "softmax",
  "norm_topk_prob": false,
  "routed_scaling_factor": 1.0,
  "rope_scaling": {
    "type": "yarn", "factor": 40, "beta_fast": 32, "beta_slow": 1,
    "mscale": 0.707, "mscale_all_dim": 0.707, "original_max_position_embeddings": 4096
  }
})";

constexpr const char* kV2 = R"({
  "architectures": ["DeepseekV2ForCausalLM"],
  "model_type": "deepseek_v2",
  "bos_token_id": 100000,
  "eos_token_id": 100001,
  "vocab_size": 102400,
  "hidden_size": 5120,
  "num_hidden_layers": 60,
  "num_attention_heads": 128,
  "num_key_value_heads": 128,
  "intermediate_size": 12288,
  "moe_intermediate_size": 1536,
  "n_routed_experts": 160,
  "n_shared_experts": 2,
  "num_experts_per_tok": 6,
  "n_group": 8,
  "topk_group": 3,
  "topk_method": "group_limited_greedy",
  "scoring_func": "softmax",
  "norm_topk_prob": false,
  "routed_scaling_factor": 16.0,
  "q_lora_rank": 1536,
  "rope_scaling": {
    "type": "yarn", "factor": 40, "beta_fast": 32, "beta_slow": 1,
    "mscale": 0.707, "mscale_all_dim": 0.707, "original_max_position_embeddings": 4096
  }
})";

constexpr const char* kV3 = R"({
  "vocab_size": 129280,
  "hidden_size": 7168,
  "num_hidden_layers": 61,
  "num_attention_heads": 128,
  "num_key_value_heads": 128,
  "intermediate_size": 18432,
  "moe_intermediate_size": 2048,
  "n_routed_experts": 256,
  "n_shared_experts": 1,
  "num_experts_per_tok": 8,
  "first_k_dense_replace": 3,
  "n_group": 8,
  "topk_group": 4,
  "topk_method": "noaux_tc",
  "scoring_func": "sigmoid",
  "norm_topk_prob": true,
  "routed_scaling_factor": 2.5,
  "q_lora_rank": 1536,
  "num_nextn_predict_layers": 1,
  "rope_scaling": {
    "type": "yarn", "factor": 40, "beta_fast": 32, "beta_slow": 1,
    "mscale": 1.0, "mscale_all_dim": 1.0, "original_max_position_embeddings": 4096
  }
})";

constexpr const char* kMoonlight = R"({
  "bos_token_id": 163584,
  "eos_token_id": 163586,
  "vocab_size": 163840,
  "hidden_size": 2048,
  "num_hidden_layers": 27,
  "num_attention_heads": 16,
  "num_key_value_heads": 16,
  "intermediate_size": 11264,
  "moe_intermediate_size": 1408,
  "n_routed_experts": 64,
  "n_shared_experts": 2,
  "num_experts_per_tok": 6,
  "n_group": 1,
  "topk_group": 1,
  "topk_method": "noaux_tc",
  "scoring_func": "sigmoid",
  "norm_topk_prob": true,
  "routed_scaling_factor": 2.446,
  "max_position_embeddings": 8192,
  "num_nextn_predict_layers": 0,
  "rms_norm_eps": 1e-05,
  "rope_theta": 50000
})";

constexpr const char* kKimiK2 = R"({
  "model_type": "kimi_k2",
  "bos_token_id": 163584,
  "eos_token_id": 163585,
  "vocab_size": 163840,
  "hidden_size": 7168,
  "num_hidden_layers": 61,
  "num_attention_heads": 64,
  "num_key_value_heads": 64,
  "intermediate_size": 18432,
  "moe_intermediate_size": 2048,
  "n_routed_experts": 384,
  "n_shared_experts": 1,
  "num_experts_per_tok": 8,
  "n_group": 1,
  "topk_group": 1,
  "topk_method": "noaux_tc",
  "scoring_func": "sigmoid",
  "norm_topk_prob": true,
  "routed_scaling_factor": 2.827,
  "q_lora_rank": 1536,
  "max_position_embeddings": 131072,
  "num_nextn_predict_layers": 0,
  "rope_theta": 50000,
  "rope_scaling": {
    "type": "yarn", "factor": 32, "beta_fast": 1, "beta_slow": 1,
    "mscale": 1.0, "mscale_all_dim": 1.0, "original_max_position_embeddings": 4096
  }
})";

// V3's options at the smallest widths that still have every part; 1.1 MB in BF16.
constexpr const char* kTiny = R"({
  "vocab_size": 512,
  "hidden_size": 128,
  "num_hidden_layers": 3,
  "num_attention_heads": 4,
  "num_key_value_heads": 4,
  "intermediate_size": 256,
  "moe_intermediate_size": 64,
  "n_routed_experts": 8,
  "n_shared_experts": 1,
  "num_experts_per_tok": 3,
  "n_group": 4,
  "topk_group": 2,
  "topk_method": "noaux_tc",
  "scoring_func": "sigmoid",
  "norm_topk_prob": true,
  "routed_scaling_factor": 2.5,
  "q_lora_rank": 48,
  "kv_lora_rank": 32,
  "qk_nope_head_dim": 16,
  "qk_rope_head_dim": 8,
  "v_head_dim": 16,
  "num_nextn_predict_layers": 1,
  "rope_scaling": {
    "type": "yarn", "factor": 40, "beta_fast": 32, "beta_slow": 1,
    "mscale": 1.0, "mscale_all_dim": 1.0, "original_max_position_embeddings": 4096
  }
})";

const std::vector<std::pair<std::string, const char*>>& Shapes() {
  static const std::vector<std::pair<std::string, const char*>> shapes = {
      {"tiny", kTiny}, {"v2-lite", kV2Lite},      {"v2", kV2},
      {"v3", kV3},     {"moonlight", kMoonlight}, {"kimi-k2", kKimiK2},
  };
  return shapes;
}

}  // namespace

std::vector<std::string> ShapeNames() {
  std::vector<std::string> names;
  for (const auto& [name, config] : Shapes()) names.push_back(name);
  return names;
}

Json ShapeConfig(const std::string& name) {
  for (const auto& [shape, own] : Shapes()) {
    if (shape != name) continue;
    Json config = Json::parse(kCommon);
    config.update(Json::parse(own));
    return config;
  }
  Throw(ErrorCode::kInvalidArgument, "no shape is called {}", name);
}

}  // namespace baleen::make_checkpoint
