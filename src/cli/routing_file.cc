#include "cli/routing_file.h"

#include <span>

#include "formats/safetensors_writer.h"

namespace baleen {

void WriteRoutingFile(const std::string& path, const RoutingTable& table) {
  const size_t num_layers = table.layers.size();
  const size_t num_tokens = table.token_ids.size();
  const Shape shape = {num_layers, num_tokens, table.experts_per_token};
  SafetensorsWriter writer(path, {{"experts", DType::kI32, shape},
                                  {"weights", DType::kF32, shape},
                                  {"layers", DType::kI32, {num_layers}},
                                  {"token_ids", DType::kI32, {num_tokens}}});
  writer.Write("experts", std::as_bytes(std::span(table.experts)));
  writer.Write("weights", std::as_bytes(std::span(table.weights)));
  writer.Write("layers", std::as_bytes(std::span(table.layers)));
  writer.Write("token_ids", std::as_bytes(std::span(table.token_ids)));
  writer.Finish();
}

}  // namespace baleen
