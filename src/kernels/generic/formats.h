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
//   I32, ZeroI32, DotI8, Opaque   for peak.h: sums of four products of unsigned and signed bytes; a
//                                 value the optimiser must not look through
//   kHasBf16Dot; if so Bf16, LoadPairs(p[, n]), SetPair(p): one pair in all lanes,
//                                 LoadInterleaved(a, b[, n]): pairs (a[i], b[i]), DotPairs(a, b,
//                                 sum): sums of products of pairs
// Everything here is a template over P or constexpr, so that nothing compiled for a wide
// instruction set can be shared with other files.
#ifndef BALEEN_KERNELS_GENERIC_FORMATS_H_
#define BALEEN_KERNELS_GENERIC_FORMATS_H_

#include <cstddef>
#include <cstdint>

#include "kernels/generic/inline.h"
#include "kernels/matrix.h"

namespace baleen::kernels::generic {

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
