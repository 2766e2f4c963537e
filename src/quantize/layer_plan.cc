#include "quantize/layer_plan.h"

namespace baleen {

std::string LayerPrefix(size_t l) { return "model.layers." + std::to_string(l) + "."; }

GptqShape ShapeOf(const Matrix& matrix, const RoundingOptions& options) {
  return {.rows = matrix.rows,
          .cols = matrix.cols,
          .bits = options.scale.bits,
          .group_cols = options.group_cols == 0 ? matrix.cols : options.group_cols};
}

bool CanQuantize(const Matrix& matrix, const RoundingOptions& options) {
  const GptqShape shape = ShapeOf(matrix, options);
  return shape.cols % shape.group_cols == 0 && shape.IsPackable();
}

size_t NumQuantizedLayers(const Model& model) {
  return model.weights().layers.size() + (model.weights().mtp.empty() ? 0 : 1);
}

RoundingOptions SmallRounding(const QuantizeOptions& options) {
  RoundingOptions rounding = options.rounding;
  rounding.scale.bits = 8;
  return rounding;
}

std::vector<LinearTarget> LayerTargets(const LayerWeights& layer, size_t l,
                                       const QuantizeOptions& options) {
  std::vector<LinearTarget> targets;
  const std::string prefix = LayerPrefix(l);
  const auto add = [&](const std::string& name, const Matrix& matrix) {
    if (!matrix.empty()) targets.push_back({prefix + name, &matrix, options.rounding});
  };
  const auto add_mlp = [&](const std::string& name, const MlpWeights& mlp) {
    add(name + "gate_proj", mlp.gate_proj);
    add(name + "up_proj", mlp.up_proj);
    add(name + "down_proj", mlp.down_proj);
  };
  if (options.small_projections == SmallProjections::kEightBits) {
    add("self_attn.q_a_proj", layer.attention.q_a_proj);
    add("self_attn.kv_a_proj_with_mqa", layer.attention.kv_a_proj_with_mqa);
    add("self_attn.kv_b_proj", layer.attention.kv_b_proj);
    for (LinearTarget& target : targets) target.rounding = SmallRounding(options);
  }
  add("self_attn.q_proj", layer.attention.q_proj);
  add("self_attn.q_b_proj", layer.attention.q_b_proj);
  add("self_attn.o_proj", layer.attention.o_proj);
  if (layer.moe.experts.empty()) {
    add_mlp("mlp.", layer.mlp);
    return targets;
  }
  for (size_t e = 0; e < layer.moe.experts.size(); ++e) {
    add_mlp("mlp.experts." + std::to_string(e) + ".", layer.moe.experts[e]);
  }
  add_mlp("mlp.shared_experts.", layer.moe.shared);
  return targets;
}

}  // namespace baleen
