#include "kernels/mla_scratch.h"

#include <cstdint>

namespace baleen::kernels {

namespace {

// Hands out parts that begin at multiples of 64 bytes.
class Cutter {
 public:
  explicit Cutter(std::byte* scratch) : base_(reinterpret_cast<uintptr_t>(scratch)) {}

  std::byte* Bytes(size_t bytes) {
    auto* part = reinterpret_cast<std::byte*>(base_ + used_);
    used_ += (bytes + 63) / 64 * 64;
    return part;
  }
  float* Floats(size_t count) { return reinterpret_cast<float*>(Bytes(count * sizeof(float))); }
  size_t used() const { return used_; }

 private:
  uintptr_t base_;
  size_t used_ = 0;
};

}  // namespace

MlaDirectScratch CutMlaDirectScratch(std::byte* scratch, size_t num_rows, size_t kv_lora_rank,
                                     size_t qk_head_dim, size_t v_head_dim) {
  Cutter cutter(scratch);
  MlaDirectScratch cut;
  cut.latents = cutter.Bytes(kKeyBlock * kv_lora_rank * sizeof(float));
  cut.keys = cutter.Floats(qk_head_dim * kKeyBlock);
  cut.values = cutter.Floats(kKeyBlock * v_head_dim);
  cut.states = cutter.Floats(2 * num_rows);
  cut.matmul = cutter.Bytes(MatMulScratchBytes(kv_lora_rank));
  cut.bytes = cutter.used();
  return cut;
}

MlaBackwardScratch CutMlaBackwardScratch(std::byte* scratch, size_t num_rows, size_t qk_head_dim,
                                         size_t v_head_dim) {
  Cutter cutter(scratch);
  MlaBackwardScratch cut;
  cut.keys = cutter.Floats(kKeyBlock * qk_head_dim);
  cut.keys_transposed = cutter.Floats(qk_head_dim * kKeyBlock);
  cut.values_transposed = cutter.Floats(v_head_dim * kKeyBlock);
  cut.grad_keys = cutter.Floats(kKeyBlock * qk_head_dim);
  cut.grad_values = cutter.Floats(kKeyBlock * v_head_dim);
  cut.dot_out = cutter.Floats(num_rows);
  cut.bytes = cutter.used();
  return cut;
}

size_t MlaBackwardScratchBytes(size_t num_rows, size_t qk_head_dim, size_t v_head_dim) {
  return CutMlaBackwardScratch(nullptr, num_rows, qk_head_dim, v_head_dim).bytes;
}

size_t MlaScratchBytes(size_t num_rows, size_t kv_lora_rank, size_t qk_nope_head_dim,
                       size_t qk_rope_head_dim, size_t v_head_dim) {
  return CutMlaDirectScratch(nullptr, num_rows, kv_lora_rank, qk_nope_head_dim + qk_rope_head_dim,
                             v_head_dim)
      .bytes;
}

}  // namespace baleen::kernels
