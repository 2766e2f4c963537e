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
};

// What stands in y before: nothing of interest, or sums that go on, y[m] * keep[m] + x[m] w.
struct OuterStart {
  const float* keep;  // null: start from zero
};

// Columns [n, n + N vectors), the last vector `last` lanes wide; w(k) gives row k.
template <typename P, typename WFormat, size_t M, size_t N, bool kPartial, typename WRows>
void OuterTile(const OuterLeft& x, const WRows& w, size_t K, size_t n, size_t last, float* y,
               size_t y_stride, const OuterStart& start) {
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
    const Row row = w[k];
    F32 ws[N];
    for (size_t v = 0; v < N; ++v) {
      ws[v] =
          kPartial ? WFormat::Load(row, n + v * kLanes, last) : WFormat::Load(row, n + v * kLanes);
    }
    for (size_t m = 0; m < M; ++m) {
      const F32 xs = P::Set(x.data[m * x.stride + k]);
      for (size_t v = 0; v < N; ++v) sums[m][v] = P::Fma(xs, ws[v], sums[m][v]);
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
template <typename P, typename WFormat, size_t M, typename WRows>
void OuterRows(const OuterLeft& x, const WRows& w, size_t K, size_t num_cols, float* y,
               size_t y_stride, const OuterStart& start) {
  constexpr size_t kLanes = P::kLanes;
  constexpr size_t kWide = P::kOuterN;
  size_t n = 0;
  for (; n + kWide * kLanes <= num_cols; n += kWide * kLanes) {
    OuterTile<P, WFormat, M, kWide, false>(x, w, K, n, kLanes, y, y_stride, start);
  }
  for (; n + kLanes <= num_cols; n += kLanes) {
    OuterTile<P, WFormat, M, 1, false>(x, w, K, n, kLanes, y, y_stride, start);
  }
  if (n < num_cols) {
    OuterTile<P, WFormat, M, 1, true>(x, w, K, n, num_cols - n, y, y_stride, start);
  }
}

// y [num_rows, num_cols] (+)= x [num_rows, K] w [K, num_cols]. Rows are taken kOuterM at a time,
// then in halves.
template <typename P, typename WFormat, size_t M = P::kOuterM, typename WRows>
void OuterProducts(OuterLeft x, const WRows& w, size_t num_rows, size_t K, size_t num_cols,
                   float* y, size_t y_stride, OuterStart start) {
  size_t m = 0;
  for (; m + M <= num_rows; m += M) {
    OuterRows<P, WFormat, M>({x.data + m * x.stride, x.stride}, w, K, num_cols, y + m * y_stride,
                             y_stride, {start.keep == nullptr ? nullptr : start.keep + m});
  }
  if constexpr (M > 1) {
    if (m < num_rows) {
      OuterProducts<P, WFormat, M / 2>({x.data + m * x.stride, x.stride}, w, num_rows - m, K,
                                       num_cols, y + m * y_stride, y_stride,
                                       {start.keep == nullptr ? nullptr : start.keep + m});
    }
  }
}

}  // namespace baleen::kernels::generic

#endif  // BALEEN_KERNELS_GENERIC_OUTER_PRODUCT_H_
