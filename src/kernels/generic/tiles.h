// kernels/generic/tiles.h: products with tiles (tensor/tiles.h; contract: kernels/table.h). The
// ladder of steps and their measured gains: docs/kernels/quantized.md.
//
// The lanes of a vector are rows of weights, so nothing is summed across lanes: four bytes of
// activations are repeated in every lane and meet 64 bytes of codes. Codes are unpacked in
// registers, from the planes that tile_codes.h joins. Sums of whole numbers are exact, so tiles of
// any shape give the same bits; the sum of each segment (128 columns, or a narrower group) is
// scaled into a float, segments ascending. Where groups have factors, a segment's parts are
// multiplied by theirs as whole numbers.
#ifndef BALEEN_KERNELS_GENERIC_TILES_H_
#define BALEEN_KERNELS_GENERIC_TILES_H_

#include <cstddef>
#include <cstdint>

#include "kernels/generic/formats.h"
#include "kernels/generic/inline.h"
#include "kernels/generic/inner_product.h"
#include "kernels/generic/tile_codes.h"
#include "kernels/table.h"

namespace baleen::kernels::generic {

// sums[m][v] += codes of steps [kFirst, kFirst + kSteps) of a chunk times x, which begins with the
// chunk's columns. `left` steps are there.
template <typename P, typename Form, size_t kFirst, size_t kSteps, size_t M, size_t V>
BALEEN_INLINE void DotSteps(const std::byte* const (&x)[M], size_t col, const TileVectors<P, V>& w,
                            size_t chunk, size_t left, typename Form::template Table<P> table,
                            typename P::I32 (&sums)[M][V]) {
  ForEachConstant<kSteps>([&]<size_t i>() BALEEN_INLINE_LAMBDA {
    constexpr size_t kStep = kFirst + i;
    if (kStep >= left) return;
    typename P::I32 codes[V];
    for (size_t v = 0; v < V; ++v) {
      codes[v] = table.Of(
          JoinPlanes<P, Form, kStep>([&]<size_t kBase, size_t kWidth>() BALEEN_INLINE_LAMBDA {
            const size_t at = chunk + (kBase + kStep * kWidth / 8) * kWordRowBytes;
            constexpr bool kIsNew = kStep * kWidth % 8 == 0;
            if (P::kCodeAhead > 0 && kIsNew && v % TileVectors<P, V>::kInTile == 0) {
              PrefetchAt(w.codes[v], at + P::kCodeAhead);
            }
            return P::LoadI32(w.codes[v] + at);
          }));
    }
    for (size_t m = 0; m < M; ++m) {
      const auto xs = P::RepeatI32(x[m] + col + 4 * kStep);
      for (size_t v = 0; v < V; ++v) {
        sums[m][v] = P::template DotCodes<Form::kSumBits>(codes[v], xs, sums[m][v]);
      }
    }
  });
}

// totals[m][v] += codes of the chunk at column `col` times x, of which `left` steps are there.
template <typename P, typename Form, size_t M, size_t V>
BALEEN_INLINE void AddChunk(const std::byte* const (&x)[M], size_t col, const TileVectors<P, V>& w,
                            size_t left, typename Form::template Table<P> table,
                            typename P::I32 (&totals)[M][V]) {
  constexpr size_t kBits = Form::kSumBits, kSumCols = P::template kSumCols<kBits>;
  ForEachConstant<32 / kSumCols>([&]<size_t i>() BALEEN_INLINE_LAMBDA {
    typename P::I32 parts[M][V];
    for (size_t m = 0; m < M; ++m) {
      for (size_t v = 0; v < V; ++v) parts[m][v] = P::template OpenSum<kBits>(totals[m][v]);
    }
    DotSteps<P, Form, i * kSumCols / 4, kSumCols / 4, M, V>(x, col, w, col / 32 * Form::kChunkBytes,
                                                            left, table, parts);
    for (size_t m = 0; m < M; ++m) {
      for (size_t v = 0; v < V; ++v) {
        totals[m][v] = P::template CloseSum<kBits>(parts[m][v], totals[m][v]);
      }
    }
  });
}

// What a segment's sum begins with: minus the zero points times the sum of x, of which x keeps -8
// times; DotCodes may have taken a part of the zero point off already.
template <typename P, size_t kBits>
BALEEN_INLINE typename P::I32 ZeroPoint(typename P::I32 zero_sum) {
  if constexpr (P::template kCodeZero<kBits> != 0) return P::ZeroI32();
  return kBits == 4 ? zero_sum : P::template ShiftLeft<static_cast<int>(kBits) - 4>(zero_sum);
}
template <typename P, size_t kBits>
BALEEN_INLINE typename P::I32 ZeroPoints(typename P::I32 zeros, typename P::I32 zero_sum) {
  const auto left = P::AddI32(zeros, P::SetI32(-P::template kCodeZero<kBits>));
  return P::template ShiftRight<3>(P::MulI32(left, zero_sum));
}

// What all products of M rows of x and V vectors of weight rows share.
template <typename P, typename Form, size_t M, size_t V>
struct TileOperands {
  const std::byte* const (&x)[M];
  const I8Row& x_layout;
  const TileLayout& layout;
  const TileVectors<P, V> w;
  const typename P::I32 (*ends)[V];  // [M], added to the last segment's totals; null: nothing
  const typename Form::template Table<P> table = {};

  BALEEN_INLINE typename P::I32 XSum(size_t m, size_t i) const {
    return P::RepeatI32(x[m] + x_layout.sums_offset() + 4 * i);
  }
};

// totals[m][v] = the sum of numbers times x over segment s, without factors. Groups begin at
// `group` of each vector's groups.
template <typename P, typename Form, size_t M, size_t V>
BALEEN_INLINE void PlainSegment(const TileOperands<P, Form, M, V>& in, size_t s, size_t group,
                                typename P::I32 (&totals)[M][V]) {
  constexpr size_t kBits = Form::kSumBits;
  for (size_t v = 0; v < V; ++v) {
    for (size_t m = 0; m < M; ++m) {
      const auto zero_sum = in.XSum(m, s);
      if (in.layout.has_zeros) {
        const auto zeros = P::LoadU16(in.w.zeros[v] + group * kTileRows * 2);
        totals[m][v] = ZeroPoints<P, kBits>(zeros, zero_sum);
      } else {
        totals[m][v] = Form::kHasMins ? P::ZeroI32() : ZeroPoint<P, kBits>(zero_sum);
      }
    }
  }
  if (in.ends != nullptr && s + 1 == in.x_layout.num_groups()) {
    for (size_t m = 0; m < M; ++m) {
      for (size_t v = 0; v < V; ++v) totals[m][v] = P::AddI32(totals[m][v], in.ends[m][v]);
    }
  }
  const size_t segment_cols = in.x_layout.group_cols;
  const size_t end =
      (s + 1) * segment_cols < in.layout.cols ? (s + 1) * segment_cols : in.layout.cols;
  for (size_t col = s * segment_cols; col + 32 <= end; col += 32) {
    AddChunk<P, Form>(in.x, col, in.w, 8, in.table, totals);
  }
}

// ends[m][v] = the sum of codes times x over the columns from `col` on, less than a chunk of them.
// Whole words; beyond the columns both sides are zeros.
template <typename P, typename Form, size_t V>
void EndSums(const std::byte* const* x, size_t num_rows, size_t col, size_t cols,
             const TileVectors<P, V>& w, typename P::I32 (*ends)[V]) {
  const size_t words = (cols - col + Form::kWordCols - 1) / Form::kWordCols;
  for (size_t m = 0; m < num_rows; ++m) {
    const std::byte* const row[1] = {x[m]};
    typename P::I32 sums[1][V];
    for (size_t v = 0; v < V; ++v) sums[0][v] = P::ZeroI32();
    AddChunk<P, Form>(row, col, w, words * (Form::kWordCols / 4), {}, sums);
    for (size_t v = 0; v < V; ++v) ends[m][v] = sums[0][v];
  }
}

// The same with factors, of which each part of the segment, 16 or 32 columns, has its own.
template <typename P, typename Form, size_t M, size_t V>
BALEEN_INLINE void FactoredSegment(const TileOperands<P, Form, M, V>& in, size_t s,
                                   typename P::I32 (&totals)[M][V]) {
  constexpr size_t kBits = Form::kSumBits, kPart = Form::kPartCols;
  constexpr size_t kMost = P::template kSumCols<kBits>, kSumCols = kMost < kPart ? kMost : kPart;
  for (size_t m = 0; m < M; ++m) {
    for (size_t v = 0; v < V; ++v) totals[m][v] = P::ZeroI32();
  }
  for (size_t col = s * kActivationGroup; col < (s + 1) * kActivationGroup; col += 32) {
    ForEachConstant<32 / kSumCols>([&]<size_t i>() BALEEN_INLINE_LAMBDA {
      const size_t part = col / kPart + i * kSumCols / kPart;
      typename P::I32 sums[M][V];
      for (size_t m = 0; m < M; ++m) {
        const auto start =
            Form::kHasMins ? P::ZeroI32() : P::template OpenPart<kBits>(in.XSum(m, part));
        for (size_t v = 0; v < V; ++v) sums[m][v] = start;
      }
      DotSteps<P, Form, i * kSumCols / 4, kSumCols / 4, M, V>(
          in.x, col, in.w, col / 32 * Form::kChunkBytes, 8, in.table, sums);
      for (size_t v = 0; v < V; ++v) {
        const auto factors = P::LoadFactors(in.w.factors[v] + part * kTileRows);
        for (size_t m = 0; m < M; ++m) {
          totals[m][v] = P::template ClosePart<kBits>(sums[m][v], factors, totals[m][v]);
        }
      }
    });
  }
}

// sums[m][v] = what the minima of segment s are multiplied by: -8 times the sum of x, each part's
// times its factor.
template <typename P, typename Form, size_t M, size_t V>
BALEEN_INLINE void MinSums(const TileOperands<P, Form, M, V>& in, size_t s,
                           typename P::I32 (&sums)[M][V]) {
  for (size_t m = 0; m < M; ++m) {
    for (size_t v = 0; v < V; ++v) sums[m][v] = Form::kPartCols == 0 ? in.XSum(m, s) : P::ZeroI32();
  }
  if constexpr (Form::kPartCols != 0) {
    constexpr size_t kParts = kActivationGroup / Form::kPartCols;
    for (size_t p = s * kParts; p < (s + 1) * kParts; ++p) {
      for (size_t v = 0; v < V; ++v) {
        const auto factors = P::LoadFactors(in.w.min_factors[v] + p * kTileRows);
        for (size_t m = 0; m < M; ++m) sums[m][v] = P::DotSums(in.XSum(m, p), factors, sums[m][v]);
      }
    }
  }
}

// M rows of x against V vectors of weight rows, from vector `first` on.
template <typename P, typename Form, size_t M, size_t V>
void TileProduct(const std::byte* const (&x)[M], const I8Row& x_layout, const Matrix& matrix,
                 size_t first, const Output& y) {
  const TileLayout& layout = matrix.tiles;
  const TileVectors<P, V> w(matrix, first);
  typename P::I32 ends[M][V];
  const size_t whole_cols = layout.cols / 32 * 32;
  const bool ends_early = Form::kMayEndEarly && whole_cols != layout.cols;
  if constexpr (Form::kMayEndEarly) {
    if (ends_early) EndSums<P, Form, V>(x, M, whole_cols, layout.cols, w, ends);
  }
  const TileOperands<P, Form, M, V> in = {x, x_layout, layout, w, ends_early ? ends : nullptr};
  const size_t segment_cols = x_layout.group_cols, num_segments = x_layout.num_groups();
  const size_t segments_of_scale = (layout.scale_cols() + segment_cols - 1) / segment_cols;
  const size_t scales_offset = x_layout.scales_offset();

  typename P::F32 sums[M][V];
  for (size_t m = 0; m < M; ++m) {
    for (size_t v = 0; v < V; ++v) sums[m][v] = P::Zero();
  }
  for (size_t s = 0; s < num_segments; ++s) {
    const size_t scale = s / segments_of_scale;
    typename P::I32 totals[M][V];
    if constexpr (Form::kPartCols == 0) {
      PlainSegment(in, s, scale, totals);
    } else {
      FactoredSegment(in, s, totals);
    }
    const auto add_scaled = [&](const std::byte* const(&of_w)[V], float part,
                                const typename P::I32(&whole)[M][V]) BALEEN_INLINE_LAMBDA {
      for (size_t v = 0; v < V; ++v) {
        const auto scales = P::LoadF16(of_w[v] + scale * kTileRows * 2);
        for (size_t m = 0; m < M; ++m) {
          float x_scale;
          __builtin_memcpy(&x_scale, x[m] + scales_offset + 4 * s, sizeof(x_scale));
          sums[m][v] =
              P::Fma(P::ToF32(whole[m][v]), P::Mul(scales, P::Set(x_scale * part)), sums[m][v]);
        }
      }
    };
    add_scaled(in.w.scales, 1, totals);
    if constexpr (Form::kHasMins) {
      MinSums(in, s, totals);
      add_scaled(in.w.zeros, 0.125f, totals);
    }
  }
  WriteVectors<P, M, V>(sums, first * P::kLanes, matrix.rows, y);
}

// `rows` <= M rows of x from `begin` on.
template <typename P, typename Form, size_t M, size_t V>
BALEEN_INLINE void TileProductOf(const ActivationRows<P>& x, size_t begin, size_t rows,
                                 const I8Row& x_layout, const Matrix& w, size_t first,
                                 const Output& y) {
  if (rows == M) {
    const std::byte* tile[M];
    for (size_t m = 0; m < M; ++m) tile[m] = x[begin + m].data;
    TileProduct<P, Form, M, V>(tile, x_layout, w, first,
                               {y.data + begin * y.m_stride, y.m_stride, y.n_stride});
  } else if constexpr (M > 1) {
    TileProductOf<P, Form, M - 1, V>(x, begin, rows, x_layout, w, first, y);
  }
}

// All rows of x against vectors [first, num_vectors) of w, whole tiles, V at a time, then half as
// many.
template <typename P, typename Form, size_t M, size_t V>
void TileColumns(const ActivationRows<P>& x, size_t num_rows, const I8Row& x_layout,
                 const Matrix& w, size_t first, size_t num_vectors, const Output& y) {
  for (; first + V <= num_vectors; first += V) {
    for (size_t m = 0; m < num_rows;) {
      const size_t rows = TileRows<M>(num_rows - m);
      TileProductOf<P, Form, M, V>(x, m, rows, x_layout, w, first, y);
      m += rows;
    }
  }
  if constexpr (V > TileVectors<P, V>::kInTile) {
    if (first < num_vectors) {
      TileColumns<P, Form, M, V / 2>(x, num_rows, x_layout, w, first, num_vectors, y);
    }
  }
}

template <typename P, typename Form>
void TileProductsAs(const ActivationRows<P>& x, size_t num_rows, const Matrix& w, const Output& y) {
  constexpr CodeShape kFew = P::kFewCodes, kSome = P::kSomeCodes;
  // The largest tiles come in many sizes; only forms of files made for speed are worth their code.
  constexpr CodeShape kMany = Form::kMayEndEarly ? P::kManyCodes : P::kSomeCodes;
  const I8Row x_layout = {
      .cols = w.cols, .group_cols = w.tiles.segment_cols(), .part_cols = w.tiles.part_cols()};
  const size_t num_vectors = (w.rows + kTileRows - 1) / kTileRows * (kTileRows / P::kLanes);
  if (num_rows <= kFew.M) {
    return TileColumns<P, Form, kFew.M, kFew.V>(x, num_rows, x_layout, w, 0, num_vectors, y);
  }
  if (num_rows <= kSome.M) {
    return TileColumns<P, Form, kSome.M, kSome.V>(x, num_rows, x_layout, w, 0, num_vectors, y);
  }
  const size_t fitting = kActivationBlockBytes / x_layout.bytes() / kMany.M * kMany.M;
  const size_t block = fitting > kMany.M ? fitting : kMany.M;
  for (size_t m = 0; m < num_rows; m += block) {
    const size_t rows = num_rows - m < block ? num_rows - m : block;
    TileColumns<P, Form, kMany.M, kMany.V>(x.From(m), rows, x_layout, w, 0, num_vectors,
                                           {y.data + m * y.m_stride, y.m_stride, y.n_stride});
  }
}

// The product in a form that is given.
template <typename P>
BALEEN_INLINE auto TileProductsIn(const MatMulArgs& args) {
  return [&args](auto form) {
    const ActivationRows<P> x = {args.x.data, args.x.row_bytes, args.x_rows};
    TileProductsAs<P, decltype(form)>(x, args.num_rows, args.w, {args.y, args.y_stride, 1});
  };
}

template <typename P>
void FactoredTileMatMul(const MatMulArgs& args) {
  WithFactoredForm(args.w.tiles, TileProductsIn<P>(args));
}

// kFactored is FactoredTileMatMul<P>, which is compiled in a file of its own.
template <typename P, void (*kFactored)(const MatMulArgs&)>
void TileMatMul(const MatMulArgs& args) {
  if (args.w.tiles.super_cols != 0) return kFactored(args);
  WithPlainForm(args.w.tiles, TileProductsIn<P>(args));
}

}  // namespace baleen::kernels::generic

#endif  // BALEEN_KERNELS_GENERIC_TILES_H_
