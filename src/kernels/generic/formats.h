// kernels/generic/formats.h: how stored rows become vectors, for the algorithms of generic/.
//
// An algorithm is a template over P, the primitives of one instruction set (avx2/primitives.h,
// avx512/primitives.h). P has:
//   F32, kLanes                   a vector of floats and its width
//   Zero, Set, Add, Sub, Mul, Div, Sqrt, Max, Fma (a * b + c, one rounding), Round (to an integer),
//   SelectLess(a, b, yes, no)     lane by lane
//   MulPow2(a, n)                 a * 2^n for integral n in [-126, 128]
//   LoadF32, LoadBf16, LoadF16, LoadF8, LoadI8(p[, n])   widened exactly, unaligned; with n <
//   kLanes: the
//                                 first n lanes, zeros elsewhere, nothing read beyond them
//   Store, StoreBf16(p, v[, n])   the mirror of that; BF16 rounds to nearest even
//   ReduceAdd, ReduceMax          over all lanes, halves first: lane i + lane (i + half), and so on
//   ReduceAdd4                    four ReduceAdd, the same bits
//   LoadTwice, SwapPairs, FmaSubAdd   for rotations: each of kLanes / 2 floats twice; neighbours
//                                 exchanged; a * b - c in even lanes, + in odd ones
//   kInnerM, kInnerN, kStreamN, kOuterM, kOuterN   shapes of tiles in registers
//   Opaque                        for peak.h: a value the optimiser must not look through
//   I32, ZeroI32, SetI32, LoadI32, AddI32, ReduceAddI32   a vector of kLanes whole numbers
//   LoadU16(p)                    kLanes numbers of 16 bits without sign
//   RepeatI32(p)                  the four bytes at p in every lane
//   ToF32, ToI32                  conversions, to nearest even
//   StoreI8(p, v)                 the low bytes of numbers in [-128, 127]
//   MaxMagnitude(a, b), ReduceMaxMagnitude   the larger of |a| and |b|; NaN is larger than all
//   DotI8(a, b, sum)              sums of four products of unsigned and signed bytes
//   MulI32, ShiftLeft<n>, ShiftRight<n> (with the sign)
//   CodeBits<from, width, to>(v)  of each byte `width` bits from bit `from` on, at bit `to`
//   Or, ShiftRightBy(v, n)        bit by bit; each lane, without sign, by 0 to 31
//   RepeatTable(table), Lookup(table, codes)   16 bytes, and the one that each byte of `codes`,
//                                 below 16, names
//   Bits<shift, count>(v)         `count` bits of each lane, from bit `shift` on
//   kFewCodes, kSomeCodes, kManyCodes   shapes of tiles of integer products (tiles.h), for as many
//                                 rows as the first or the second has, and for more
//   kCodeAhead                    how many bytes ahead of their use tiles' codes are asked for; 0:
//                                 not at all
//   kDotI8IsOne                   DotI8 is one instruction
//   OpenSum<bits>, DotCodes<bits>, CloseSum<bits>   sums of products of codes and signed bytes over
//                                 at most 32 columns, none of which saturates: total = Close(Dot(..
//                                 Dot(Open(total))), total). 0x80 in x is not allowed.
//   kCodeZero<bits>               what DotCodes takes off each code by itself
//   kSumCols<bits>                over how many columns
//   LoadFactors(p)                kLanes signed bytes, each in both halves of its lane
//   OpenPart<bits>(sums), ClosePart<bits>(sum, factors, total)   the same for sums that are
//                                 multiplied by a factor before they are added to the total, and
//                                 begin with the zero points' part of the -8 times sums (as I8Row
//                                 has them with parts, in every lane) of their columns; or with
//                                 ZeroI32
//   DotSums(sums, factors, total) total + factor * both sums
// and, for the functions that are named Pair..., what multiplies pairs of BF16:
//   Bf16, LoadPairs(p[, n]), SetPair(p): one pair in all lanes, LoadInterleaved(a, b[, n]): pairs
//   (a[i], b[i]), DotPairs(a, b, sum): sums of products of pairs
// Everything here is a template over P or constexpr, so that nothing compiled for a wide
// instruction set can be shared with other files.
#ifndef BALEEN_KERNELS_GENERIC_FORMATS_H_
#define BALEEN_KERNELS_GENERIC_FORMATS_H_

#include <cstddef>
#include <cstdint>

#include "kernels/generic/inline.h"
#include "kernels/matrix.h"

namespace baleen::kernels::generic {

// M rows of activations against V vectors of weight rows.
struct CodeShape {
  size_t M, V;
};

// A stored row: its first element and, for FP8, the scales of its blocks of kF8Block columns.
struct Row {
  const std::byte* data;
  const float* scales;
};

template <typename P>
struct F32Format {
  static constexpr size_t kBytes = 4;
  BALEEN_INLINE static typename P::F32 Load(const Row& row, size_t k) {
    return P::LoadF32(row.data + k * kBytes);
  }
  BALEEN_INLINE static typename P::F32 Load(const Row& row, size_t k, size_t n) {
    return P::LoadF32(row.data + k * kBytes, n);
  }
};

template <typename P>
struct Bf16Format {
  static constexpr size_t kBytes = 2;
  BALEEN_INLINE static typename P::F32 Load(const Row& row, size_t k) {
    return P::LoadBf16(row.data + k * kBytes);
  }
  BALEEN_INLINE static typename P::F32 Load(const Row& row, size_t k, size_t n) {
    return P::LoadBf16(row.data + k * kBytes, n);
  }
};

template <typename P>
struct F16Format {
  static constexpr size_t kBytes = 2;
  BALEEN_INLINE static typename P::F32 Load(const Row& row, size_t k) {
    return P::LoadF16(row.data + k * kBytes);
  }
  BALEEN_INLINE static typename P::F32 Load(const Row& row, size_t k, size_t n) {
    return P::LoadF16(row.data + k * kBytes, n);
  }
};

// The product with the scale is rounded to F32; a vector never straddles two blocks.
template <typename P>
struct F8Format {
  static_assert(kF8Block % P::kLanes == 0);
  static constexpr size_t kBytes = 1;
  BALEEN_INLINE static typename P::F32 Load(const Row& row, size_t k) {
    return P::Mul(P::LoadF8(row.data + k), P::Set(row.scales[k / kF8Block]));
  }
  BALEEN_INLINE static typename P::F32 Load(const Row& row, size_t k, size_t n) {
    return P::Mul(P::LoadF8(row.data + k, n), P::Set(row.scales[k / kF8Block]));
  }
};

// Rows `begin` and on of stored weights in a known format.
template <typename P, typename Format>
struct StoredRows {
  const std::byte* data;
  size_t row_bytes;
  const float* scales;
  size_t first_row;
  size_t scale_cols;

  BALEEN_INLINE explicit StoredRows(const Matrix& w)
      : data(w.data),
        row_bytes(w.cols * Format::kBytes),
        scales(w.scales),
        first_row(w.first_row),
        scale_cols((w.cols + kF8Block - 1) / kF8Block) {}

  BALEEN_INLINE Row operator[](size_t r) const {
    return {data + r * row_bytes,
            scales == nullptr ? nullptr : scales + (first_row + r) / kF8Block * scale_cols};
  }
};

// Rows [begin, begin + count) of `w`, as Matrix::Rows.
template <typename P>
BALEEN_INLINE Matrix RowsOf(Matrix w, size_t begin, size_t count) {
  w.data += w.tiles.bits != 0 ? begin / kTileRows * w.tiles.tile_bytes()
                              : begin * RowBytes(w.dtype, w.cols);
  w.rows = count;
  w.first_row += begin;
  return w;
}

// Half of an L2 cache of 1 MB (Zen 4; 2 MB on Sapphire Rapids): the other half is for weights.
inline constexpr size_t kActivationBlockBytes = size_t{512} << 10;

// The rows of x that take part.
template <typename P>
struct ActivationRows {
  const std::byte* data;
  size_t row_bytes;
  const int32_t* x_rows;

  BALEEN_INLINE Row operator[](size_t m) const {
    return {data + (x_rows ? static_cast<size_t>(x_rows[m]) : m) * row_bytes, nullptr};
  }
  BALEEN_INLINE ActivationRows From(size_t m) const {
    return x_rows ? ActivationRows{data, row_bytes, x_rows + m}
                  : ActivationRows{data + m * row_bytes, row_bytes, nullptr};
  }
};

// Calls use(format) with the format of `dtype`, which is no block type: those are decoded by
// DecodeBlocks before they are multiplied.
template <typename P, typename Use>
BALEEN_INLINE void WithFormat(DType dtype, const Use& use) {
  switch (dtype) {
    case DType::kBF16:
      return use(Bf16Format<P>());
    case DType::kF16:
      return use(F16Format<P>());
    case DType::kF8E4M3:
      return use(F8Format<P>());
    default:
      return use(F32Format<P>());
  }
}

// Asks for the byte at `distance` from `data` ahead of its use; the address need not be valid.
BALEEN_INLINE void PrefetchAt(const std::byte* data, size_t distance) {
  __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(data) + distance), 0,
                     2);
}

// out[0, n) = the row, widened. Asks for what lies `ahead` bytes behind it.
template <typename P, typename Format>
void DecodeTo(const Row& row, size_t n, float* out, size_t ahead = 0) {
  size_t k = 0;
  for (; k + P::kLanes <= n; k += P::kLanes) {
    PrefetchAt(row.data, k * Format::kBytes + ahead);
    P::Store(out + k, Format::Load(row, k));
  }
  if (k < n) P::Store(out + k, Format::Load(row, k, n - k), n - k);
}

}  // namespace baleen::kernels::generic

#endif  // BALEEN_KERNELS_GENERIC_FORMATS_H_
