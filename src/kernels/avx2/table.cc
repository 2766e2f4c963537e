#include "kernels/generic/table.h"

#include "kernels/avx2/primitives.h"
#include "kernels/tables.h"

namespace baleen::kernels {

constexpr KernelTable kAvx2Table = generic::TableOf<avx2::Primitives, avx2::TileMatMul>("avx2");

}  // namespace baleen::kernels
