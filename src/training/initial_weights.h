// training/initial_weights.h: the weights of a checkpoint that training goes on from.
#ifndef BALEEN_TRAINING_INITIAL_WEIGHTS_H_
#define BALEEN_TRAINING_INITIAL_WEIGHTS_H_

#include <string>

#include "checkpoint/checkpoint.h"
#include "kernels/kernels.h"
#include "training/parameters.h"

namespace baleen {

// A config.json without what says how weights are stored, which those that come of training are
// not; as it is if there is nothing of the kind.
std::string WithoutQuantization(const std::string& config_json);

// Sets every parameter, biases of routers included, to what the checkpoint has: decoded into F32,
// whatever it is stored in. The MTP module's own embedding and head, if it has any, are passed
// over, since they are the model's in training. Call Parameters::Publish afterwards. Errors:
// kCorruption, the checkpoint lacks the MTP module that its config names, or holds a value that is
// not finite.
void CopyWeights(const Checkpoint& checkpoint, Parameters& parameters, kernels::KernelContext& ctx);

}  // namespace baleen

#endif  // BALEEN_TRAINING_INITIAL_WEIGHTS_H_
