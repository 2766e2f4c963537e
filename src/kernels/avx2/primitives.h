// kernels/avx2/primitives.h: what AVX2 with FMA and F16C supplies to the algorithms of generic/.
// generic/formats.h lists what each primitive means.
#ifndef BALEEN_KERNELS_AVX2_PRIMITIVES_H_
#define BALEEN_KERNELS_AVX2_PRIMITIVES_H_

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/generic/formats.h"
#include "kernels/generic/inline.h"

namespace baleen::kernels::avx2 {

// An unnamed namespace on purpose: see avx512/primitives.h.
namespace {

struct Primitives {
  using F32 = __m256;
  static constexpr size_t kLanes = 8;

  // Inner-product tile, 4 x 3: 12 sums + 3 weights + 1 activation = 16 of 16 registers; 7 loads and
  // 3 widenings for 12 multiply-adds.
  static constexpr size_t kInnerM = 4, kInnerN = 3;
  // One activation row: 8 sums + 1 activation + 1 weight; 8 chains feed two multiply-adds a cycle.
  static constexpr size_t kStreamN = 8;
  // Outer-product tile, 6 x 2 vectors: 12 sums + 2 weights + 1 broadcast = 15 of 16 registers; two
  // multiply-adds a cycle with a latency of four or five need at least ten sums.
  static constexpr size_t kOuterM = 6, kOuterN = 2;

  BALEEN_INLINE static F32 Zero() { return _mm256_setzero_ps(); }
  BALEEN_INLINE static F32 Set(float value) { return _mm256_set1_ps(value); }

  BALEEN_INLINE static F32 LoadF32(const void* p) {
    return _mm256_loadu_ps(static_cast<const float*>(p));
  }
  BALEEN_INLINE static F32 LoadF32(const void* p, size_t n) {
    return _mm256_maskload_ps(static_cast<const float*>(p), Mask(n));
  }
  BALEEN_INLINE static void Store(float* p, F32 v) { _mm256_storeu_ps(p, v); }
  BALEEN_INLINE static void Store(float* p, F32 v, size_t n) { _mm256_maskstore_ps(p, Mask(n), v); }

  BALEEN_INLINE static F32 LoadBf16(const void* p) {
    return WidenBf16(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  }
  BALEEN_INLINE static F32 LoadBf16(const void* p, size_t n) {
    return WidenBf16(LoadBytes(p, 2 * n));
  }
  BALEEN_INLINE static F32 LoadF16(const void* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  }
  BALEEN_INLINE static F32 LoadF16(const void* p, size_t n) {
    return _mm256_cvtph_ps(LoadBytes(p, 2 * n));
  }
  BALEEN_INLINE static F32 LoadF8(const void* p) {
    return WidenF8(_mm_loadl_epi64(static_cast<const __m128i*>(p)));
  }
  BALEEN_INLINE static F32 LoadF8(const void* p, size_t n) { return WidenF8(LoadBytes(p, n)); }
  BALEEN_INLINE static F32 LoadI8(const void* p) {
    return _mm256_cvtepi32_ps(
        _mm256_cvtepi8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p))));
  }
  BALEEN_INLINE static F32 LoadI8(const void* p, size_t n) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(LoadBytes(p, n)));
  }

  BALEEN_INLINE static void StoreBf16(void* p, F32 v) {
    _mm_storeu_si128(static_cast<__m128i*>(p), RoundToBf16(v));
  }
  BALEEN_INLINE static void StoreBf16(void* p, F32 v, size_t n) {
    const __m128i rounded = RoundToBf16(v);
    __builtin_memcpy(p, &rounded, 2 * n);
  }

  BALEEN_INLINE static F32 Add(F32 a, F32 b) { return _mm256_add_ps(a, b); }
  BALEEN_INLINE static F32 Sub(F32 a, F32 b) { return _mm256_sub_ps(a, b); }
  BALEEN_INLINE static F32 Mul(F32 a, F32 b) { return _mm256_mul_ps(a, b); }
  BALEEN_INLINE static F32 Div(F32 a, F32 b) { return _mm256_div_ps(a, b); }
  BALEEN_INLINE static F32 Sqrt(F32 a) { return _mm256_sqrt_ps(a); }
  BALEEN_INLINE static F32 Max(F32 a, F32 b) { return _mm256_max_ps(a, b); }
  BALEEN_INLINE static F32 Fma(F32 a, F32 b, F32 c) { return _mm256_fmadd_ps(a, b, c); }
  BALEEN_INLINE static F32 SelectLess(F32 a, F32 b, F32 yes, F32 no) {
    return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
  }

  BALEEN_INLINE static F32 Round(F32 a) {
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  // In two steps, because 2^128 is not a float.
  BALEEN_INLINE static F32 MulPow2(F32 a, F32 n) {
    const __m256i whole = _mm256_cvtps_epi32(n);
    const __m256i half = _mm256_srai_epi32(whole, 1);
    return _mm256_mul_ps(_mm256_mul_ps(a, Pow2(half)), Pow2(_mm256_sub_epi32(whole, half)));
  }

  BALEEN_INLINE static float ReduceAdd(F32 v) {
    const __m128 quad = Fold(v);
    const __m128 pair = _mm_add_ps(quad, _mm_movehl_ps(quad, quad));
    return _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)));
  }
  BALEEN_INLINE static float ReduceMax(F32 v) {
    const __m128 quad = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 pair = _mm_max_ps(quad, _mm_movehl_ps(quad, quad));
    return _mm_cvtss_f32(_mm_max_ss(pair, _mm_movehdup_ps(pair)));
  }

  // out[i] = ReduceAdd(v[i]), the same additions done side by side.
  BALEEN_INLINE static void ReduceAdd4(const F32 (&v)[4], float (&out)[4]) {
    const __m128 a = Fold(v[0]), b = Fold(v[1]), c = Fold(v[2]), d = Fold(v[3]);
    const __m128 ab = _mm_add_ps(_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
    const __m128 cd = _mm_add_ps(_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
    _mm_storeu_ps(out, _mm_add_ps(_mm_movelh_ps(ab, cd), _mm_movehl_ps(cd, ab)));
  }

  BALEEN_INLINE static F32 LoadTwice(const float* p) {
    const __m256i twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
    return _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), twice);
  }
  BALEEN_INLINE static F32 SwapPairs(F32 v) { return _mm256_permute_ps(v, 0xb1); }
  BALEEN_INLINE static F32 FmaSubAdd(F32 a, F32 b, F32 c) { return _mm256_fmaddsub_ps(a, b, c); }

  using I32 = __m256i;
  BALEEN_INLINE static I32 ZeroI32() { return _mm256_setzero_si256(); }
  BALEEN_INLINE static I32 SetI32(int32_t value) { return _mm256_set1_epi32(value); }
  BALEEN_INLINE static I32 LoadI32(const void* p) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(p));
  }
  BALEEN_INLINE static I32 LoadU16(const void* p) {
    return _mm256_cvtepu16_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  }
  BALEEN_INLINE static I32 RepeatI32(const void* p) {
    int32_t value;
    __builtin_memcpy(&value, p, sizeof(value));
    return _mm256_set1_epi32(value);
  }
  BALEEN_INLINE static I32 AddI32(I32 a, I32 b) { return _mm256_add_epi32(a, b); }
  BALEEN_INLINE static int32_t ReduceAddI32(I32 v) {
    const __m128i quad = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    const __m128i pair = _mm_add_epi32(quad, _mm_unpackhi_epi64(quad, quad));
    return _mm_cvtsi128_si32(pair) + _mm_extract_epi32(pair, 1);
  }
  BALEEN_INLINE static F32 ToF32(I32 v) { return _mm256_cvtepi32_ps(v); }
  BALEEN_INLINE static I32 ToI32(F32 v) { return _mm256_cvtps_epi32(v); }
  BALEEN_INLINE static void StoreI8(void* p, I32 v) {
    const __m128i words =
        _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    _mm_storel_epi64(static_cast<__m128i*>(p), _mm_packs_epi16(words, words));
  }
  BALEEN_INLINE static F32 MaxMagnitude(F32 a, F32 b) {
    return _mm256_castsi256_ps(_mm256_max_epi32(Magnitude(a), Magnitude(b)));
  }
  BALEEN_INLINE static float ReduceMaxMagnitude(F32 v) {
    const __m256i bits = Magnitude(v);
    const __m128i quad =
        _mm_max_epi32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1));
    const __m128i pair = _mm_max_epi32(quad, _mm_unpackhi_epi64(quad, quad));
    const __m128i one = _mm_max_epi32(pair, _mm_shuffle_epi32(pair, 1));
    return __builtin_bit_cast(float, _mm_cvtsi128_si32(one));
  }

  BALEEN_INLINE static I32 DotI8(I32 a, I32 b, I32 sum) {
    const __m256i pairs = _mm256_maddubs_epi16(a, b);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  static constexpr bool kDotI8IsOne = false;
  BALEEN_INLINE static I32 MulI32(I32 a, I32 b) { return _mm256_mullo_epi32(a, b); }
  template <int kCount>
  BALEEN_INLINE static I32 ShiftLeft(I32 v) {
    return _mm256_slli_epi32(v, kCount);
  }
  template <int kCount>
  BALEEN_INLINE static I32 ShiftRight(I32 v) {
    return _mm256_srai_epi32(v, kCount);
  }
  template <int kFrom, int kWidth, int kTo>
  BALEEN_INLINE static I32 CodeBits(I32 v) {
    const I32 mask = _mm256_set1_epi8(static_cast<char>(((1 << kWidth) - 1) << kTo));
    if constexpr (kFrom > kTo) {
      v = _mm256_srli_epi16(v, kFrom - kTo);
    } else if constexpr (kFrom < kTo) {
      v = _mm256_slli_epi16(v, kTo - kFrom);
    }
    return _mm256_and_si256(v, mask);
  }
  BALEEN_INLINE static I32 Or(I32 a, I32 b) { return _mm256_or_si256(a, b); }
  BALEEN_INLINE static I32 ShiftRightBy(I32 v, size_t count) {
    return _mm256_srl_epi32(v, _mm_cvtsi64_si128(static_cast<int64_t>(count)));
  }
  BALEEN_INLINE static I32 RepeatTable(const uint8_t (&table)[16]) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
  }
  BALEEN_INLINE static I32 Lookup(I32 table, I32 codes) {
    return _mm256_shuffle_epi8(table, codes);
  }
  template <int kShift, int kCount>
  BALEEN_INLINE static I32 Bits(I32 v) {
    return _mm256_and_si256(_mm256_srli_epi32(v, kShift), _mm256_set1_epi32((1 << kCount) - 1));
  }

  // vpmaddubsw adds two products into 16 bits. Four bits: a step adds at most 2 * 15 * 127 = 3810,
  // and the 8 steps of 32 columns 30480, below 2^15: so they are added up in 16 bits. So are the 4
  // steps of 16 columns with five bits (31496). Six bits would not fit, 64008, but meet symmetric
  // codes only: a sum that begins with the zero points ends within 4 * 2 * 32 * 127 = 32512 of
  // zero, and what overflows on the way there comes back. Eight bits: 255 * 127 * 2 would saturate,
  // so 128 is taken off the code, its sign given to x, and what is left, 128 * 127 * 2 = 32512,
  // fits once. 4 x 2: 8 sums of 16 bits + 2 codes + 1 activation + 1 product + mask = 13 of 16
  // registers; what is needed once for each segment waits in memory. Zen 3 follows several streams
  // by itself, faster than when it is told.
  static constexpr size_t kCodeAhead = 0;
  static constexpr generic::CodeShape kFewCodes = {1, 4}, kSomeCodes = {4, 2}, kManyCodes = {4, 2};
  template <size_t kBits>
  static constexpr int kCodeZero = kBits == 8 ? 128 : 0;
  template <size_t kBits>
  BALEEN_INLINE static I32 OpenSum(I32 total) {
    return kBits == 8 ? total : ZeroI32();
  }
  template <size_t kBits>
  BALEEN_INLINE static I32 DotCodes(I32 codes, I32 x, I32 sum) {
    if constexpr (kBits == 8) {
      const __m256i number = _mm256_xor_si256(codes, _mm256_set1_epi8(-128));
      return Settled(DotI8(_mm256_abs_epi8(number), _mm256_sign_epi8(x, number), sum));
    }
    // Left to itself the compiler adds up products in another order, and has no registers for them.
    return Settled(_mm256_add_epi16(sum, _mm256_maddubs_epi16(codes, x)));
  }
  template <size_t kBits>
  BALEEN_INLINE static I32 CloseSum(I32 sum, I32 total) {
    if constexpr (kBits == 8) return sum;
    return _mm256_add_epi32(total, _mm256_madd_epi16(sum, _mm256_set1_epi16(1)));
  }
  template <size_t kBits>
  static constexpr size_t kSumCols = kBits == 5 || kBits == 6 ? 16 : 32;
  template <size_t kBits>
  BALEEN_INLINE static I32 OpenPart(I32 sums) {
    if constexpr (kBits == 8) {
      return ZeroI32();
    } else if constexpr (kBits < 4) {
      return _mm256_srai_epi16(sums, 4 - kBits);
    } else {
      return _mm256_slli_epi16(sums, kBits - 4);
    }
  }
  // The byte of a lane to the upper half of both of its 16 bits, and down again with its sign.
  BALEEN_INLINE static I32 LoadFactors(const void* p) {
    int64_t bytes;
    __builtin_memcpy(&bytes, p, sizeof(bytes));
    const __m256i places = _mm256_setr_epi8(-1, 0, -1, 0, -1, 1, -1, 1, -1, 2, -1, 2, -1, 3, -1, 3,
                                            -1, 4, -1, 4, -1, 5, -1, 5, -1, 6, -1, 6, -1, 7, -1, 7);
    return _mm256_srai_epi16(_mm256_shuffle_epi8(_mm256_set1_epi64x(bytes), places), 8);
  }
  template <size_t kBits>
  BALEEN_INLINE static I32 ClosePart(I32 sum, I32 factors, I32 total) {
    if constexpr (kBits == 8) {
      return _mm256_add_epi32(total, _mm256_mullo_epi32(sum, ShiftRight<16>(factors)));
    }
    return DotSums(sum, factors, total);
  }
  BALEEN_INLINE static I32 DotSums(I32 sums, I32 factors, I32 total) {
    return _mm256_add_epi32(total, _mm256_madd_epi16(sums, factors));
  }
  template <typename Vector>
  BALEEN_INLINE static Vector Opaque(Vector v) {
    asm volatile("" : "+x"(v));
    return v;
  }

 private:
  BALEEN_INLINE static I32 Settled(I32 v) {
    asm("" : "+x"(v));
    return v;
  }
  BALEEN_INLINE static __m256i Magnitude(F32 v) {
    return _mm256_and_si256(_mm256_castps_si256(v), _mm256_set1_epi32(0x7fffffff));
  }
  BALEEN_INLINE static __m256i Mask(size_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  // Up to 16 bytes and zeros; there is no masked load of bytes.
  BALEEN_INLINE static __m128i LoadBytes(const void* p, size_t bytes) {
    __m128i v = _mm_setzero_si128();
    __builtin_memcpy(&v, p, bytes);
    return v;
  }
  BALEEN_INLINE static F32 WidenBf16(__m128i v) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(v), 16));
  }
  // As half-precision bits an e4m3 value reads as value / 256. Widening with the sign copies the
  // sign into bit 14 as well, where it must go. 0x7f and 0xff are NaN, and so is a half of all
  // ones.
  BALEEN_INLINE static F32 WidenF8(__m128i bytes) {
    const __m128i nan = _mm_cmpeq_epi8(_mm_or_si128(bytes, _mm_set1_epi8(-128)), _mm_set1_epi8(-1));
    const __m128i half = _mm_and_si128(_mm_slli_epi16(_mm_cvtepi8_epi16(bytes), 7),
                                       _mm_set1_epi16(static_cast<int16_t>(0xbfff)));
    const __m128i marked = _mm_or_si128(half, _mm_cvtepi8_epi16(nan));
    return _mm256_mul_ps(_mm256_cvtph_ps(marked), _mm256_set1_ps(256.0f));
  }
  BALEEN_INLINE static __m128i RoundToBf16(F32 v) {
    const __m256i bits = _mm256_castps_si256(v);
    const __m256i high = _mm256_srli_epi32(bits, 16);
    const __m256i even = _mm256_and_si256(high, _mm256_set1_epi32(1));
    const __m256i bias = _mm256_add_epi32(even, _mm256_set1_epi32(0x7fff));
    const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, bias), 16);
    const __m256i quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    const __m256i result = _mm256_blendv_epi8(rounded, quiet, nan);
    return _mm_packus_epi32(_mm256_castsi256_si128(result), _mm256_extracti128_si256(result, 1));
  }
  BALEEN_INLINE static __m256 Pow2(__m256i n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
  }
  BALEEN_INLINE static __m128 Fold(__m256 v) {
    return _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  }
};

}  // namespace

}  // namespace baleen::kernels::avx2

#endif  // BALEEN_KERNELS_AVX2_PRIMITIVES_H_
