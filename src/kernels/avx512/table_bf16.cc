// AVX-512 with products of BF16 pairs: the ops that have some; the rest is table.cc's. Apart
// because it is compiled with one instruction set more, which the compiler might use anywhere.
#include "kernels/avx512/primitives.h"
#include "kernels/generic/matmul.h"
#include "kernels/generic/mla_absorbed.h"
#include "kernels/generic/outer_matmul.h"
#include "kernels/generic/peak.h"
#include "kernels/tables.h"

namespace baleen::kernels {

namespace {

struct Bf16Primitives : avx512::Primitives {
  using Bf16 = __m512bh;

  BALEEN_INLINE static Bf16 LoadPairs(const void* p) {
    return reinterpret_cast<Bf16>(_mm512_loadu_si512(p));
  }
  BALEEN_INLINE static Bf16 LoadPairs(const void* p, size_t n) {
    const __mmask32 mask = static_cast<__mmask32>((uint64_t{1} << n) - 1);
    return reinterpret_cast<Bf16>(_mm512_maskz_loadu_epi16(mask, p));
  }
  BALEEN_INLINE static Bf16 SetPair(const void* p) {
    int32_t pair;
    __builtin_memcpy(&pair, p, sizeof(pair));
    return reinterpret_cast<Bf16>(Opaque(_mm512_set1_epi32(pair)));
  }
  BALEEN_INLINE static Bf16 LoadInterleaved(const void* even, const void* odd) {
    return Interleave(_mm256_loadu_si256(static_cast<const __m256i*>(even)),
                      _mm256_loadu_si256(static_cast<const __m256i*>(odd)));
  }
  BALEEN_INLINE static Bf16 LoadInterleaved(const void* even, const void* odd, size_t n) {
    return Interleave(_mm256_maskz_loadu_epi16(Mask(n), even),
                      _mm256_maskz_loadu_epi16(Mask(n), odd));
  }
  BALEEN_INLINE static F32 DotPairs(Bf16 a, Bf16 b, F32 sum) { return _mm512_dpbf16_ps(sum, a, b); }

 private:
  // Opaque here and above, because clang 16 crashes on shuffles that it sees to be of type bf16.
  BALEEN_INLINE static Bf16 Interleave(__m256i even, __m256i odd) {
    const __m512i order =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(even), odd, 1);
    return reinterpret_cast<Bf16>(Opaque(_mm512_permutexvar_epi16(order, both)));
  }
};

void MatMul(const MatMulArgs& args) {
  const bool pairs = args.x.type == ActivationType::kBF16 && args.w.dtype == DType::kBF16 &&
                     args.w.tiles.bits == 0;
  pairs ? generic::PairMatMul<Bf16Primitives>(args) : kAvx512Table.matmul(args);
}

void OuterMatMul(const OuterMatMulArgs& args) {
  const bool pairs = args.type == ActivationType::kBF16;
  pairs ? generic::PairOuterMatMul<Bf16Primitives>(args) : kAvx512Table.outer_matmul(args);
}

void MlaAbsorbed(const MlaAbsorbedArgs& args) {
  const bool pairs = args.products == ActivationType::kBF16 && args.cache.dtype == DType::kBF16;
  pairs ? generic::PairMlaAbsorbed<Bf16Primitives>(args) : kAvx512Table.mla_absorbed(args);
}

double PeakLoop(PeakKind kind, size_t iterations) {
  return kind == PeakKind::kBF16 ? generic::PairPeakLoop<Bf16Primitives>(iterations)
                                 : kAvx512Table.peak_loop(kind, iterations);
}

}  // namespace

constexpr PairKernels kAvx512PairKernels = {MatMul, OuterMatMul, MlaAbsorbed, PeakLoop};

}  // namespace baleen::kernels
