// training/trainer.h: `baleen train`: a run from its first step, or from its last checkpoint, to
// its end.
//
// What a run leaves in its output directory is an ordinary Hugging Face model (config.json,
// model.safetensors in BF16, the tokenizer's files, generation_config.json) with provenance.json,
// and a folder `run`: state.safetensors (all that is needed to go on, renamed into place when it is
// whole), metrics.jsonl, expert_load.jsonl, TensorBoard events, report.html.
#ifndef BALEEN_TRAINING_TRAINER_H_
#define BALEEN_TRAINING_TRAINER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "training/config.h"

namespace baleen {

struct StepReport {
  uint64_t step = 0;  // done so far
  uint64_t total_steps = 0;
  uint64_t tokens = 0;  // seen so far
  double loss = 0;
  double mtp_loss = 0;
  double balance_loss = 0;
  double lr = 0;
  double grad_norm = 0;
  double tokens_per_s = 0;
  double peak_share = 0;      // of what this machine does at most in the arithmetic of the products
  double max_vio = 0;         // averaged over layers, of this step's tokens
  double entropy = 0;         // likewise
  uint64_t dead_experts = 0;  // in all layers
  double validation_loss = -1;  // below 0: not measured at this step
};

struct TrainResult {
  double loss = 0;  // of the last step
  double validation_loss = -1;
  double validation_max_vio = 0;         // over the whole held-out text, averaged over layers
  uint64_t validation_dead_experts = 0;  // likewise, in all layers
  uint64_t tokens = 0;
  double seconds = 0;
  uint64_t steps = 0;
  uint64_t estimated_bytes = 0;  // what was said before the run
  uint64_t peak_bytes = 0;       // what this process has had at most
  bool interrupted = false;
};

struct TrainOptions {
  size_t num_threads = 0;  // 0: as many as this process may use
  std::string isa;
  std::string version;        // of the program, for the provenance
  bool measure_peak = false;  // takes a second; else peak_share is 0
  std::function<void(const StepReport&)> on_step;
  std::function<void(const std::string&)> on_note;
  std::function<bool()> stop;  // asked after each step; true writes a checkpoint and returns
};

// Errors: kInvalidArgument, a config that makes no sense, a run of another config in the output
// directory, data without text; kResourceExhausted, the memory is not there or the disk is full;
// kFailed, the loss is not a number (the last checkpoint stays); those of OpenCheckpoint.
TrainResult Train(const TrainConfig& config, const TrainOptions& options);

}  // namespace baleen

#endif  // BALEEN_TRAINING_TRAINER_H_
