// kernels/mla_scratch.h: how the direct form of attention, there and back, divides its scratch
// memory.
#ifndef BALEEN_KERNELS_MLA_SCRATCH_H_
#define BALEEN_KERNELS_MLA_SCRATCH_H_

#include <cstddef>

#include "kernels/table.h"

namespace baleen::kernels {

struct MlaDirectScratch {
  std::byte* latents;  // [kKeyBlock, kv_lora_rank] in the form of the products
  float* keys;         // [qk_nope + qk_rope, kKeyBlock]
  float* values;       // [kKeyBlock, v_head_dim]
  float* states;       // [num_rows, 2]: maximum and sum
  std::byte* matmul;   // MatMulScratchBytes(kv_lora_rank)
  size_t bytes;        // of all
};

// Every part begins at a multiple of 64 bytes. With a null `scratch` only `bytes` means anything.
MlaDirectScratch CutMlaDirectScratch(std::byte* scratch, size_t num_rows, size_t kv_lora_rank,
                                     size_t qk_head_dim, size_t v_head_dim);

struct MlaBackwardScratch {
  float* keys;               // [kKeyBlock, qk_nope + qk_rope]
  float* keys_transposed;    // [qk_nope + qk_rope, kKeyBlock]
  float* values_transposed;  // [v_head_dim, kKeyBlock]
  float* grad_keys;          // [kKeyBlock, qk_nope + qk_rope]
  float* grad_values;        // [kKeyBlock, v_head_dim]
  float* dot_out;            // [num_rows]: grad_out . out
  size_t bytes;              // of all
};
MlaBackwardScratch CutMlaBackwardScratch(std::byte* scratch, size_t num_rows, size_t qk_head_dim,
                                         size_t v_head_dim);

}  // namespace baleen::kernels

#endif  // BALEEN_KERNELS_MLA_SCRATCH_H_
