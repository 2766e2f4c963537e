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

namespace {

std::string Size(uint64_t bytes) {
  return bytes < uint64_t{1'000'000'000}
             ? fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6)
             : fmt::format("{:.2f} GB", Gigabytes(bytes));
}

[[noreturn]] void Refuse(const EngineOptions& options, const WeightSizes& weights, bool has_slots,
                         uint64_t cache_bytes, size_t cache_tokens, uint64_t memory_bytes) {
  const bool limited = options.memory_limit_bytes > 0;
  const bool needs_all = limited && !has_slots;
  std::string experts;
  if (has_slots) {
    experts = fmt::format(", {} for the {} experts that a token has in a layer",
                          Size(weights.experts_of_a_layer * weights.expert_bytes),
                          weights.experts_of_a_layer);
  } else if (needs_all && weights.total_bytes > weights.resident_bytes) {
    experts = " (all of them: they are in no file that experts could be read from)";
  }
  Throw(ErrorCode::kResourceExhausted,
        "not enough memory: {} of weights that every token needs{}, {} of latent cache for {} "
        "tokens and {} for all else, but {} are {}; lower --context or {}",
        Size(needs_all ? weights.total_bytes : weights.resident_bytes), experts, Size(cache_bytes),
        cache_tokens, Size(kOverheadBytes), Size(memory_bytes), limited ? "allowed" : "free",
        limited ? "raise --memory-limit" : "free memory");
}

// Numbers of blocks of the latent cache.
struct CacheNeeds {
  size_t required;
  size_t useful;  // more would never be used
};

// How what is left beside the resident weights is shared by the cache and the slots of experts.
MemoryPlan ShareWithExperts(const WeightSizes& weights, const CacheNeeds& needs,
                            uint64_t block_bytes, uint64_t left) {
  const uint64_t least = weights.experts_of_a_layer * weights.expert_bytes;
  const size_t affordable = (left - least) / block_bytes;
  MemoryPlan plan;
  plan.num_blocks = std::min(
      {std::max<size_t>(needs.required, left / 8 / block_bytes), needs.useful, affordable});
  plan.num_expert_slots =
      std::min(weights.num_experts, (left - plan.num_blocks * block_bytes) / weights.expert_bytes);
  plan.notes.push_back(fmt::format(
      "memory holds {} of {} experts; the others are read from disk as tokens choose them",
      plan.num_expert_slots, weights.num_experts));
  return plan;
}

}  // namespace

MemoryPlan PlanMemory(const EngineOptions& options, size_t model_context_tokens,
                      const CacheLayout& cache, const WeightSizes& weights, uint64_t memory_bytes) {
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
  const CacheNeeds needs = {
      blocks_for(options.max_context_tokens > 0 ? wanted : std::min(wanted, kMinContextTokens)),
      options.max_sequences * blocks_for(wanted)};
  const uint64_t block_bytes = cache.block_bytes();
  const uint64_t required_bytes = needs.required * block_bytes;
  const auto left_beside = [&](uint64_t weight_bytes) {
    const uint64_t fixed = weight_bytes + kOverheadBytes;
    return memory_bytes > fixed ? memory_bytes - fixed : 0;
  };

  const bool limited = options.memory_limit_bytes > 0;
  const bool all_fit = required_bytes <= left_beside(weights.total_bytes);
  const bool has_slots = limited && !all_fit && weights.num_experts > 0;
  const uint64_t left =
      left_beside(limited && !has_slots ? weights.total_bytes : weights.resident_bytes);
  const uint64_t slots = has_slots ? weights.experts_of_a_layer * weights.expert_bytes : 0;
  if (left < required_bytes + slots) {
    Refuse(options, weights, has_slots, required_bytes, needs.required * cache.block_tokens,
           memory_bytes);
  }
  MemoryPlan plan;
  if (has_slots) {
    plan = ShareWithExperts(weights, needs, block_bytes, left);
  } else {
    plan.num_blocks = std::min<uint64_t>(left / block_bytes, needs.useful);
  }
  plan.max_context_tokens = std::min(wanted, plan.num_blocks * cache.block_tokens);
  if (plan.max_context_tokens < wanted) {
    plan.notes.push_back(
        fmt::format("the context is {} tokens, not the model's {}: memory holds no more",
                    plan.max_context_tokens, wanted));
  }
  if (!limited && weights.resident_bytes < weights.total_bytes &&
      weights.total_bytes > memory_bytes) {
    plan.notes.push_back(fmt::format(
        "the weights ({:.1f} GB) are larger than free memory ({:.1f} GB): with --memory-limit the "
        "hot experts stay and the others are read faster than the system does it",
        Gigabytes(weights.total_bytes), Gigabytes(memory_bytes)));
  }
  return plan;
}

}  // namespace baleen
