// checkpoint/locate_experts.h: where the routed experts of an open checkpoint lie on disk.
#ifndef BALEEN_CHECKPOINT_LOCATE_EXPERTS_H_
#define BALEEN_CHECKPOINT_LOCATE_EXPERTS_H_

#include "model/expert_store.h"
#include "tensor/weight_source.h"

namespace baleen {

// For an ExpertStore. `tile_file`: of RepackWeights, or null. Those of MTP modules are left out.
// Without layers if there are no experts, or if some lie in memory only: repacked or decoded there.
ExpertMap LocateExperts(const ModelWeights& weights, const WeightSource& source,
                        const MappedFile* tile_file);

}  // namespace baleen

#endif  // BALEEN_CHECKPOINT_LOCATE_EXPERTS_H_
