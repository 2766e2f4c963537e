// checkpoint/tile_cache.h: weights repacked into tiles (tensor/tiles.h), once for each model.
//
// The tiles of a large model go to a file under the user's cache directory, which is mapped from
// then on; the next opening finds it there. It may be deleted at any time, and replaces older ones
// of the same model. Small models, and all where the directory cannot be written, are repacked into
// memory at each opening.
#ifndef BALEEN_CHECKPOINT_TILE_CACHE_H_
#define BALEEN_CHECKPOINT_TILE_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "model/weights.h"
#include "tensor/mapped_file.h"
#include "tensor/tiles.h"

namespace baleen {

// One matrix to repack.
struct TileJob {
  TileLayout layout;
  size_t rows = 0;
  // Fills in rows [first_row, first_row + num_rows), at most 16, as rows [0, num_rows) of `out`,
  // which has room for 16. Several threads call it at once.
  std::function<void(size_t first_row, size_t num_rows, TileRowBuffers& out)> unpack;
  // What unpack reads, if that is a mapped file: its pages are given back when the matrix is done.
  std::vector<std::span<const std::byte>> mapped_sources;
  // These become tiles; their type, rows and columns stay.
  std::vector<Matrix*> targets;
};

struct TileCacheOptions {
  std::string directory;  // "": $XDG_CACHE_HOME/baleen or ~/.cache/baleen
  std::string model;      // the path of the model
  std::string state;      // what changes when its files do (FileState of each)
  size_t num_threads = 1;
  uint64_t min_file_bytes = uint64_t{64} << 20;  // smaller models stay in memory
};

// Size and time of change of a file, for TileCacheOptions::state.
std::string FileState(const std::string& path);

struct RepackedTiles {
  std::shared_ptr<const void> memory;      // what the targets point into
  std::shared_ptr<const MappedFile> file;  // that is the cache file; null: it is none
  bool created = false;                    // the file is new
  uint64_t bytes = 0;
};

// Repacks, or finds what an earlier call has left. Errors: kResourceExhausted, there is neither
// disk nor memory for the tiles; what `unpack` throws.
RepackedTiles RepackTiles(std::span<const TileJob> jobs, const TileCacheOptions& options);

}  // namespace baleen

#endif  // BALEEN_CHECKPOINT_TILE_CACHE_H_
