// model/weights.h: the weights of a model, as views into mapped files. checkpoint/ fills them in.
#ifndef BALEEN_MODEL_WEIGHTS_H_
#define BALEEN_MODEL_WEIGHTS_H_

#include <deque>
#include <memory>
#include <set>
#include <vector>

#include "kernels/matrix.h"

namespace baleen {

using kernels::Matrix;

// Norm weights and biases are widened to F32 when a model is opened; they are a few kilobytes.
using Vector = const float*;

// Shapes are [out, in]; h heads, dn/dr/dv = qk_nope/qk_rope/v head dims.
struct AttentionWeights {
  Matrix q_proj;                    // [h (dn + dr), hidden]; empty with a query latent
  Matrix q_a_proj;                  // [q_lora_rank, hidden]
  Vector q_a_layernorm = nullptr;   // [q_lora_rank]
  Matrix q_b_proj;                  // [h (dn + dr), q_lora_rank]
  Matrix kv_a_proj_with_mqa;        // [kv_lora_rank + dr, hidden]
  Vector kv_a_layernorm = nullptr;  // [kv_lora_rank]
  Matrix kv_b_proj;                 // [h (dn + dv), kv_lora_rank]: per head W_UK, then W_UV
  // The same in two, instead of kv_b_proj, as GGUF files may have it: per head W_UK transposed,
  // [h kv_lora_rank, dn], and W_UV, [h dv, kv_lora_rank].
  Matrix k_b_proj, v_b_proj;
  Matrix o_proj;  // [hidden, h dv]
};

struct MlpWeights {
  Matrix gate_proj, up_proj;  // [intermediate, hidden]
  Matrix down_proj;           // [hidden, intermediate]
};

struct MoeWeights {
  Matrix router;                             // [n_routed_experts, hidden]
  Vector e_score_correction_bias = nullptr;  // [n_routed_experts], noaux_tc only
  std::vector<MlpWeights> experts;
  MlpWeights shared;  // one network of n_shared_experts times the width; empty if there is none
};

struct LayerWeights {
  Vector input_layernorm = nullptr;  // [hidden]
  AttentionWeights attention;
  Vector post_attention_layernorm = nullptr;
  MlpWeights mlp;  // dense layers
  MoeWeights moe;  // the others
};

// One MTP module (arXiv:2412.19437, section 2.2): a layer with a doorway and a head of its own.
struct MtpWeights {
  LayerWeights layer;
  Vector enorm = nullptr, hnorm = nullptr;
  Matrix eh_proj;  // [hidden, 2 hidden]: embedding half first
  Vector shared_head_norm = nullptr;
  Matrix embed_tokens, shared_head;  // may repeat the model's own
};

struct ModelWeights {
  Matrix embed_tokens;  // [vocab, hidden]
  std::vector<LayerWeights> layers;
  Vector norm = nullptr;
  Matrix lm_head;  // [vocab, hidden]
  std::vector<MtpWeights> mtp;

  // What the views point into.
  std::deque<std::vector<float>> owned;
  std::set<std::vector<int32_t>> column_orders;  // Matrix::column_order
  std::shared_ptr<const void> source;
  std::shared_ptr<const void> tiles;  // null: nothing was repacked
};

}  // namespace baleen

#endif  // BALEEN_MODEL_WEIGHTS_H_
