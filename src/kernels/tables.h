// kernels/tables.h: the tables that are compiled in; for the registry and the tests.
#ifndef BALEEN_KERNELS_TABLES_H_
#define BALEEN_KERNELS_TABLES_H_

#include "kernels/table.h"

namespace baleen::kernels {

extern const KernelTable kScalarTable;  // ref/: plain loops, the judge of the others
extern const KernelTable kAvx2Table;    // AVX2, FMA, F16C
extern const KernelTable kAvx512Table;  // AVX-512 F/BW/DQ/VL and VNNI

// What AVX512_BF16 does otherwise than kAvx512Table, which it calls for what is not in pairs.
struct PairKernels {
  decltype(KernelTable::matmul) matmul;
  decltype(KernelTable::outer_matmul) outer_matmul;
  decltype(KernelTable::mla_absorbed) mla_absorbed;
  decltype(KernelTable::peak_loop) peak_loop;
};
extern const PairKernels kAvx512PairKernels;

}  // namespace baleen::kernels

#endif  // BALEEN_KERNELS_TABLES_H_
