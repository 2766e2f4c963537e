// kernels/generic/matmul.h: y = x w^T with weights as stored (contract: kernels/table.h, order of
// summation: inner_product.h). The ladder of steps and their measured gains:
// docs/kernels/matmul.md.
//
// Weights are widened in registers at each use: a tile of BF16 reads half the bytes that its
// widened copy would, and that is worth more than the instructions. Only FP8, which is dear to
// widen, is widened once for many rows, into scratch; block types always are. Activations are cut
// into blocks that stay in the L2 cache while the weights pass by.
#ifndef BALEEN_KERNELS_GENERIC_MATMUL_H_
#define BALEEN_KERNELS_GENERIC_MATMUL_H_

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "kernels/generic/chained_matmul.h"
#include "kernels/generic/formats.h"
#include "kernels/generic/inner_product.h"
#include "kernels/generic/tile_floats.h"
#include "kernels/table.h"
#include "tensor/blocks.h"

namespace baleen::kernels::generic {

// From this many rows on, widening a tile of FP8 weights once is cheaper than at each use.
inline constexpr size_t kUnpackRows = 8;
// A tile of N weight rows, as stored.
template <typename Product, typename Format>
struct StoredTiles {
  using TileProduct = Product;
  StoredRows<typename Product::P, Format> rows;

  template <size_t N>
  BALEEN_INLINE void Prepare(size_t n, Row (&tile)[N]) const {
    for (size_t i = 0; i < N; ++i) tile[i] = rows[n + i];
  }
};

// The same, widened to F32 in scratch. Rows lie 64 bytes more than a multiple of 256 bytes apart:
// at a distance of 4096 all rows of a tile would fall into one set of the L1 cache.
template <typename P, typename Format>
struct UnpackedTiles {
  using TileProduct = WideProduct<P, F32Format<P>, F32Format<P>>;
  StoredRows<P, Format> rows;
  size_t cols;
  std::byte* scratch;

  template <size_t N>
  BALEEN_INLINE void Prepare(size_t n, Row (&tile)[N]) const {
    static_assert(N < kMaxTileRows);
    const size_t stride = (cols + 63) / 64 * 64 + 16;
    for (size_t i = 0; i < N; ++i) {
      float* out = reinterpret_cast<float*>(scratch) + i * stride;
      DecodeTo<P, Format>(rows[n + i], cols, out, N * rows.row_bytes);
      tile[i] = {reinterpret_cast<const std::byte*>(out), nullptr};
    }
  }
};

// A tile of weight rows of a block type, decoded to F32 in scratch.
template <typename P, typename XFormat>
struct DecodedTiles {
  using TileProduct = WideProduct<P, XFormat, F32Format<P>>;
  const Matrix& w;
  std::byte* scratch;

  template <size_t N>
  BALEEN_INLINE void Prepare(size_t n, Row (&tile)[N]) const {
    static_assert(N < kMaxTileRows);
    const size_t stride = (w.cols + 63) / 64 * 64 + 16;
    for (size_t i = 0; i < N; ++i) {
      float* out = reinterpret_cast<float*>(scratch) + i * stride;
      DecodeBlocks(w.dtype, w.row(n + i), w.cols, out);
      tile[i] = {reinterpret_cast<const std::byte*>(out), nullptr};
    }
  }
};

// All rows of x against weight rows [n, num_weight_rows) while a tile of N fits; returns the next
// n.
template <size_t N, Prefetch kPrefetch, typename P, typename Tiles>
size_t Columns(const ActivationRows<P>& x, size_t num_rows, const Tiles& tiles, size_t n,
               size_t num_weight_rows, size_t K, const Output& y) {
  for (; n + N <= num_weight_rows; n += N) {
    Row w[N];
    tiles.Prepare(n, w);
    InnerColumn<typename Tiles::TileProduct, N, kPrefetch>(
        x, num_rows, w, K, {y.data + n * y.n_stride, y.m_stride, y.n_stride});
  }
  return n;
}

// The few weight rows that fill no tile are not worth tiles of their own sizes.
template <Prefetch kPrefetch, typename P, typename Tiles>
void InnerProducts(const ActivationRows<P>& x, size_t num_rows, const Tiles& tiles,
                   size_t num_weight_rows, size_t K, const Output& y) {
  const size_t n = Columns<P::kInnerN, kPrefetch>(x, num_rows, tiles, 0, num_weight_rows, K, y);
  Columns<1, Prefetch::kNo>(x, num_rows, tiles, n, num_weight_rows, K, y);
}

// One row of activations.
template <typename P, typename Product, typename Format>
void MatVec(const ActivationRows<P>& x, const Matrix& w, const Output& y) {
  const StoredTiles<Product, Format> tiles{StoredRows<P, Format>(w)};
  const Row row[1] = {x[0]};
  size_t n = 0;
  for (; n + P::kStreamN <= w.rows; n += P::kStreamN) {
    Row tile[P::kStreamN];
    tiles.Prepare(n, tile);
    InnerTile<Product, 1, P::kStreamN, Prefetch::kNextTile>(
        row, tile, w.cols, {y.data + n * y.n_stride, y.m_stride, y.n_stride});
  }
  for (; n < w.rows; ++n) {
    Row tile[1];
    tiles.Prepare(n, tile);
    InnerTile<Product, 1, 1, Prefetch::kNo>(row, tile, w.cols,
                                            {y.data + n * y.n_stride, y.m_stride, y.n_stride});
  }
}

template <typename P, typename Product, typename Format, bool kUnpack>
void MatMulAs(const ActivationRows<P>& x, size_t num_rows, size_t x_bytes, const Matrix& w,
              std::byte* scratch, const Output& y) {
  if (num_rows == 1) return MatVec<P, Product, Format>(x, w, y);
  const StoredTiles<Product, Format> stored{StoredRows<P, Format>(w)};
  const size_t fitting = kActivationBlockBytes / (w.cols * x_bytes + 1) / P::kInnerM * P::kInnerM;
  const size_t block = fitting > P::kInnerM ? fitting : P::kInnerM;
  for (size_t m = 0; m < num_rows; m += block) {
    const size_t rows = num_rows - m < block ? num_rows - m : block;
    const Output out = {y.data + m * y.m_stride, y.m_stride, y.n_stride};
    if (kUnpack && num_rows >= kUnpackRows) {
      const UnpackedTiles<P, Format> unpacked{StoredRows<P, Format>(w), w.cols, scratch};
      InnerProducts<Prefetch::kNo>(x.From(m), rows, unpacked, w.rows, w.cols, out);
    } else {
      InnerProducts<Prefetch::kNextTile>(x.From(m), rows, stored, w.rows, w.cols, out);
    }
  }
}

// BF16 activations that are not multiplied as pairs (PairMatMul): no model asks for it, so one
// output at a time will do.
template <typename P, typename Format>
void MatMulPlain(const ActivationRows<P>& x, size_t num_rows, const Matrix& w, const Output& y) {
  using Product = WideProduct<P, Bf16Format<P>, Format>;
  const StoredTiles<Product, Format> tiles{StoredRows<P, Format>(w)};
  for (size_t n = 0; n < w.rows; ++n) {
    Row tile[1];
    tiles.Prepare(n, tile);
    for (size_t m = 0; m < num_rows; ++m) {
      const Row row[1] = {x[m]};
      InnerTile<Product, 1, 1, Prefetch::kNo>(
          row, tile, w.cols, {y.data + m * y.m_stride + n * y.n_stride, y.m_stride, y.n_stride});
    }
  }
}

// y[m, n] = x[m] . w[n], written wherever `y` says; x is not kI8.
template <typename P>
void Products(ActivationType type, const ActivationRows<P>& x, size_t num_rows, const Matrix& w,
              std::byte* scratch, const Output& y) {
  if (w.tiles.bits != 0) return TileFloatProducts<P>(x, num_rows, w, y);
  if (IsBlockType(w.dtype)) {
    const auto multiply = [&](auto x_format) {
      const DecodedTiles<P, decltype(x_format)> tiles{w, scratch};
      InnerProducts<Prefetch::kNo>(x, num_rows, tiles, w.rows, w.cols, y);
    };
    return type == ActivationType::kF32 ? multiply(F32Format<P>()) : multiply(Bf16Format<P>());
  }
  if (type == ActivationType::kF32) {
    WithFormat<P>(w.dtype, [&](auto format) {
      using Format = decltype(format);
      constexpr bool kUnpack = std::is_same_v<Format, F8Format<P>>;
      MatMulAs<P, WideProduct<P, F32Format<P>, Format>, Format, kUnpack>(x, num_rows, 4, w, scratch,
                                                                         y);
    });
    return;
  }
  WithFormat<P>(w.dtype, [&](auto format) { MatMulPlain<P, decltype(format)>(x, num_rows, w, y); });
}

// kTileMatMul is TileMatMul<P> (tiles.h), which is compiled in a file of its own.
template <typename P, void (*kTileMatMul)(const MatMulArgs&)>
void MatMul(const MatMulArgs& args) {
  if (args.num_rows == 0) return;
  if (args.x.type == ActivationType::kI8) return kTileMatMul(args);
  if (args.chained) return ChainedMatMul<P>(args);
  const ActivationRows<P> x = {args.x.data, args.x.row_bytes, args.x_rows};
  Products<P>(args.x.type, x, args.num_rows, args.w, args.scratch, {args.y, args.y_stride, 1});
}

// The same where rows and weights are BF16 and P multiplies pairs of them.
template <typename P>
void PairMatMul(const MatMulArgs& args) {
  if (args.num_rows == 0) return;
  const ActivationRows<P> x = {args.x.data, args.x.row_bytes, args.x_rows};
  MatMulAs<P, PairProduct<P>, Bf16Format<P>, false>(x, args.num_rows, 2, args.w, args.scratch,
                                                    {args.y, args.y_stride, 1});
}

}  // namespace baleen::kernels::generic

#endif  // BALEEN_KERNELS_GENERIC_MATMUL_H_
