// kernels/tables.h: the tables that are compiled in; for the registry and the tests.
#ifndef BALEEN_KERNELS_TABLES_H_
#define BALEEN_KERNELS_TABLES_H_

#include "kernels/table.h"

namespace baleen::kernels {

extern const KernelTable kScalarTable;      // ref/: plain loops, the judge of the others
extern const KernelTable kAvx2Table;        // AVX2, FMA, F16C
extern const KernelTable kAvx512Table;      // AVX-512 F/BW/DQ/VL and VNNI
extern const KernelTable kAvx512Bf16Table;  // the same and AVX512_BF16

}  // namespace baleen::kernels

#endif  // BALEEN_KERNELS_TABLES_H_
