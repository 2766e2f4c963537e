#include "kernels/avx2/primitives.h"
#include "kernels/generic/tiles.h"
#include "kernels/tables.h"

namespace baleen::kernels::avx2 {

void FactoredTileMatMul(const MatMulArgs& args) { generic::FactoredTileMatMul<Primitives>(args); }

}  // namespace baleen::kernels::avx2
