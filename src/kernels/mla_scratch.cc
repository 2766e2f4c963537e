#include "kernels/mla_scratch.h"

#include <cstdint>

namespace baleen::kernels {

MlaDirectScratch CutMlaDirectScratch(std::byte* scratch, size_t num_rows, size_t kv_lora_rank,
                                     size_t qk_head_dim, size_t v_head_dim) {
  const uintptr_t base = reinterpret_cast<uintptr_t>(scratch);
  size_t used = 0;
  const auto take = [&](size_t bytes) {
    auto* part = reinterpret_cast<std::byte*>(base + used);
    used += (bytes + 63) / 64 * 64;
    return part;
  };
  const auto floats = [&](size_t count) {
    return reinterpret_cast<float*>(take(count * sizeof(float)));
  };
  MlaDirectScratch cut;
  cut.latents = take(kKeyBlock * kv_lora_rank * sizeof(float));
  cut.keys = floats(qk_head_dim * kKeyBlock);
  cut.values = floats(kKeyBlock * v_head_dim);
  cut.states = floats(2 * num_rows);
  cut.matmul = take(MatMulScratchBytes(kv_lora_rank));
  cut.bytes = used;
  return cut;
}

size_t MlaScratchBytes(size_t num_rows, size_t kv_lora_rank, size_t qk_nope_head_dim,
                       size_t qk_rope_head_dim, size_t v_head_dim) {
  return CutMlaDirectScratch(nullptr, num_rows, kv_lora_rank, qk_nope_head_dim + qk_rope_head_dim,
                             v_head_dim)
      .bytes;
}

}  // namespace baleen::kernels
