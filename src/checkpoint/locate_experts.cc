#include "checkpoint/locate_experts.h"

#include <utility>

namespace baleen {

ExpertMap LocateExperts(const ModelWeights& weights, const WeightSource& source,
                        const MappedFile* tile_file) {
  const auto find = [&](const Matrix& matrix, FilePlace& place) {
    std::optional<FilePlace> found;
    if (tile_file != nullptr) found = tile_file->PlaceOf(matrix.data);
    if (!found) found = source.PlaceOf(matrix.data);
    if (found) place = *std::move(found);
    return found.has_value();
  };
  ExpertMap map;
  map.layers.resize(weights.layers.size());
  for (size_t l = 0; l < weights.layers.size(); ++l) {
    for (const MlpWeights& expert : weights.layers[l].moe.experts) {
      std::array<FilePlace, 3> places;
      if (!find(expert.gate_proj, places[0]) || !find(expert.up_proj, places[1]) ||
          !find(expert.down_proj, places[2])) {
        return {};
      }
      AddExpert(expert, places, l, map);
    }
  }
  return map;
}

}  // namespace baleen
