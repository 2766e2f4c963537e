// tensor/block_tiles.h: rows of GGUF's block types as what tiles are made of.
#ifndef BALEEN_TENSOR_BLOCK_TILES_H_
#define BALEEN_TENSOR_BLOCK_TILES_H_

#include <cstddef>

#include "tensor/dtype.h"
#include "tensor/tiles.h"

namespace baleen {

// The tiles that hold every number of rows of `cols` elements, whole blocks, of a block type.
TileLayout TileLayoutOf(DType dtype, size_t cols);

// Fills in row `row` of `out`, which has the sizes of that layout, from a row as the file has it.
void UnpackRow(DType dtype, const std::byte* data, size_t cols, size_t row, TileRowBuffers& out);

}  // namespace baleen

#endif  // BALEEN_TENSOR_BLOCK_TILES_H_
