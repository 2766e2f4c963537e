// make_checkpoint/shapes.h: config.json of the published models, and of a tiny one.
#ifndef BALEEN_TOOLS_MAKE_CHECKPOINT_SHAPES_H_
#define BALEEN_TOOLS_MAKE_CHECKPOINT_SHAPES_H_

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace baleen::make_checkpoint {

using Json = nlohmann::ordered_json;

// "tiny", "v2-lite", ...
std::vector<std::string> ShapeNames();

// The config.json of that model, in Hugging Face spelling, without quantization_config.
// Source: spec "Published values" (the models' own config files). Error{kInvalidArgument} for a
// name that is not in ShapeNames.
Json ShapeConfig(const std::string& name);

}  // namespace baleen::make_checkpoint

#endif  // BALEEN_TOOLS_MAKE_CHECKPOINT_SHAPES_H_
