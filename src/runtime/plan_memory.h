// runtime/plan_memory.h: how long a context fits into memory.
#ifndef BALEEN_RUNTIME_PLAN_MEMORY_H_
#define BALEEN_RUNTIME_PLAN_MEMORY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "baleen/options.h"
#include "model/forward.h"

namespace baleen {

// Positions in a block of the latent cache. A multiple of the attention kernels' block of keys;
// for V2-Lite in BF16 a block of all layers is 2 MB, a huge page.
inline constexpr size_t kBlockTokens = 64;

// What the options ask for.
CacheLayout CacheLayoutFor(const ModelConfig& config, const EngineOptions& options);

// What the weights of a model ask for.
struct WeightSizes {
  uint64_t total_bytes = 0;
  uint64_t resident_bytes = 0;  // without the routed experts
  // Of the routed experts, if they can be read one by one (model/expert_store.h); else 0.
  size_t num_experts = 0;
  size_t expert_bytes = 0;        // of one, in its slot
  size_t experts_of_a_layer = 0;  // that one token has in a layer: the slots that must be there
};

struct MemoryPlan {
  size_t max_context_tokens = 0;
  size_t num_blocks = 0;
  size_t num_expert_slots = 0;     // 0: all weights are mapped
  std::vector<std::string> notes;  // for the user: what is shorter or slower than could be
};

// Without a limit, `memory_bytes` must hold the cache and the weights that every token needs: of
// mapped experts the system keeps what it has room for. options.memory_limit_bytes, if any, is kept
// to: when not all weights fit, experts have slots, and the cache has the context that was asked
// for, or an eighth of what is left.
// Errors: kResourceExhausted when that does not fit with a cache of the context that was asked for
// (or of 1,024 tokens, when none was); kInvalidArgument when the model does not reach that far.
MemoryPlan PlanMemory(const EngineOptions& options, size_t model_context_tokens,
                      const CacheLayout& cache, const WeightSizes& weights, uint64_t memory_bytes);

}  // namespace baleen

#endif  // BALEEN_RUNTIME_PLAN_MEMORY_H_
