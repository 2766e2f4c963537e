// quantize/layer_plan.h: which matrices of a model are quantized.
#ifndef BALEEN_QUANTIZE_LAYER_PLAN_H_
#define BALEEN_QUANTIZE_LAYER_PLAN_H_

#include <cstddef>
#include <string>
#include <vector>

#include "formats/gptq.h"
#include "model/forward.h"
#include "model/weights.h"
#include "quantize/quantize.h"

namespace baleen {

// A linear layer by its name in the checkpoint, without ".weight".
struct LinearTarget {
  std::string name;
  const Matrix* matrix = nullptr;
  RoundingOptions rounding;
};

// Of the small projections, where they are quantized.
RoundingOptions SmallRounding(const QuantizeOptions& options);

// Layer l's name in a checkpoint, "model.layers.3.".
std::string LayerPrefix(size_t l);

// Whether a matrix of this shape can be: groups fill its rows, and words of 32 bits its rows and
// columns.
bool CanQuantize(const Matrix& matrix, const RoundingOptions& options);
GptqShape ShapeOf(const Matrix& matrix, const RoundingOptions& options);

// How many layers are quantized: the model's own, and that of its first MTP module, if it has one.
size_t NumQuantizedLayers(const Model& model);

// The linear layers of layer l (num_hidden_layers: of MTP module 0) that are quantized where they
// can be. The router stays as stored: all experts depend on it.
std::vector<LinearTarget> LayerTargets(const LayerWeights& layer, size_t l,
                                       const QuantizeOptions& options);

}  // namespace baleen

#endif  // BALEEN_QUANTIZE_LAYER_PLAN_H_
