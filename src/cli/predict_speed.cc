#include "cli/predict_speed.h"

#include <algorithm>

#include "base/machine.h"
#include "base/thread_pool.h"
#include "kernels/registry.h"
#include "kernels/roof.h"
#include "runtime/plan_memory.h"
#include "tensor/direct_file.h"

namespace baleen {

namespace {

constexpr double kDiskSeconds = 1;

// Layers with experts.
size_t NumMoeLayers(const ModelWeights& weights) {
  size_t count = 0;
  for (const LayerWeights& layer : weights.layers) count += !layer.moe.experts.empty();
  return count;
}

// Where the experts lie, or what they would be repacked from: a matrix of each.
std::vector<FileRange> RangesOfExperts(const Checkpoint& checkpoint, uint64_t expert_bytes) {
  std::vector<FileRange> ranges;
  constexpr uint64_t kBlock = DirectFile::kAlignment;
  for (const LayerWeights& layer : checkpoint.weights.layers) {
    for (const MlpWeights& expert : layer.moe.experts) {
      const auto place = checkpoint.source->PlaceOf(expert.gate_proj.data);
      if (!place) continue;
      ranges.push_back({place->path, place->offset / kBlock * kBlock,
                        (expert_bytes / 3 + kBlock - 1) / kBlock * kBlock});
    }
  }
  return ranges;
}

double ReadGbPerS(const EngineOptions& options) {
  std::vector<int> cpus = ComputeCpus();
  const size_t num_threads = options.num_threads > 0 ? options.num_threads : cpus.size();
  if (num_threads > cpus.size()) cpus.clear();
  cpus.resize(std::min(cpus.size(), num_threads));
  ThreadPool pool(num_threads, cpus);
  return kernels::MeasureRoof(pool, kernels::SelectKernels(options.isa)).read_gb_per_s;
}

}  // namespace

SpeedPrediction PredictSpeed(const Checkpoint& checkpoint, const ParameterCount& sizes,
                             const EngineOptions& options) {
  const ModelConfig& config = checkpoint.config.model;
  const ModelWeights& weights = checkpoint.weights;
  const size_t moe_layers = NumMoeLayers(weights);
  SpeedPrediction result;
  result.num_experts = result.num_expert_slots = moe_layers * config.n_routed_experts;
  const uint64_t expert_bytes =
      result.num_experts == 0 ? 0 : (sizes.total_bytes - sizes.resident_bytes) / result.num_experts;
  const MemoryPlan plan = PlanMemory(
      options, config.max_position_embeddings, CacheLayoutFor(config, options),
      {.total_bytes = sizes.total_bytes,
       .resident_bytes = sizes.resident_bytes,
       .num_experts = result.num_experts,
       .expert_bytes = expert_bytes + 2 * DirectFile::kAlignment,  // what rounding may add
       .experts_of_a_layer = config.num_experts_per_tok},
      options.memory_limit_bytes > 0 ? options.memory_limit_bytes : AvailableMemoryBytes());
  if (plan.num_expert_slots > 0) result.num_expert_slots = plan.num_expert_slots;

  const uint64_t uses = moe_layers * config.num_experts_per_tok;
  // Of the embedding a token reads a row, unless it is the head as well.
  const bool is_tied = weights.embed_tokens.data == weights.lm_head.data;
  result.memory_bytes_per_token = sizes.resident_bytes + uses * expert_bytes -
                                  (is_tied ? 0 : weights.embed_tokens.size_bytes());
  result.read_gb_per_s = ReadGbPerS(options);
  double seconds = static_cast<double>(result.memory_bytes_per_token) / result.read_gb_per_s / 1e9;
  result.hit_rate = 1;
  if (result.num_expert_slots < result.num_experts) {
    result.hit_rate =
        static_cast<double>(result.num_expert_slots) / static_cast<double>(result.num_experts);
    result.disk_bytes_per_token =
        static_cast<uint64_t>(static_cast<double>(uses * expert_bytes) * (1 - result.hit_rate));
    result.disk_gb_per_s =
        MeasureDirectReads(RangesOfExperts(checkpoint, expert_bytes), kDiskSeconds);
    if (result.disk_gb_per_s > 0) {
      seconds += static_cast<double>(result.disk_bytes_per_token) / result.disk_gb_per_s / 1e9;
    }
  }
  result.tokens_per_s = 1 / seconds;
  return result;
}

}  // namespace baleen
