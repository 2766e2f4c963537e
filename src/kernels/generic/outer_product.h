// kernels/generic/outer_product.h: tiles of y[m, n] = sum_k x[m, k] * w[k, n].
//
// Order of summation, the same for every shape of tile: one chain of fused multiply-adds for each
// output, k ascending.
#ifndef BALEEN_KERNELS_GENERIC_OUTER_PRODUCT_H_
#define BALEEN_KERNELS_GENERIC_OUTER_PRODUCT_H_

#include <cstddef>

#include "kernels/generic/formats.h"
#include "kernels/generic/inline.h"

namespace baleen::kernels::generic {

// The left side: x[m, k] = data[m * stride + k].
struct OuterLeft {
  const float* data;
  size_t stride;
  BALEEN_INLINE const float* At(size_t m, size_t k) const { return data + m * stride + k; }
  BALEEN_INLINE OuterLeft From(size_t m, size_t k) const { return {At(m, k), stride}; }
};

// The same from a matrix that has k as its rows: x[m, k] = data[k * stride + m].
struct OuterLeftTransposed {
  const float* data;
  size_t stride;
  BALEEN_INLINE const float* At(size_t m, size_t k) const { return data + k * stride + m; }
  BALEEN_INLINE OuterLeftTransposed From(size_t m, size_t k) const { return {At(m, k), stride}; }
};

// The right side as a matrix of floats (or pairs) whose rows are `stride` apart.
template <typename P>
struct FloatRows {
  const float* data;
  size_t stride;
  BALEEN_INLINE Row operator[](size_t r) const {
    return {reinterpret_cast<const std::byte*>(data + r * stride), nullptr};
  }
};

// Elements are numbers: fused multiply-adds in F32.
template <typename Primitives, typename WFormat>
struct WideOuter {
  using P = Primitives;
  using Operand = typename P::F32;
  BALEEN_INLINE static Operand Set(const float* x) { return P::Set(*x); }
  BALEEN_INLINE static Operand Load(const Row& row, size_t n) { return WFormat::Load(row, n); }
  BALEEN_INLINE static Operand Load(const Row& row, size_t n, size_t count) {
    return WFormat::Load(row, n, count);
  }
  BALEEN_INLINE static typename P::F32 MulAdd(Operand x, Operand w, typename P::F32 sum) {
    return P::Fma(x, w, sum);
  }
};

// Elements are pairs of BF16, in the place of a float each.
template <typename Primitives>
struct PairOuter {
  using P = Primitives;
  using Operand = typename P::Bf16;
  BALEEN_INLINE static Operand Set(const float* x) { return P::SetPair(x); }
  BALEEN_INLINE static Operand Load(const Row& row, size_t n) {
    return P::LoadPairs(row.data + 4 * n);
  }
  BALEEN_INLINE static Operand Load(const Row& row, size_t n, size_t count) {
    return P::LoadPairs(row.data + 4 * n, 2 * count);
  }
  BALEEN_INLINE static typename P::F32 MulAdd(Operand x, Operand w, typename P::F32 sum) {
    return P::DotPairs(x, w, sum);
  }
};

// What stands in y before: nothing of interest, or sums that go on, y[m] * keep[m] + x[m] w.
struct OuterStart {
  const float* keep;  // null: start from zero
};

// Columns [n, n + N vectors), the last vector `last` lanes wide; w[k] gives row k.
template <typename Product, size_t M, size_t N, bool kPartial, typename Left, typename WRows>
void OuterTile(const Left& x, const WRows& w, size_t K, size_t n, size_t last, float* y,
               size_t y_stride, const OuterStart& start) {
  using P = typename Product::P;
  using F32 = typename P::F32;
  constexpr size_t kLanes = P::kLanes;
  F32 sums[M][N];
  for (size_t m = 0; m < M; ++m) {
    for (size_t v = 0; v < N; ++v) {
      if (start.keep == nullptr) {
        sums[m][v] = P::Zero();
      } else {
        const float* from = y + m * y_stride + n + v * kLanes;
        const F32 before = kPartial ? P::LoadF32(from, last) : P::LoadF32(from);
        sums[m][v] = P::Mul(before, P::Set(start.keep[m]));
      }
    }
  }
  for (size_t k = 0; k < K; ++k) {
    const auto row = w[k];
    typename Product::Operand ws[N];
    for (size_t v = 0; v < N; ++v) {
      ws[v] =
          kPartial ? Product::Load(row, n + v * kLanes, last) : Product::Load(row, n + v * kLanes);
    }
    for (size_t m = 0; m < M; ++m) {
      const auto xs = Product::Set(x.At(m, k));
      for (size_t v = 0; v < N; ++v) sums[m][v] = Product::MulAdd(xs, ws[v], sums[m][v]);
    }
  }
  for (size_t m = 0; m < M; ++m) {
    for (size_t v = 0; v < N; ++v) {
      float* to = y + m * y_stride + n + v * kLanes;
      if constexpr (kPartial) {
        P::Store(to, sums[m][v], last);
      } else {
        P::Store(to, sums[m][v]);
      }
    }
  }
}

// All columns of M rows.
template <typename Product, size_t M, typename Left, typename WRows>
void OuterRows(const Left& x, const WRows& w, size_t K, size_t num_cols, float* y, size_t y_stride,
               const OuterStart& start) {
  using P = typename Product::P;
  constexpr size_t kLanes = P::kLanes;
  constexpr size_t kWide = P::kOuterN;
  size_t n = 0;
  for (; n + kWide * kLanes <= num_cols; n += kWide * kLanes) {
    OuterTile<Product, M, kWide, false>(x, w, K, n, kLanes, y, y_stride, start);
  }
  for (; n + kLanes <= num_cols; n += kLanes) {
    OuterTile<Product, M, 1, false>(x, w, K, n, kLanes, y, y_stride, start);
  }
  if (n < num_cols) {
    OuterTile<Product, M, 1, true>(x, w, K, n, num_cols - n, y, y_stride, start);
  }
}

// How many of `left` rows the next tile takes: the last two tiles share what is left, since tiles
// of few rows wait for their own sums.
template <size_t M>
BALEEN_INLINE size_t OuterTileRows(size_t left) {
  if (left >= 2 * M || left == M) return M;
  return left > M ? (left + 1) / 2 : left;
}

// All columns of `rows` <= M rows.
template <typename Product, size_t M, typename Left, typename WRows>
BALEEN_INLINE void OuterRowsOf(const Left& x, const WRows& w, size_t rows, size_t K,
                               size_t num_cols, float* y, size_t y_stride,
                               const OuterStart& start) {
  if (rows == M) {
    OuterRows<Product, M>(x, w, K, num_cols, y, y_stride, start);
  } else if constexpr (M > 1) {
    OuterRowsOf<Product, M - 1>(x, w, rows, K, num_cols, y, y_stride, start);
  }
}

// y [num_rows, num_cols] (+)= x [num_rows, K] w [K, num_cols].
template <typename Product, typename Left, typename WRows>
void OuterProductsOf(const Left& x, const WRows& w, size_t num_rows, size_t K, size_t num_cols,
                     float* y, size_t y_stride, OuterStart start) {
  constexpr size_t kM = Product::P::kOuterM;
  for (size_t m = 0; m < num_rows;) {
    const size_t rows = OuterTileRows<kM>(num_rows - m);
    OuterRowsOf<Product, kM>(x.From(m, 0), w, rows, K, num_cols, y + m * y_stride, y_stride,
                             {start.keep == nullptr ? nullptr : start.keep + m});
    m += rows;
  }
}

// The same in F32, w in WFormat.
template <typename P, typename WFormat, typename Left, typename WRows>
void OuterProducts(const Left& x, const WRows& w, size_t num_rows, size_t K, size_t num_cols,
                   float* y, size_t y_stride, OuterStart start) {
  OuterProductsOf<WideOuter<P, WFormat>>(x, w, num_rows, K, num_cols, y, y_stride, start);
}

}  // namespace baleen::kernels::generic

#endif  // BALEEN_KERNELS_GENERIC_OUTER_PRODUCT_H_
