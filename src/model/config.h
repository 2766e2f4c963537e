// model/config.h: what a checkpoint's config.json says of the arithmetic. Names as Hugging Face
// spells them, so that a config.json can be read beside this struct.
#ifndef BALEEN_MODEL_CONFIG_H_
#define BALEEN_MODEL_CONFIG_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace baleen {

enum class ScoringFunc { kSoftmax, kSigmoid };

enum class TopkMethod {
  kGreedy,              // V2-Lite: the largest scores
  kGroupLimitedGreedy,  // V2: within the topk_group groups whose best score is largest
  kNoauxTc,             // V3: by score + bias, groups by the sum of their two best
};

// YaRN (arXiv:2309.00071) as DeepSeek's checkpoints use it.
struct YarnConfig {
  double factor = 1;
  double beta_fast = 32;
  double beta_slow = 1;
  double original_max_position_embeddings = 4096;
  double mscale = 1;
  double mscale_all_dim = 0;
};

struct ModelConfig {
  std::string model_type;  // as the file says: "deepseek_v2", "deepseek_v3", "kimi_k2"

  size_t vocab_size = 0;
  size_t hidden_size = 0;
  size_t intermediate_size = 0;
  size_t num_hidden_layers = 0;
  size_t num_attention_heads = 0;
  size_t max_position_embeddings = 0;
  double rms_norm_eps = 1e-6;

  // Multi-head latent attention.
  size_t q_lora_rank = 0;  // 0: queries are projected without a latent
  size_t kv_lora_rank = 0;
  size_t qk_nope_head_dim = 0;
  size_t qk_rope_head_dim = 0;
  size_t v_head_dim = 0;
  double rope_theta = 10000;
  std::optional<YarnConfig> yarn;

  // Experts. n_routed_experts = 0: every layer is dense.
  size_t n_routed_experts = 0;
  size_t n_shared_experts = 0;
  size_t num_experts_per_tok = 0;
  size_t moe_intermediate_size = 0;
  size_t first_k_dense_replace = 0;
  size_t moe_layer_freq = 1;
  ScoringFunc scoring_func = ScoringFunc::kSoftmax;
  TopkMethod topk_method = TopkMethod::kGreedy;
  size_t n_group = 1;
  size_t topk_group = 1;
  bool norm_topk_prob = false;
  double routed_scaling_factor = 1;

  size_t num_nextn_predict_layers = 0;  // MTP layers, stored after the last layer

  size_t qk_head_dim() const { return qk_nope_head_dim + qk_rope_head_dim; }
  // Numbers in a row of the latent cache.
  size_t latent_dim() const { return kv_lora_rank + qk_rope_head_dim; }
  bool IsMoe(size_t layer) const {
    return n_routed_experts > 0 && layer >= first_k_dense_replace && layer % moe_layer_freq == 0;
  }
};

// The norms inside MLA keep this epsilon whatever rms_norm_eps says: the reference builds them
// without passing it on (Moonlight is where it shows).
inline constexpr float kLatentNormEps = 1e-6f;

// 1 / sqrt(qk_head_dim), times YaRN's squared magnitude where there is one.
double SoftmaxScale(const ModelConfig& config);

// Angles of rotary position embeddings: per pair of channels a frequency, and one magnitude for all
// cosines and sines (1 for every published checkpoint).
struct RopeFrequencies {
  std::vector<float> inv_freq;  // [qk_rope_head_dim / 2]
  float magnitude = 1;
};
RopeFrequencies MakeRopeFrequencies(const ModelConfig& config);

}  // namespace baleen

#endif  // BALEEN_MODEL_CONFIG_H_
