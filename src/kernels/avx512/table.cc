#include "kernels/generic/table.h"

#include "kernels/avx512/primitives.h"
#include "kernels/tables.h"

namespace baleen::kernels {

constexpr KernelTable kAvx512Table =
    generic::TableOf<avx512::Primitives, avx512::TileMatMul>("avx512");

}  // namespace baleen::kernels
