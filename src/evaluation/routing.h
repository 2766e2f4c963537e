// evaluation/routing.h: which experts each token of a text goes to.
#ifndef BALEEN_EVALUATION_ROUTING_H_
#define BALEEN_EVALUATION_ROUTING_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "baleen/engine.h"
#include "evaluation/windows.h"

namespace baleen {

struct RoutingTable {
  std::vector<int32_t> token_ids;  // [tokens]
  std::vector<int32_t> layers;     // [layers]: numbers of the layers that have experts
  size_t experts_per_token = 0;    // k
  std::vector<int32_t> experts;    // [layers, tokens, k]
  std::vector<float> weights;      // the same shape
};

// One pass over the tokens as they are.
// Errors: as Engine::ScoreTokens; kUnimplemented, the model has no experts.
RoutingTable TraceRouting(Engine& engine, std::span<const int32_t> token_ids);

// A text of any length, in windows (windows.h); the rows of BOS are left out.
// Errors: also those of ForEachWindow.
RoutingTable TraceRoutingInWindows(Engine& engine, std::span<const int32_t> token_ids,
                                   const WindowOptions& options);

}  // namespace baleen

#endif  // BALEEN_EVALUATION_ROUTING_H_
