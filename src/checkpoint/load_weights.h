// checkpoint/load_weights.h: from names of tensors to the weights of a model.
#ifndef BALEEN_CHECKPOINT_LOAD_WEIGHTS_H_
#define BALEEN_CHECKPOINT_LOAD_WEIGHTS_H_

#include <map>
#include <memory>

#include "checkpoint/config_json.h"
#include "formats/gptq.h"
#include "model/weights.h"
#include "tensor/tiles.h"
#include "tensor/weight_source.h"

namespace baleen {

// Quantized matrices of which tiles are still to be made, by the data of the Matrix that stands for
// each in the weights. Its type is kI32, what the file's tensor is; it can be given to
// RepackWeights only.
using PackedMatrices = std::map<const std::byte*, std::shared_ptr<const GptqTensor>>;

TileLayout LayoutOf(const GptqTensor& tensor);

// Finds each tensor that the config asks for under its Hugging Face name (experts one by one or
// packed, in two tensors or in three) and checks shape and type. Copies nothing but norms, biases
// and FP8 scales. Matrices of GPTQ directories are decoded into F32, or, where `packed` is given
// and tiles can hold them, put there. The result keeps `source` alive. Errors: kCorruption, naming
// tensors that are missing, left over, misshaped or of a wrong type.
ModelWeights LoadWeights(const ParsedConfig& config, std::shared_ptr<const WeightSource> source,
                         PackedMatrices* packed = nullptr);

}  // namespace baleen

#endif  // BALEEN_CHECKPOINT_LOAD_WEIGHTS_H_
