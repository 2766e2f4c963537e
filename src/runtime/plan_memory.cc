#include "runtime/plan_memory.h"

#include <algorithm>

#include "base/error.h"

namespace baleen {

namespace {

// For scratch, code and the rest of the process.
constexpr uint64_t kOverheadBytes = uint64_t{256} << 20;
constexpr size_t kMinContextTokens = 1024;

double Gigabytes(uint64_t bytes) { return static_cast<double>(bytes) / 1e9; }

DType CacheTypeFor(const EngineOptions& options) {
  switch (options.cache_dtype) {
    case CacheDType::kF32:
      return DType::kF32;
    case CacheDType::kBf16:
      return DType::kBF16;
    case CacheDType::kInt8:
      return DType::kI8;
    case CacheDType::kAuto:
      break;
  }
  return options.precision == Precision::kF32 ? DType::kF32 : DType::kBF16;
}

}  // namespace

CacheLayout CacheLayoutFor(const ModelConfig& config, const EngineOptions& options) {
  return MakeCacheLayout(config, CacheTypeFor(options), kBlockTokens);
}

MemoryPlan PlanMemory(const EngineOptions& options, size_t model_context_tokens,
                      const CacheLayout& cache, uint64_t resident_bytes, uint64_t memory_bytes) {
  if (options.max_context_tokens > model_context_tokens) {
    Throw(ErrorCode::kInvalidArgument,
          "--context {}: the model was made for {} tokens (max_position_embeddings)",
          options.max_context_tokens, model_context_tokens);
  }
  const size_t wanted =
      options.max_context_tokens > 0 ? options.max_context_tokens : model_context_tokens;
  const auto blocks_for = [&](size_t tokens) {
    return (tokens + cache.block_tokens - 1) / cache.block_tokens;
  };
  const uint64_t fixed = resident_bytes + kOverheadBytes;
  const uint64_t left = memory_bytes > fixed ? memory_bytes - fixed : 0;
  const size_t affordable = left / cache.block_bytes();
  const size_t required =
      blocks_for(options.max_context_tokens > 0 ? wanted : std::min(wanted, kMinContextTokens));
  if (affordable < required) {
    Throw(ErrorCode::kResourceExhausted,
          "not enough memory: {:.1f} GB of weights that every token needs and {:.2f} GB of latent "
          "cache for {} tokens, but {:.1f} GB are free; lower --context or free memory",
          Gigabytes(fixed), Gigabytes(uint64_t{required} * cache.block_bytes()),
          required * cache.block_tokens, Gigabytes(memory_bytes));
  }
  MemoryPlan plan;
  plan.max_context_tokens = std::min(wanted, affordable * cache.block_tokens);
  if (plan.max_context_tokens < wanted) {
    plan.note = fmt::format("the context is {} tokens, not the model's {}: memory holds no more",
                            plan.max_context_tokens, wanted);
  }
  plan.num_blocks =
      std::min(affordable, options.max_sequences * blocks_for(plan.max_context_tokens));
  return plan;
}

}  // namespace baleen
