// kernels/generic/elementwise.h: what works on one row of floats (contracts: kernels/table.h).
#ifndef BALEEN_KERNELS_GENERIC_ELEMENTWISE_H_
#define BALEEN_KERNELS_GENERIC_ELEMENTWISE_H_

#include <cstddef>
#include <cstdint>

#include "kernels/generic/exp.h"
#include "kernels/generic/formats.h"
#include "kernels/generic/inline.h"
#include "kernels/table.h"
#include "tensor/blocks.h"

namespace baleen::kernels::generic {

// The sum of squares runs in four vectors, folded pairwise, so that it does not wait for itself.
template <typename P>
void RmsNorm(const float* x, const float* weight, float eps, size_t n, float* y) {
  using F32 = typename P::F32;
  constexpr size_t kLanes = P::kLanes;
  F32 sums[4] = {P::Zero(), P::Zero(), P::Zero(), P::Zero()};
  size_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    for (size_t j = 0; j < 4; ++j) {
      const F32 v = P::LoadF32(x + i + j * kLanes);
      sums[j] = P::Fma(v, v, sums[j]);
    }
  }
  for (; i < n; i += kLanes) {
    const F32 v = n - i < kLanes ? P::LoadF32(x + i, n - i) : P::LoadF32(x + i);
    sums[0] = P::Fma(v, v, sums[0]);
  }
  const float sum = P::ReduceAdd(P::Add(P::Add(sums[0], sums[1]), P::Add(sums[2], sums[3])));
  const F32 scale = P::Div(P::Set(1), P::Sqrt(P::Set(sum / static_cast<float>(n) + eps)));
  i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    P::Store(y + i, P::Mul(P::Mul(P::LoadF32(x + i), scale), P::LoadF32(weight + i)));
  }
  if (i < n) {
    const F32 scaled = P::Mul(P::LoadF32(x + i, n - i), scale);
    P::Store(y + i, P::Mul(scaled, P::LoadF32(weight + i, n - i)), n - i);
  }
}

template <typename P>
BALEEN_INLINE typename P::F32 Silu(typename P::F32 x) {
  return P::Div(x, P::Add(P::Set(1), Exp<P>(P::Sub(P::Zero(), x))));
}

template <typename P>
void SwiGlu(const float* gate, const float* up, size_t n, float* out) {
  constexpr size_t kLanes = P::kLanes;
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    P::Store(out + i, P::Mul(Silu<P>(P::LoadF32(gate + i)), P::LoadF32(up + i)));
  }
  if (i < n) {
    const auto silu = Silu<P>(P::LoadF32(gate + i, n - i));
    P::Store(out + i, P::Mul(silu, P::LoadF32(up + i, n - i)), n - i);
  }
}

template <typename P>
void AddScaled(float a, const float* x, size_t n, float* y) {
  constexpr size_t kLanes = P::kLanes;
  const auto as = P::Set(a);
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    P::Store(y + i, P::Fma(as, P::LoadF32(x + i), P::LoadF32(y + i)));
  }
  if (i < n) {
    P::Store(y + i, P::Fma(as, P::LoadF32(x + i, n - i), P::LoadF32(y + i, n - i)), n - i);
  }
}

template <typename P>
void DecodeRow(const Matrix& w, size_t r, float* out) {
  if (w.tiles.bits != 0) {
    const std::byte* tile = RowsOf<P>(w, r / kTileRows * kTileRows, kTileRows).data;
    return DecodeTileRow(w.tiles, tile, r % kTileRows, out);
  }
  if (IsBlockType(w.dtype)) return DecodeBlocks(w.dtype, w.row(r), w.cols, out);
  WithFormat<P>(w.dtype, [&](auto format) {
    using Format = decltype(format);
    DecodeTo<P, Format>(StoredRows<P, Format>(w)[r], w.cols, out);
  });
}

template <typename P>
void Pack(const float* x, size_t n, ActivationType type, std::byte* out) {
  if (type == ActivationType::kF32) {
    __builtin_memcpy(out, x, n * sizeof(float));
    return;
  }
  constexpr size_t kLanes = P::kLanes;
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) P::StoreBf16(out + 2 * i, P::LoadF32(x + i));
  if (i < n) P::StoreBf16(out + 2 * i, P::LoadF32(x + i, n - i), n - i);
}

// One group of at most 128 columns. A group of nothing but tiny numbers is zero: 127 / max would be
// infinite. NaN makes the scale NaN. Returns the sum of the numbers, modulo 2^32 as the vectors
// add: only numbers made of NaN get so large.
template <typename P>
uint32_t PackI8Group(const float* x, size_t n, int8_t* numbers, float* scale) {
  constexpr size_t kLanes = P::kLanes;
  constexpr float kTiny = 0x1p-100f;
  const auto load = [&](size_t i) BALEEN_INLINE_LAMBDA {
    return n - i < kLanes ? P::LoadF32(x + i, n - i) : P::LoadF32(x + i);
  };
  auto magnitude = P::Zero();
  for (size_t i = 0; i < n; i += kLanes) magnitude = P::MaxMagnitude(magnitude, load(i));
  const float max = P::ReduceMaxMagnitude(magnitude);
  *scale = max < kTiny ? 0 : max / 127;
  const auto inverse = P::Set(max < kTiny ? 0 : 127 / max);
  auto sum = P::ZeroI32();
  for (size_t i = 0; i < n; i += kLanes) {
    const auto rounded = P::ToI32(P::Mul(load(i), inverse));
    P::StoreI8(numbers + i, rounded);
    sum = P::AddI32(sum, rounded);
  }
  return static_cast<uint32_t>(P::ReduceAddI32(sum));
}

// The two sums of a part of at most 32 numbers, as I8Row has them.
template <typename P>
void SumPart(const int8_t* numbers, size_t n, std::byte* out) {
  uint16_t sums[2] = {};
  for (size_t i = 0; i < n; ++i) {
    sums[i / 2 % 2] = static_cast<uint16_t>(sums[i / 2 % 2] - 8 * numbers[i]);
  }
  __builtin_memcpy(out, sums, sizeof(sums));
}

template <typename P>
void PackI8(const float* x, const I8Row& layout, size_t begin, size_t n, std::byte* out) {
  auto* numbers = reinterpret_cast<int8_t*>(out) + begin;
  const size_t first = begin / layout.group_cols;
  auto* scales = reinterpret_cast<float*>(out + layout.scales_offset()) + first;
  std::byte* sums = out + layout.sums_offset();
  for (size_t i = 0; i < n; i += layout.group_cols) {
    const size_t left = n - i < layout.group_cols ? n - i : layout.group_cols;
    const uint32_t sum = PackI8Group<P>(x + i, left, numbers + i, scales++);
    if (layout.part_cols == 0) {
      const uint32_t zero_sum = 0u - 8u * sum;
      __builtin_memcpy(sums + (begin + i) / layout.group_cols * 4, &zero_sum, sizeof(zero_sum));
      continue;
    }
    for (size_t p = 0; p < left; p += layout.part_cols) {
      SumPart<P>(numbers + i + p, left - p < layout.part_cols ? left - p : layout.part_cols,
                 sums + (begin + i + p) / layout.part_cols * 4);
    }
  }
  // Up to whole blocks of tiles.
  if (begin + n == layout.cols) {
    for (size_t i = begin + n; i < layout.scales_offset(); ++i) out[i] = std::byte{0};
  }
}

template <typename P>
void RotatePairs(float* x, const float* cos, const float* sin, size_t num_pairs) {
  constexpr size_t kPairs = P::kLanes / 2;
  size_t i = 0;
  for (; i + kPairs <= num_pairs; i += kPairs) {
    const auto v = P::LoadF32(x + 2 * i);
    const auto crossed = P::Mul(P::SwapPairs(v), P::LoadTwice(sin + i));
    P::Store(x + 2 * i, P::FmaSubAdd(v, P::LoadTwice(cos + i), crossed));
  }
  for (; i < num_pairs; ++i) {
    const float a = x[2 * i], b = x[2 * i + 1];
    x[2 * i] = __builtin_fmaf(a, cos[i], -(b * sin[i]));
    x[2 * i + 1] = __builtin_fmaf(b, cos[i], a * sin[i]);
  }
}

}  // namespace baleen::kernels::generic

#endif  // BALEEN_KERNELS_GENERIC_ELEMENTWISE_H_
