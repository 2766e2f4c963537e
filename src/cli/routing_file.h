// cli/routing_file.h: writes a routing table for people who study experts.
#ifndef BALEEN_CLI_ROUTING_FILE_H_
#define BALEEN_CLI_ROUTING_FILE_H_

#include <string>

#include "evaluation/routing.h"

namespace baleen {

// A safetensors file with
//   experts    I32 [layers, tokens, k]   numbers of the chosen experts, as the router ranks them
//   weights    F32 [layers, tokens, k]   their weights in the sum
//   layers     I32 [layers]              which layer of the model each row is
//   token_ids  I32 [tokens]
// Errors: as SafetensorsWriter.
void WriteRoutingFile(const std::string& path, const RoutingTable& table);

}  // namespace baleen

#endif  // BALEEN_CLI_ROUTING_FILE_H_
