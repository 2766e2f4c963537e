// kernels/generic/outer_matmul.h: y (+)= x w over large operands, as the way back needs it
// (contract: kernels/table.h, order of summation: outer_product.h).
//
// K is cut into blocks of kOuterBlockK. A strip of w for one tile's columns is copied, so that it
// lies in one piece and stays in the L1 cache while rows of x pass by it: in place its rows are as
// far apart as w's, and a stride of 1536 bytes leaves them 8 of the 64 sets of that cache. For the
// same reason a transposed x is copied by panels, one for each tile's rows; kOuterBlockM rows of
// panels stay in the L2 cache. Sums go on from block to block through y: what is kept is multiplied
// by 1, so the chain of multiply-adds is the same as without blocks. Steps and gains:
// docs/kernels/training.md.
#ifndef BALEEN_KERNELS_GENERIC_OUTER_MATMUL_H_
#define BALEEN_KERNELS_GENERIC_OUTER_MATMUL_H_

#include <cstddef>
#include <type_traits>

#include "kernels/generic/outer_product.h"
#include "kernels/table.h"

namespace baleen::kernels::generic {

inline constexpr size_t kOuterBlockK = 256, kOuterBlockM = 192;

// Blocks of K are of one size, nearly. An expert without tokens has no K at all.
BALEEN_INLINE size_t OuterDepth(size_t K) {
  if (K == 0) return 0;
  const size_t num_blocks = (K + kOuterBlockK - 1) / kOuterBlockK;
  return (K + num_blocks - 1) / num_blocks;
}

// x(m, k) of `rows` rows and `depth` columns, tile by tile: [tile][k][row of the tile].
template <size_t M>
BALEEN_INLINE void CopyPanels(const OuterLeftTransposed& x, size_t rows, size_t depth, float* out) {
  for (size_t k = 0; k < depth; ++k) {
    for (size_t m = 0; m < rows;) {
      const size_t tile = OuterTileRows<M>(rows - m);
      float* to = out + m * depth + k * tile;
      if (tile == M) {
        __builtin_memcpy(to, x.At(m, k), M * sizeof(float));
      } else {
        for (size_t i = 0; i < tile; ++i) to[i] = x.At(m, k)[i];
      }
      m += tile;
    }
  }
}

// `cols` <= kCols columns of `depth` rows that are w_stride apart, into rows of kCols.
template <size_t kCols>
BALEEN_INLINE void CopyStrip(const float* w, size_t w_stride, size_t depth, size_t cols,
                             float* strip) {
  for (size_t k = 0; k < depth; ++k) {
    if (cols == kCols) {
      __builtin_memcpy(strip + k * kCols, w + k * w_stride, kCols * sizeof(float));
    } else {
      for (size_t n = 0; n < cols; ++n) strip[k * kCols + n] = w[k * w_stride + n];
    }
  }
}

// Rows of the strip that is copied next, which the tiles of this one ask for ahead of time.
struct NextStrip {
  const float* data = nullptr;
  size_t stride = 0, rows = 0;
};

// The tiles of a block of rows against one strip; left(m, rows) gives the left side of a tile.
template <typename Product, typename LeftOf>
BALEEN_INLINE void StripProducts(const LeftOf& left, const float* strip, size_t num_rows,
                                 size_t depth, size_t cols, float* y, size_t y_stride,
                                 const OuterStart& start, const NextStrip& ahead = {}) {
  using P = typename Product::P;
  constexpr size_t kM = P::kOuterM;
  const FloatRows<P> w = {strip, P::kOuterN * P::kLanes};
  const size_t ahead_rows = ahead.rows / (num_rows / kM + 1) + 1;
  size_t asked = 0;
  for (size_t m = 0; m < num_rows;) {
    const size_t rows = OuterTileRows<kM>(num_rows - m);
    for (size_t i = 0; i < ahead_rows && asked < ahead.rows; ++i, ++asked) {
      PrefetchAt(reinterpret_cast<const std::byte*>(ahead.data + asked * ahead.stride), 0);
    }
    const float* next = y + (m + rows) * y_stride;
    for (size_t i = 0; i < kM && m + rows + i < num_rows; ++i) {
      PrefetchAt(reinterpret_cast<const std::byte*>(next + i * y_stride), 0);
    }
    OuterRowsOf<Product, kM>(left(m, rows), w, rows, depth, cols, y + m * y_stride, y_stride,
                             start);
    m += rows;
  }
}

// One block of rows and of K; `start` says whether y's sums go on.
template <typename Product, typename Left>
void OuterBlock(const Left& x, const float* w, const OuterMatMulArgs& args, size_t rows,
                size_t depth, float* y, const OuterStart& start) {
  using P = typename Product::P;
  constexpr size_t kCols = P::kOuterN * P::kLanes;
  constexpr bool kTransposed = std::is_same_v<Left, OuterLeftTransposed>;
  alignas(64) float strip[kOuterBlockK * kCols];
  alignas(64) float panels[kTransposed ? kOuterBlockM * kOuterBlockK : 1];
  if constexpr (kTransposed) CopyPanels<P::kOuterM>(x, rows, depth, panels);
  for (size_t n = 0; n < args.N; n += kCols) {
    const size_t cols = args.N - n < kCols ? args.N - n : kCols;
    CopyStrip<kCols>(w + n, args.w_stride, depth, cols, strip);
    NextStrip ahead;
    if (n + kCols < args.N) ahead = {w + n + kCols, args.w_stride, depth};
    if constexpr (kTransposed) {
      const auto left = [&](size_t m, size_t tile) BALEEN_INLINE_LAMBDA {
        return OuterLeftTransposed{panels + m * depth, tile};
      };
      StripProducts<Product>(left, strip, rows, depth, cols, y + n, args.y_stride, start, ahead);
    } else {
      const auto left = [&](size_t m, size_t) BALEEN_INLINE_LAMBDA { return x.From(m, 0); };
      StripProducts<Product>(left, strip, rows, depth, cols, y + n, args.y_stride, start, ahead);
    }
  }
}

template <typename Product, typename Left>
void OuterMatMulOf(const Left& x, const OuterMatMulArgs& args) {
  float ones[Product::P::kOuterM];
  for (float& one : ones) one = 1;
  const auto* w = static_cast<const float*>(args.w);
  if (args.K == 0 && !args.accumulate) {
    for (size_t m = 0; m < args.M; ++m) {
      for (size_t n = 0; n < args.N; ++n) args.y[m * args.y_stride + n] = 0;
    }
  }
  const size_t block = OuterDepth(args.K);
  for (size_t k = 0; k < args.K; k += block) {
    const size_t depth = args.K - k < block ? args.K - k : block;
    const OuterStart start = {k > 0 || args.accumulate ? ones : nullptr};
    for (size_t m = 0; m < args.M; m += kOuterBlockM) {
      const size_t rows = args.M - m < kOuterBlockM ? args.M - m : kOuterBlockM;
      OuterBlock<Product>(x.From(m, k), w + k * args.w_stride, args, rows, depth,
                          args.y + m * args.y_stride, start);
    }
  }
}

template <typename Product>
void OuterMatMulWith(const OuterMatMulArgs& args) {
  const auto* x = static_cast<const float*>(args.x);
  if (args.x_transposed) {
    OuterMatMulOf<Product>(OuterLeftTransposed{x, args.x_stride}, args);
  } else {
    OuterMatMulOf<Product>(OuterLeft{x, args.x_stride}, args);
  }
}

template <typename P>
void OuterMatMul(const OuterMatMulArgs& args) {
  if (args.type != ActivationType::kF32) __builtin_trap();  // the contract asks for bf16_products
  OuterMatMulWith<WideOuter<P, F32Format<P>>>(args);
}

// The same by pairs of BF16.
template <typename P>
void PairOuterMatMul(const OuterMatMulArgs& args) {
  OuterMatMulWith<PairOuter<P>>(args);
}

}  // namespace baleen::kernels::generic

#endif  // BALEEN_KERNELS_GENERIC_OUTER_MATMUL_H_
