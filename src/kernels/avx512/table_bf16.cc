// AVX-512 with products of BF16 pairs. Apart from table.cc because it is compiled with one
// instruction set more, which the compiler might use anywhere.
#include "kernels/avx512/primitives.h"
#include "kernels/generic/table.h"
#include "kernels/tables.h"

namespace baleen::kernels {

namespace {

struct Bf16Primitives : avx512::Primitives {
  using Bf16 = __m512bh;
  static constexpr bool kHasBf16Dot = true;

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
    // Opaque, because clang 16 crashes on a broadcast that it sees to be of type bf16.
    return reinterpret_cast<Bf16>(Opaque(_mm512_set1_epi32(pair)));
  }
  BALEEN_INLINE static F32 DotPairs(Bf16 a, Bf16 b, F32 sum) { return _mm512_dpbf16_ps(sum, a, b); }
};

}  // namespace

constexpr KernelTable kAvx512Bf16Table = generic::TableOf<Bf16Primitives>("avx512_bf16");

}  // namespace baleen::kernels
