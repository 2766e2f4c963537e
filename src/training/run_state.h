// training/run_state.h: a run's state on disk, and the model that it leaves.
#ifndef BALEEN_TRAINING_RUN_STATE_H_
#define BALEEN_TRAINING_RUN_STATE_H_

#include <cstdint>
#include <map>
#include <string>

#include "training/optimizer.h"
#include "training/parameters.h"

namespace baleen {

// Beside the numbers of weights, biases and optimizer.
struct RunState {
  uint64_t step = 0;
  uint64_t tokens = 0;
  double seconds = 0;
  std::string data_position;
  // What must be the same for a run to go on: the config's result keys, the model's config, the
  // data's fingerprint.
  std::string config, model, data;
  std::string isa;  // recorded: another target gives other last bits
};

// Written whole or not at all; an older state stays until then. Errors: those of OutputFile.
void SaveRunState(const std::string& path, const RunState& state, const Parameters& parameters,
                  Optimizer& optimizer);

// What `path` says, and its numbers into parameters and optimizer. `expected` has config, model and
// data. Errors: kCorruption; kInvalidArgument, it belongs to another run, with what differs.
RunState LoadRunState(const std::string& path, const RunState& expected, Parameters& parameters,
                      Optimizer& optimizer);

// model.safetensors: matrices and norms in BF16, biases of routers in F32.
void SaveModel(const std::string& path, const Parameters& parameters);

}  // namespace baleen

#endif  // BALEEN_TRAINING_RUN_STATE_H_
