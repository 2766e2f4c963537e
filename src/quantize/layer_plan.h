// quantize/layer_plan.h: which matrices of a model are quantized.
#ifndef BALEEN_QUANTIZE_LAYER_PLAN_H_
#define BALEEN_QUANTIZE_LAYER_PLAN_H_

#include <cstddef>
#include <string>
#include <vector>

#include "formats/gptq.h"
#include "model/forward.h"
#include "model/weights.h"
#include "quantize/gptq.h"

namespace baleen {

// A linear layer by its name in the checkpoint, without ".weight".
struct LinearTarget {
  std::string name;
  const Matrix* matrix = nullptr;
};

// Layer l's name in a checkpoint, "model.layers.3.".
std::string LayerPrefix(size_t l);

// Whether a matrix of this shape can be: groups fill its rows, and words of 32 bits its rows and
// columns.
bool CanQuantize(const Matrix& matrix, const RoundingOptions& options);
GptqShape ShapeOf(const Matrix& matrix, const RoundingOptions& options);

// How many layers are quantized: the model's own, and that of its first MTP module, if it has one.
size_t NumQuantizedLayers(const Model& model);

// The linear layers of layer l (num_hidden_layers: of MTP module 0) that are quantized where they
// can be. The router, and the small projections to and from latents (kv_a_proj_with_mqa, kv_b_proj,
// q_a_proj), stay as stored: all experts and all keys depend on them, and they are hardly any
// bytes.
std::vector<LinearTarget> LayerTargets(const LayerWeights& layer, size_t l);

}  // namespace baleen

#endif  // BALEEN_QUANTIZE_LAYER_PLAN_H_
