#include "kernels/avx2/primitives.h"
#include "kernels/generic/tiles.h"
#include "kernels/tables.h"

namespace baleen::kernels::avx2 {

void TileMatMul(const MatMulArgs& args) {
  generic::TileMatMul<Primitives, FactoredTileMatMul>(args);
}

}  // namespace baleen::kernels::avx2
