// checkpoint/repack.h: brings the weights of an open checkpoint into the order that products like.
#ifndef BALEEN_CHECKPOINT_REPACK_H_
#define BALEEN_CHECKPOINT_REPACK_H_

#include <string>

#include "checkpoint/checkpoint.h"
#include "checkpoint/tile_cache.h"

namespace baleen {

// Weights in block types and GPTQ's layout become tiles (tile_cache.h), but for the router and the
// embedding, of which single rows are read. `options` says where; model and state are filled in
// here. Returns a note for the user, or "". Takes time when the cache is cold: about a second for
// each GB. Errors: as RepackTiles.
std::string RepackWeights(Checkpoint& checkpoint, TileCacheOptions options);

// Gives the matrices of which RepackWeights would make tiles their layout, and leaves their data as
// it is: for one who only counts.
void LayOutAsTiles(Checkpoint& checkpoint);

}  // namespace baleen

#endif  // BALEEN_CHECKPOINT_REPACK_H_
