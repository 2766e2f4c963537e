// kernels/avx512/primitives.h: what AVX-512 (F, BW, DQ, VL) supplies to the algorithms of generic/.
// generic/formats.h lists what each primitive means.
#ifndef BALEEN_KERNELS_AVX512_PRIMITIVES_H_
#define BALEEN_KERNELS_AVX512_PRIMITIVES_H_

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/generic/formats.h"
#include "kernels/generic/inline.h"

namespace baleen::kernels::avx512 {

// An unnamed namespace on purpose: each table's file then has types of its own, and whatever
// template it instantiates stays inside that file. Else the linker could keep, for everybody, a
// copy that was compiled with wider instructions than the machine has.
namespace {

struct Primitives {
  using F32 = __m512;
  static constexpr size_t kLanes = 16;

  // Inner-product tile, 6 x 4: 24 sums + 4 weights + 1 activation = 29 of 32 registers; 10 loads
  // and 4 widenings for 24 multiply-adds. Rows of weights come in multiples of 4.
  static constexpr size_t kInnerM = 6, kInnerN = 4;
  // One activation row: 8 weight rows at once hide the latency of the multiply-add (4 cycles).
  static constexpr size_t kStreamN = 8;
  // Outer-product tile, 8 x 2 vectors: 16 sums + 2 weights + 1 broadcast = 19 of 32 registers; the
  // widths of DeepSeek models are multiples of 2 x 16 columns.
  static constexpr size_t kOuterM = 8, kOuterN = 2;

  BALEEN_INLINE static F32 Zero() { return _mm512_setzero_ps(); }
  BALEEN_INLINE static F32 Set(float value) { return _mm512_set1_ps(value); }
  BALEEN_INLINE static __mmask16 Mask(size_t n) { return static_cast<__mmask16>((1u << n) - 1); }

  BALEEN_INLINE static F32 LoadF32(const void* p) { return _mm512_loadu_ps(p); }
  BALEEN_INLINE static F32 LoadF32(const void* p, size_t n) {
    return _mm512_maskz_loadu_ps(Mask(n), p);
  }
  BALEEN_INLINE static void Store(float* p, F32 v) { _mm512_storeu_ps(p, v); }
  BALEEN_INLINE static void Store(float* p, F32 v, size_t n) {
    _mm512_mask_storeu_ps(p, Mask(n), v);
  }

  BALEEN_INLINE static F32 LoadBf16(const void* p) {
    return WidenBf16(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
  }
  BALEEN_INLINE static F32 LoadBf16(const void* p, size_t n) {
    return WidenBf16(_mm256_maskz_loadu_epi16(Mask(n), p));
  }
  BALEEN_INLINE static F32 LoadF16(const void* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
  }
  BALEEN_INLINE static F32 LoadF16(const void* p, size_t n) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(Mask(n), p));
  }
  BALEEN_INLINE static F32 LoadF8(const void* p) {
    return WidenF8(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  }
  BALEEN_INLINE static F32 LoadF8(const void* p, size_t n) {
    return WidenF8(_mm_maskz_loadu_epi8(Mask(n), p));
  }
  BALEEN_INLINE static F32 LoadI8(const void* p) {
    return _mm512_cvtepi32_ps(
        _mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p))));
  }
  BALEEN_INLINE static F32 LoadI8(const void* p, size_t n) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(Mask(n), p)));
  }

  BALEEN_INLINE static void StoreBf16(void* p, F32 v) {
    _mm256_storeu_si256(static_cast<__m256i*>(p), RoundToBf16(v));
  }
  BALEEN_INLINE static void StoreBf16(void* p, F32 v, size_t n) {
    _mm256_mask_storeu_epi16(p, Mask(n), RoundToBf16(v));
  }

  BALEEN_INLINE static F32 Add(F32 a, F32 b) { return _mm512_add_ps(a, b); }
  BALEEN_INLINE static F32 Sub(F32 a, F32 b) { return _mm512_sub_ps(a, b); }
  BALEEN_INLINE static F32 Mul(F32 a, F32 b) { return _mm512_mul_ps(a, b); }
  BALEEN_INLINE static F32 Div(F32 a, F32 b) { return _mm512_div_ps(a, b); }
  BALEEN_INLINE static F32 Sqrt(F32 a) { return _mm512_sqrt_ps(a); }
  BALEEN_INLINE static F32 Max(F32 a, F32 b) { return _mm512_max_ps(a, b); }
  BALEEN_INLINE static F32 Fma(F32 a, F32 b, F32 c) { return _mm512_fmadd_ps(a, b, c); }
  BALEEN_INLINE static F32 SelectLess(F32 a, F32 b, F32 yes, F32 no) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes);
  }

  BALEEN_INLINE static F32 Round(F32 a) {
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  BALEEN_INLINE static F32 MulPow2(F32 a, F32 n) { return _mm512_scalef_ps(a, n); }

  BALEEN_INLINE static float ReduceAdd(F32 v) { return ReduceAdd128(Fold(v)); }
  BALEEN_INLINE static float ReduceMax(F32 v) { return _mm512_reduce_max_ps(v); }

  // out[i] = ReduceAdd(v[i]), the same additions done side by side.
  BALEEN_INLINE static void ReduceAdd4(const F32 (&v)[4], float (&out)[4]) {
    const __m512 ab = FoldHalves(v[0], v[1]);
    const __m512 cd = FoldHalves(v[2], v[3]);
    const __m512 quads = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, _MM_SHUFFLE(2, 0, 2, 0)),
                                       _mm512_shuffle_f32x4(ab, cd, _MM_SHUFFLE(3, 1, 3, 1)));
    const __m512 pairs = _mm512_add_ps(quads, _mm512_permute_ps(quads, _MM_SHUFFLE(1, 0, 3, 2)));
    const __m512 sums = _mm512_add_ps(pairs, _mm512_permute_ps(pairs, _MM_SHUFFLE(2, 3, 0, 1)));
    const __m512i first_of_quad =
        _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    _mm_storeu_ps(out, _mm512_castps512_ps128(_mm512_permutexvar_ps(first_of_quad, sums)));
  }

  BALEEN_INLINE static F32 LoadTwice(const float* p) {
    const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    return _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(_mm256_loadu_ps(p)));
  }
  BALEEN_INLINE static F32 SwapPairs(F32 v) { return _mm512_permute_ps(v, 0xb1); }
  BALEEN_INLINE static F32 FmaSubAdd(F32 a, F32 b, F32 c) { return _mm512_fmaddsub_ps(a, b, c); }

  using I32 = __m512i;
  BALEEN_INLINE static I32 ZeroI32() { return _mm512_setzero_si512(); }
  BALEEN_INLINE static I32 SetI32(int32_t value) { return _mm512_set1_epi32(value); }
  BALEEN_INLINE static I32 LoadI32(const void* p) { return _mm512_loadu_si512(p); }
  BALEEN_INLINE static I32 LoadU16(const void* p) {
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
  }
  BALEEN_INLINE static I32 RepeatI32(const void* p) {
    int32_t value;
    __builtin_memcpy(&value, p, sizeof(value));
    return _mm512_set1_epi32(value);
  }
  BALEEN_INLINE static I32 AddI32(I32 a, I32 b) { return _mm512_add_epi32(a, b); }
  BALEEN_INLINE static int32_t ReduceAddI32(I32 v) { return _mm512_reduce_add_epi32(v); }
  BALEEN_INLINE static F32 ToF32(I32 v) { return _mm512_cvtepi32_ps(v); }
  BALEEN_INLINE static I32 ToI32(F32 v) { return _mm512_cvtps_epi32(v); }
  BALEEN_INLINE static void StoreI8(void* p, I32 v) {
    _mm_storeu_si128(static_cast<__m128i*>(p), _mm512_cvtepi32_epi8(v));
  }
  BALEEN_INLINE static F32 MaxMagnitude(F32 a, F32 b) {
    return _mm512_castsi512_ps(_mm512_max_epi32(Magnitude(a), Magnitude(b)));
  }
  BALEEN_INLINE static float ReduceMaxMagnitude(F32 v) {
    return __builtin_bit_cast(float, _mm512_reduce_max_epi32(Magnitude(v)));
  }

  BALEEN_INLINE static I32 DotI8(I32 a, I32 b, I32 sum) { return _mm512_dpbusd_epi32(sum, a, b); }
  static constexpr bool kDotI8IsOne = true;
  BALEEN_INLINE static I32 MulI32(I32 a, I32 b) { return _mm512_mullo_epi32(a, b); }
  template <int kCount>
  BALEEN_INLINE static I32 ShiftLeft(I32 v) {
    return _mm512_slli_epi32(v, kCount);
  }
  template <int kCount>
  BALEEN_INLINE static I32 ShiftRight(I32 v) {
    return _mm512_srai_epi32(v, kCount);
  }
  template <int kFrom, int kWidth, int kTo>
  BALEEN_INLINE static I32 CodeBits(I32 v) {
    const I32 mask = _mm512_set1_epi8(static_cast<char>(((1 << kWidth) - 1) << kTo));
    if constexpr (kFrom > kTo) {
      v = _mm512_srli_epi16(v, kFrom - kTo);
    } else if constexpr (kFrom < kTo) {
      v = _mm512_slli_epi16(v, kTo - kFrom);
    }
    return _mm512_and_si512(v, mask);
  }
  BALEEN_INLINE static I32 Or(I32 a, I32 b) { return _mm512_or_si512(a, b); }
  BALEEN_INLINE static I32 ShiftRightBy(I32 v, size_t count) {
    return _mm512_srl_epi32(v, _mm_cvtsi64_si128(static_cast<int64_t>(count)));
  }
  BALEEN_INLINE static I32 RepeatTable(const uint8_t (&table)[16]) {
    return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
  }
  BALEEN_INLINE static I32 Lookup(I32 table, I32 codes) {
    return _mm512_shuffle_epi8(table, codes);
  }
  template <int kShift, int kCount>
  BALEEN_INLINE static I32 Bits(I32 v) {
    return _mm512_and_si512(_mm512_srli_epi32(v, kShift), _mm512_set1_epi32((1 << kCount) - 1));
  }

  // 12 x 1: 12 sums of whole numbers + 12 of floats + codes, mask and scales: 28 of 32 registers.
  // Fewer rows take more vectors, so that there are chains enough to hide the latency (4 cycles).
  static constexpr size_t kCodeAhead = 2048;
  static constexpr generic::CodeShape kFewCodes = {2, 4}, kSomeCodes = {4, 2}, kManyCodes = {12, 1};
  template <size_t kBits>
  static constexpr int kCodeZero = 0;
  template <size_t kBits>
  BALEEN_INLINE static I32 OpenSum(I32 total) {
    return total;
  }
  template <size_t kBits>
  BALEEN_INLINE static I32 DotCodes(I32 codes, I32 x, I32 sum) {
    return DotI8(codes, x, sum);
  }
  template <size_t kBits>
  BALEEN_INLINE static I32 CloseSum(I32 sum, I32 /*total*/) {
    return sum;
  }
  template <size_t kBits>
  static constexpr size_t kSumCols = 32;
  template <size_t kBits>
  BALEEN_INLINE static I32 OpenPart(I32 sums) {
    const I32 sum = _mm512_madd_epi16(sums, _mm512_set1_epi16(1));
    if constexpr (kBits < 4) {
      return _mm512_srai_epi32(sum, 4 - kBits);
    } else {
      return _mm512_slli_epi32(sum, kBits - 4);
    }
  }
  BALEEN_INLINE static I32 LoadFactors(const void* p) {
    const I32 v = _mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)));
    return _mm512_mask_blend_epi16(0xaaaaaaaa, v, _mm512_slli_epi32(v, 16));
  }
  template <size_t kBits>
  BALEEN_INLINE static I32 ClosePart(I32 sum, I32 factors, I32 total) {
    return _mm512_add_epi32(total, _mm512_mullo_epi32(sum, ShiftRight<16>(factors)));
  }
  BALEEN_INLINE static I32 DotSums(I32 sums, I32 factors, I32 total) {
    return _mm512_add_epi32(total, _mm512_madd_epi16(sums, factors));
  }
  template <typename Vector>
  BALEEN_INLINE static Vector Opaque(Vector v) {
    asm volatile("" : "+v"(v));
    return v;
  }

 private:
  BALEEN_INLINE static __m512i Magnitude(F32 v) {
    return _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(0x7fffffff));
  }
  BALEEN_INLINE static F32 WidenBf16(__m256i v) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16));
  }

  // As half-precision bits an e4m3 value reads as value / 256. Widening with the sign copies the
  // sign into bit 14 as well, where it must go. 0x7f and 0xff are NaN.
  BALEEN_INLINE static F32 WidenF8(__m128i bytes) {
    const __m256i half = _mm256_and_si256(_mm256_slli_epi16(_mm256_cvtepi8_epi16(bytes), 7),
                                          _mm256_set1_epi16(static_cast<int16_t>(0xbfff)));
    const __mmask16 number =
        _mm_cmpneq_epi8_mask(_mm_or_si128(bytes, _mm_set1_epi8(-128)), _mm_set1_epi8(-1));
    const __m512 nan = _mm512_set1_ps(__builtin_nanf(""));
    return _mm512_mask_mul_ps(nan, number, _mm512_cvtph_ps(half), _mm512_set1_ps(256.0f));
  }

  // vcvtneps2bf16 is not used even where it exists: it flushes subnormal numbers to zero.
  BALEEN_INLINE static __m256i RoundToBf16(F32 v) {
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i high = _mm512_srli_epi32(bits, 16);
    const __m512i even = _mm512_and_si512(high, _mm512_set1_epi32(1));
    const __m512i bias = _mm512_add_epi32(even, _mm512_set1_epi32(0x7fff));
    const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, bias), 16);
    const __m512i quiet = _mm512_or_si512(high, _mm512_set1_epi32(0x40));
    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    return _mm512_cvtepi32_epi16(_mm512_mask_blend_epi32(nan, rounded, quiet));
  }

  // [a low half + a high half, b low half + b high half].
  BALEEN_INLINE static __m512 FoldHalves(__m512 a, __m512 b) {
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, _MM_SHUFFLE(1, 0, 1, 0)),
                         _mm512_shuffle_f32x4(a, b, _MM_SHUFFLE(3, 2, 3, 2)));
  }
  BALEEN_INLINE static __m128 Fold(__m512 v) {
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  }
  BALEEN_INLINE static float ReduceAdd128(__m128 v) {
    const __m128 pairs = _mm_add_ps(v, _mm_movehl_ps(v, v));
    return _mm_cvtss_f32(_mm_add_ss(pairs, _mm_movehdup_ps(pairs)));
  }
};

}  // namespace

}  // namespace baleen::kernels::avx512

#endif  // BALEEN_KERNELS_AVX512_PRIMITIVES_H_
