// model/tape.h: what a layer keeps of the way there for the way back (training/backward.h).
//
// The pass is the same with and without a tape; it only puts these values where they outlive it.
// What follows from them at little cost (normed inputs, rebuilt keys and values, silu(gate) * up)
// is computed again. The latent rows themselves are in the cache.
#ifndef BALEEN_MODEL_TAPE_H_
#define BALEEN_MODEL_TAPE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/arena.h"

namespace baleen {

// The gate and up projections of one SwiGLU network, [rows, intermediate] each.
struct SwiGluTape {
  float* gate = nullptr;
  float* up = nullptr;
};

struct LayerTape {
  Arena arena;  // holds all of it

  const float* input = nullptr;  // [rows, hidden]: the residual stream that enters the layer
  float* q_latent = nullptr;     // [rows, q_lora_rank] before its norm; null without a query latent
  float* q = nullptr;            // [rows, heads, qk_head_dim], rotated
  float* kv_a = nullptr;         // [rows, latent_dim], before norm and rotation
  float* attended = nullptr;     // [rows, heads, v_head_dim]
  float* states = nullptr;       // [rows, heads, 2], MlaDirectArgs::states
  float* middle = nullptr;       // [rows, hidden]: the residual stream after attention

  SwiGluTape mlp;  // of a dense layer, or of the shared expert

  // Experts: a slot is one row's visit to one expert, ordered by expert, then by row.
  float* scores = nullptr;          // [rows, n_routed_experts]: softmax or sigmoid of the logits
  int32_t* experts = nullptr;       // [rows, num_experts_per_tok], as the router chose them
  float* expert_weights = nullptr;  // likewise
  std::vector<size_t> offsets;      // [n_routed_experts + 1]: the slots of each expert
  int32_t* slot_rows = nullptr;     // [slots]
  float* slot_weights = nullptr;    // [slots]
  SwiGluTape routed;                // [slots, moe_intermediate_size] each
};

// An MTP module: its layer, and what stands around it.
struct MtpTape {
  LayerTape layer;
  float* joined = nullptr;  // [rows, 2 hidden]: the input of eh_proj
  float* output = nullptr;  // [rows, hidden]: the layer's output, before shared_head_norm
};

}  // namespace baleen

#endif  // BALEEN_MODEL_TAPE_H_
