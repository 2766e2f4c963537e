#include "training/run_state.h"

#include <charconv>
#include <functional>
#include <vector>

#include "base/error.h"
#include "formats/safetensors.h"
#include "formats/safetensors_writer.h"

namespace baleen {

namespace {

// Every tensor of a state: weights, biases, optimizer.
std::vector<Optimizer::State> Tensors(const Parameters& parameters, Optimizer& optimizer) {
  std::vector<Optimizer::State> tensors = optimizer.state();
  for (const Parameter& p : parameters.list()) tensors.push_back({p.name, p.shape, p.value});
  for (size_t i = 0; i < parameters.router_biases().size(); ++i) {
    const std::span<float> bias = parameters.router_biases()[i];
    tensors.push_back({parameters.router_bias_names()[i], {bias.size()}, bias});
  }
  return tensors;
}

uint64_t ToNumber(const std::string& path, const std::string& text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    Throw(ErrorCode::kCorruption, "{}: \"{}\" is no number", path, text);
  }
  return value;
}

}  // namespace

void SaveRunState(const std::string& path, const RunState& state, const Parameters& parameters,
                  Optimizer& optimizer) {
  const std::vector<Optimizer::State> tensors = Tensors(parameters, optimizer);
  std::vector<TensorSpec> specs;
  for (const auto& tensor : tensors) specs.push_back({tensor.name, DType::kF32, tensor.shape});
  SafetensorsOptions options;
  options.metadata = {{"baleen.step", fmt::format("{}", state.step)},
                      {"baleen.tokens", fmt::format("{}", state.tokens)},
                      {"baleen.milliseconds", fmt::format("{:.0f}", state.seconds * 1e3)},
                      {"baleen.data_position", state.data_position},
                      {"baleen.config", state.config},
                      {"baleen.model", state.model},
                      {"baleen.data", state.data},
                      {"baleen.isa", state.isa}};
  SafetensorsWriter writer(path, std::move(specs), options);
  for (const auto& tensor : tensors) writer.Write(tensor.name, std::as_bytes(tensor.values));
  writer.Finish();
}

RunState LoadRunState(const std::string& path, const RunState& expected, Parameters& parameters,
                      Optimizer& optimizer) {
  const SafetensorsFile file(path);
  const auto get = [&](const char* key) {
    const auto found = file.metadata().find(std::string("baleen.") + key);
    if (found == file.metadata().end()) {
      Throw(ErrorCode::kCorruption, "{}: {} is missing; this is no state of a run", path, key);
    }
    return found->second;
  };
  RunState state = {.step = ToNumber(path, get("step")),
                    .tokens = ToNumber(path, get("tokens")),
                    .seconds = static_cast<double>(ToNumber(path, get("milliseconds"))) / 1e3,
                    .data_position = get("data_position"),
                    .config = get("config"),
                    .model = get("model"),
                    .data = get("data"),
                    .isa = get("isa")};
  const auto require = [&](const char* what, const std::string& found, const std::string& wanted) {
    if (found == wanted) return;
    Throw(ErrorCode::kInvalidArgument,
          "{} belongs to a run with another {}; name another output, or go on with what it was "
          "begun with: {}",
          path, what, found.substr(0, 2000));
  };
  require("model", state.model, expected.model);
  require("configuration", state.config, expected.config);
  require("data", state.data, expected.data);
  for (const auto& tensor : Tensors(parameters, optimizer)) {
    const TensorView* view = file.Find(tensor.name);
    if (view == nullptr || view->shape != tensor.shape || view->dtype != DType::kF32) {
      Throw(ErrorCode::kCorruption, "{}: tensor {} is missing or misshaped", path, tensor.name);
    }
    ToF32(*view, 0, tensor.values.size(), tensor.values.data());
  }
  return state;
}

void SaveModel(const std::string& path, const Parameters& parameters) {
  std::vector<TensorSpec> specs;
  for (const Parameter& p : parameters.list()) specs.push_back({p.name, DType::kBF16, p.shape});
  for (size_t i = 0; i < parameters.router_biases().size(); ++i) {
    specs.push_back(
        {parameters.router_bias_names()[i], DType::kF32, {parameters.router_biases()[i].size()}});
  }
  SafetensorsWriter writer(path, std::move(specs));
  for (const Parameter& p : parameters.list()) {
    std::vector<uint16_t> rounded(p.value.size());
    for (size_t i = 0; i < rounded.size(); ++i) rounded[i] = F32ToBf16(p.value[i]);
    writer.Write(p.name, std::as_bytes(std::span(rounded)));
  }
  for (size_t i = 0; i < parameters.router_biases().size(); ++i) {
    writer.Write(parameters.router_bias_names()[i], std::as_bytes(parameters.router_biases()[i]));
  }
  writer.Finish();
}

}  // namespace baleen
