// runtime/plan_memory.h: how long a context fits into memory.
#ifndef BALEEN_RUNTIME_PLAN_MEMORY_H_
#define BALEEN_RUNTIME_PLAN_MEMORY_H_

#include <cstdint>
#include <string>

#include "baleen/options.h"
#include "model/forward.h"

namespace baleen {

// Positions in a block of the latent cache. A multiple of the attention kernels' block of keys;
// for V2-Lite in BF16 a block of all layers is 2 MB, a huge page.
inline constexpr size_t kBlockTokens = 64;

// What the options ask for.
CacheLayout CacheLayoutFor(const ModelConfig& config, const EngineOptions& options);

struct MemoryPlan {
  size_t max_context_tokens = 0;
  size_t num_blocks = 0;
  std::string note;  // for the user, when the context is shorter than the model's
};

// `resident_bytes`: weights without the routed experts, which may stay on disk.
// Errors: kResourceExhausted when they don't fit with a cache of the context that was asked for (or
// of 1,024 tokens, when none was); kInvalidArgument when the model does not reach that far.
MemoryPlan PlanMemory(const EngineOptions& options, size_t model_context_tokens,
                      const CacheLayout& cache, uint64_t resident_bytes, uint64_t memory_bytes);

}  // namespace baleen

#endif  // BALEEN_RUNTIME_PLAN_MEMORY_H_
