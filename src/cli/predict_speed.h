// cli/predict_speed.h: tokens per second of an answer, from what disk and memory can read.
#ifndef BALEEN_CLI_PREDICT_SPEED_H_
#define BALEEN_CLI_PREDICT_SPEED_H_

#include <cstdint>

#include "baleen/options.h"
#include "checkpoint/checkpoint.h"

namespace baleen {

// Of one sequence. A token takes the time in which the disk reads what memory lacks, and then that
// in which memory reads everything: some of it overlaps, and arithmetic is not counted.
struct SpeedPrediction {
  size_t num_experts = 0;
  size_t num_expert_slots = 0;  // num_experts: all weights are in memory
  // Each expert is taken to be chosen as often as any other, so this is the share of them that
  // memory holds; the counted ones do better.
  double hit_rate = 0;
  uint64_t disk_bytes_per_token = 0;
  uint64_t memory_bytes_per_token = 0;
  double disk_gb_per_s = 0;  // measured on the model's files; 0: nothing is read
  double read_gb_per_s = 0;
  double tokens_per_s = 0;
};

// Measures the machine for two seconds. `sizes` are those of the checkpoint's weights as they are
// computed with. Errors: as PlanMemory; of the disk.
SpeedPrediction PredictSpeed(const Checkpoint& checkpoint, const ParameterCount& sizes,
                             const EngineOptions& options);

}  // namespace baleen

#endif  // BALEEN_CLI_PREDICT_SPEED_H_
