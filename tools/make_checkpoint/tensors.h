// make_checkpoint/tensors.h: which tensors a config.json asks for.
#ifndef BALEEN_TOOLS_MAKE_CHECKPOINT_TENSORS_H_
#define BALEEN_TOOLS_MAKE_CHECKPOINT_TENSORS_H_

#include <vector>

#include "formats/safetensors_writer.h"
#include "shapes.h"
#include "tensor/dtype.h"

namespace baleen::make_checkpoint {

enum class Content {
  kWeights,  // normal, standard deviation 0.02
  kOnes,     // norms
  kBias,     // the router's correction bias: small
  kScale,    // of FP8 blocks: what gives the weights that deviation
};

struct SyntheticTensor {
  TensorSpec spec;
  Content content;
};

// Names and shapes as Hugging Face stores them, in layer order. `dtype` is F32, F16, BF16, or
// F8_E4M3: then the projections are FP8 with weight_scale_inv, all else BF16.
// Error{kInvalidArgument} for a config whose sizes are missing or absurd.
std::vector<SyntheticTensor> ListTensors(const Json& config, DType dtype);

}  // namespace baleen::make_checkpoint

#endif  // BALEEN_TOOLS_MAKE_CHECKPOINT_TENSORS_H_
