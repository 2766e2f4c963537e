// checkpoint/load_weights.h: from names of tensors to the weights of a model.
#ifndef BALEEN_CHECKPOINT_LOAD_WEIGHTS_H_
#define BALEEN_CHECKPOINT_LOAD_WEIGHTS_H_

#include <memory>

#include "checkpoint/config_json.h"
#include "model/weights.h"
#include "tensor/weight_source.h"

namespace baleen {

// Finds each tensor that the config asks for under its Hugging Face name (experts one by one or
// packed, in two tensors or in three) and checks shape and type. Copies nothing but norms, biases
// and FP8 scales. The result keeps `source` alive. Errors: kCorruption, naming tensors that are
// missing, left over, misshaped or of a wrong type.
ModelWeights LoadWeights(const ParsedConfig& config, std::shared_ptr<const WeightSource> source);

}  // namespace baleen

#endif  // BALEEN_CHECKPOINT_LOAD_WEIGHTS_H_
