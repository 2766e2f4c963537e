// kernels/generic/inner_product.h: tiles of y[m, n] = sum_k x[m, k] * w[n, k].
//
// Order of summation, the same for every shape of tile: each output has one vector of running sums.
// It takes k in ascending steps of one vector; the last, short step is filled up with zeros; at the
// end the lanes are folded in halves. So an output depends on its two rows and on K, and on nothing
// else.
#ifndef BALEEN_KERNELS_GENERIC_INNER_PRODUCT_H_
#define BALEEN_KERNELS_GENERIC_INNER_PRODUCT_H_

#include <cstddef>
#include <cstdint>

#include "kernels/generic/formats.h"
#include "kernels/generic/inline.h"

namespace baleen::kernels::generic {

// Both sides widened to F32, fused multiply-adds.
template <typename Primitives, typename XFormat, typename WFormat>
struct WideProduct {
  using P = Primitives;
  using Operand = typename P::F32;
  static constexpr size_t kStep = P::kLanes;
  static constexpr size_t kBytesW = WFormat::kBytes;

  BALEEN_INLINE static Operand LoadX(const Row& x, size_t k) { return XFormat::Load(x, k); }
  BALEEN_INLINE static Operand LoadX(const Row& x, size_t k, size_t n) {
    return XFormat::Load(x, k, n);
  }
  BALEEN_INLINE static Operand LoadW(const Row& w, size_t k) { return WFormat::Load(w, k); }
  BALEEN_INLINE static Operand LoadW(const Row& w, size_t k, size_t n) {
    return WFormat::Load(w, k, n);
  }
  BALEEN_INLINE static typename P::F32 MulAdd(Operand x, Operand w, typename P::F32 sum) {
    return P::Fma(x, w, sum);
  }
};

// Both sides BF16 as stored; the machine multiplies and sums pairs.
template <typename Primitives>
struct PairProduct {
  using P = Primitives;
  using Operand = typename P::Bf16;
  static constexpr size_t kStep = 2 * P::kLanes;
  static constexpr size_t kBytesW = 2;

  BALEEN_INLINE static Operand LoadX(const Row& x, size_t k) {
    return P::LoadPairs(x.data + 2 * k);
  }
  BALEEN_INLINE static Operand LoadX(const Row& x, size_t k, size_t n) {
    return P::LoadPairs(x.data + 2 * k, n);
  }
  BALEEN_INLINE static Operand LoadW(const Row& w, size_t k) { return LoadX(w, k); }
  BALEEN_INLINE static Operand LoadW(const Row& w, size_t k, size_t n) { return LoadX(w, k, n); }
  BALEEN_INLINE static typename P::F32 MulAdd(Operand x, Operand w, typename P::F32 sum) {
    return P::DotPairs(x, w, sum);
  }
};

// Where output (m, n) goes.
struct Output {
  float* data;
  size_t m_stride;
  size_t n_stride;
};

// Whether a tile asks for the rows behind it ahead of time: worth it for the first rows of
// activations, while the weights stream from memory; in the way once they come from a cache.
enum class Prefetch { kNo, kNextTile };

// sums[m][n] += x[m] . w[n] over one step; load_x(m) and load_w(n) give the operands. The smaller
// side is held in registers, the other passes by.
template <typename Product, size_t M, size_t N, typename LoadX, typename LoadW>
BALEEN_INLINE void Step(const LoadX& load_x, const LoadW& load_w,
                        typename Product::P::F32 (&sums)[M][N]) {
  if constexpr (M < N) {
    typename Product::Operand xs[M];
    for (size_t m = 0; m < M; ++m) xs[m] = load_x(m);
    for (size_t n = 0; n < N; ++n) {
      const auto ws = load_w(n);
      for (size_t m = 0; m < M; ++m) sums[m][n] = Product::MulAdd(xs[m], ws, sums[m][n]);
    }
  } else {
    typename Product::Operand ws[N];
    for (size_t n = 0; n < N; ++n) ws[n] = load_w(n);
    for (size_t m = 0; m < M; ++m) {
      const auto xs = load_x(m);
      for (size_t n = 0; n < N; ++n) sums[m][n] = Product::MulAdd(xs, ws[n], sums[m][n]);
    }
  }
}

// sums[m][n] += x[m] . w[n] over [0, K).
template <typename Product, size_t M, size_t N, Prefetch kPrefetch>
BALEEN_INLINE void Accumulate(const Row (&x)[M], const Row (&w)[N], size_t K,
                              typename Product::P::F32 (&sums)[M][N]) {
  constexpr size_t kStep = Product::kStep;
  size_t k = 0;
  for (; k + kStep <= K; k += kStep) {
    if constexpr (kPrefetch == Prefetch::kNextTile) {
      // Rows follow one another, so the same row of the next tile is N rows away.
      for (size_t n = 0; n < N; ++n) PrefetchAt(w[n].data, (k + N * K) * Product::kBytesW);
    }
    Step<Product, M, N>([&](size_t m) BALEEN_INLINE_LAMBDA { return Product::LoadX(x[m], k); },
                        [&](size_t n) BALEEN_INLINE_LAMBDA { return Product::LoadW(w[n], k); },
                        sums);
  }
  if (k < K) {
    const size_t left = K - k;
    Step<Product, M, N>(
        [&](size_t m) BALEEN_INLINE_LAMBDA { return Product::LoadX(x[m], k, left); },
        [&](size_t n) BALEEN_INLINE_LAMBDA { return Product::LoadW(w[n], k, left); }, sums);
  }
}

// Folds each vector of sums and writes the results.
template <typename P, size_t M, size_t N>
BALEEN_INLINE void Fold(const typename P::F32 (&sums)[M][N], const Output& y) {
  constexpr size_t kFours = M * N / 4;
  for (size_t i = 0; i < kFours; ++i) {
    const typename P::F32 four[4] = {
        sums[4 * i / N][4 * i % N], sums[(4 * i + 1) / N][(4 * i + 1) % N],
        sums[(4 * i + 2) / N][(4 * i + 2) % N], sums[(4 * i + 3) / N][(4 * i + 3) % N]};
    float folded[4];
    P::ReduceAdd4(four, folded);
    for (size_t j = 0; j < 4; ++j) {
      y.data[(4 * i + j) / N * y.m_stride + (4 * i + j) % N * y.n_stride] = folded[j];
    }
  }
  for (size_t i = 4 * kFours; i < M * N; ++i) {
    y.data[i / N * y.m_stride + i % N * y.n_stride] = P::ReduceAdd(sums[i / N][i % N]);
  }
}

template <typename Product, size_t M, size_t N, Prefetch kPrefetch>
void InnerTile(const Row (&x)[M], const Row (&w)[N], size_t K, const Output& y) {
  using P = typename Product::P;
  typename P::F32 sums[M][N];
  for (size_t m = 0; m < M; ++m) {
    for (size_t n = 0; n < N; ++n) sums[m][n] = P::Zero();
  }
  Accumulate<Product, M, N, kPrefetch>(x, w, K, sums);
  Fold<P, M, N>(sums, y);
}

// `rows` <= M rows from `first` on against one tile of weights.
template <typename Product, size_t M, size_t N, Prefetch kPrefetch, typename XRows>
BALEEN_INLINE void InnerTileOf(const XRows& x, size_t first, size_t rows, const Row (&w)[N],
                               size_t K, const Output& y) {
  if (rows == M) {
    Row tile[M];
    for (size_t m = 0; m < M; ++m) tile[m] = x[first + m];
    InnerTile<Product, M, N, kPrefetch>(tile, w, K,
                                        {y.data + first * y.m_stride, y.m_stride, y.n_stride});
  } else if constexpr (M > 1) {
    InnerTileOf<Product, M - 1, N, kPrefetch>(x, first, rows, w, K, y);
  }
}

// How many of `left` rows the next tile takes: the last two tiles share what is left, since one of
// four and one of four are faster than one of six and one of two.
template <size_t M>
BALEEN_INLINE size_t TileRows(size_t left) {
  if (left >= 2 * M) return M;
  return left > M ? (left + 1) / 2 : left;
}

// Rows [0, num_rows) of x against N weight rows, kInnerM at a time; kPrefetch is for the first.
template <typename Product, size_t N, Prefetch kPrefetch, typename XRows>
void InnerColumn(const XRows& x, size_t num_rows, const Row (&w)[N], size_t K, const Output& y) {
  constexpr size_t kM = Product::P::kInnerM;
  const size_t first = TileRows<kM>(num_rows);
  InnerTileOf<Product, kM, N, kPrefetch>(x, 0, first, w, K, y);
  for (size_t m = first; m < num_rows;) {
    const size_t rows = TileRows<kM>(num_rows - m);
    InnerTileOf<Product, kM, N, Prefetch::kNo>(x, m, rows, w, K, y);
    m += rows;
  }
}

}  // namespace baleen::kernels::generic

#endif  // BALEEN_KERNELS_GENERIC_INNER_PRODUCT_H_
