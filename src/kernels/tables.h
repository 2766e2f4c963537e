// kernels/tables.h: the tables that are compiled in; for the registry and the tests.
#ifndef BALEEN_KERNELS_TABLES_H_
#define BALEEN_KERNELS_TABLES_H_

#include "kernels/table.h"

namespace baleen::kernels {

extern const KernelTable kScalarTable;  // ref/: plain loops, the judge of the others
extern const KernelTable kAvx2Table;    // AVX2, FMA, F16C
extern const KernelTable kAvx512Table;  // AVX-512 F/BW/DQ/VL and VNNI

// The tables' products of tiles with 8-bit rows, and those where groups have factors
// (super-blocks). They take the compiler longer than all else in a table, so each has a file: these
// are compiled side by side, and a change of one leaves the others.
namespace avx2 {
void TileMatMul(const MatMulArgs& args);
void FactoredTileMatMul(const MatMulArgs& args);
}  // namespace avx2
namespace avx512 {
void TileMatMul(const MatMulArgs& args);
void FactoredTileMatMul(const MatMulArgs& args);
}  // namespace avx512

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
