// kernels/generic/mla_direct.h: attention with rebuilt keys and values (contract: kernels/table.h).
//
// One head and one block of keys at a time: keys are rebuilt transposed, [width, kKeyBlock], so
// that scores of neighbouring keys fill a vector; values as [kKeyBlock, v_head_dim]. Then every row
// that sees the block takes all kKeyBlock keys of it: a key that it must not see has weight exactly
// zero, and the value of a key that nobody has is zero. Sums over the width and over keys ascend in
// one chain (outer_product.h), so a row's result does not depend on the rows beside it.
#ifndef BALEEN_KERNELS_GENERIC_MLA_DIRECT_H_
#define BALEEN_KERNELS_GENERIC_MLA_DIRECT_H_

#include <cstddef>

#include "kernels/generic/elementwise.h"
#include "kernels/generic/latent_rows.h"
#include "kernels/generic/matmul.h"
#include "kernels/generic/outer_product.h"
#include "kernels/generic/softmax_state.h"
#include "kernels/mla_scratch.h"
#include "kernels/table.h"

namespace baleen::kernels::generic {

// Rows that are scored together: 32 x 64 floats, 8 kB on the stack.
inline constexpr size_t kQueryRows = 32;

// out [n] in BF16 = the row.
template <typename P, typename Format>
void RoundTo(const Row& row, size_t n, std::byte* out) {
  size_t i = 0;
  for (; i + P::kLanes <= n; i += P::kLanes) P::StoreBf16(out + 2 * i, Format::Load(row, i));
  if (i < n) P::StoreBf16(out + 2 * i, Format::Load(row, i, n - i), n - i);
}

// Keys and values of head `head` for the block of `count` keys at `first`.
template <typename P, typename Format>
void Rebuild(const MlaDirectArgs& args, const MlaDirectScratch& scratch, size_t head, size_t first,
             size_t count) {
  const size_t rank = args.kv_b.cols, nope = args.qk_nope_head_dim, dv = args.v_head_dim;
  const KeyRows<P> rows(args.cache, {args.cache.dtype, rank, args.qk_rope_head_dim}, first, count);
  const size_t row_bytes = rank * (args.products == ActivationType::kF32 ? 4 : 2);
  for (size_t t = 0; t < count; ++t) {
    std::byte* latent = scratch.latents + t * row_bytes;
    if (args.products == ActivationType::kF32) {
      DecodeTo<P, typename Format::Latent>(rows[t], rank, reinterpret_cast<float*>(latent));
    } else if constexpr (Format::Latent::kBytes == 2) {
      __builtin_memcpy(latent, rows[t].data, row_bytes);
    } else {
      RoundTo<P, typename Format::Latent>(rows[t], rank, latent);
    }
    for (size_t i = 0; i < args.qk_rope_head_dim; i += P::kLanes) {
      const size_t left = args.qk_rope_head_dim - i;
      const size_t n = left < P::kLanes ? left : P::kLanes;
      float part[P::kLanes];
      P::Store(part, Format::Rope::Load(rows.Rope(t), i, n));
      for (size_t j = 0; j < n; ++j) scratch.keys[(nope + i + j) * kKeyBlock + t] = part[j];
    }
  }
  const ActivationRows<P> latents = {scratch.latents, row_bytes, nullptr};
  const size_t first_row = (head - args.first_head) * (nope + dv);
  Products<P>(args.products, latents, count, RowsOf<P>(args.kv_b, first_row, nope), scratch.matmul,
              {scratch.keys, 1, kKeyBlock});
  Products<P>(args.products, latents, count, RowsOf<P>(args.kv_b, first_row + nope, dv),
              scratch.matmul, {scratch.values, dv, 1});
  for (size_t i = count * dv; i < kKeyBlock * dv; ++i) scratch.values[i] = 0;
}

// Rows [row, row + num_rows) take in the block at `first`.
template <typename P>
void AttendBlock(const MlaDirectArgs& args, const MlaDirectScratch& scratch, size_t head,
                 size_t first, size_t row, size_t num_rows, SoftmaxState<P>* states) {
  const size_t width = args.qk_nope_head_dim + args.qk_rope_head_dim, dv = args.v_head_dim;
  alignas(64) float scores[kQueryRows * kKeyBlock];
  float keep[kQueryRows];
  const float* q = args.q + (row * args.num_heads + head) * width;
  OuterProducts<P, F32Format<P>>(OuterLeft{q, args.num_heads * width},
                                 FloatRows<P>{scratch.keys, kKeyBlock}, num_rows, width, kKeyBlock,
                                 scores, kKeyBlock, {nullptr});
  for (size_t m = 0; m < num_rows; ++m) {
    const size_t visible = args.first_position + row + m + 1 - first;
    for (size_t t = visible; t < kKeyBlock; ++t) scores[m * kKeyBlock + t] = -__builtin_inff();
    keep[m] = AddBlock<P>(scores + m * kKeyBlock, args.scale, states[row + m]);
  }
  float* out = args.out + (row * args.num_heads + head) * dv;
  OuterProducts<P, F32Format<P>>(OuterLeft{scores, kKeyBlock}, FloatRows<P>{scratch.values, dv},
                                 num_rows, kKeyBlock, dv, out, args.num_heads * dv,
                                 {first == 0 ? nullptr : keep});
}

template <typename P, typename Format>
void AttendDirect(const MlaDirectArgs& args, size_t head) {
  const size_t dv = args.v_head_dim;
  const size_t num_keys = args.first_position + args.num_rows;
  const MlaDirectScratch scratch =
      CutMlaDirectScratch(args.scratch, args.num_rows, args.kv_b.cols,
                          args.qk_nope_head_dim + args.qk_rope_head_dim, dv);
  auto* states = reinterpret_cast<SoftmaxState<P>*>(scratch.states);
  for (size_t m = 0; m < args.num_rows; ++m) states[m] = {};
  for (size_t first = 0; first < num_keys; first += kKeyBlock) {
    const size_t count = num_keys - first < kKeyBlock ? num_keys - first : kKeyBlock;
    Rebuild<P, Format>(args, scratch, head, first, count);
    size_t row = first > args.first_position ? first - args.first_position : 0;
    for (; row < args.num_rows; row += kQueryRows) {
      const size_t left = args.num_rows - row;
      AttendBlock<P>(args, scratch, head, first, row, left < kQueryRows ? left : kQueryRows,
                     states);
    }
  }
  for (size_t m = 0; m < args.num_rows; ++m) {
    ScaleBy<P>(1 / states[m].sum, dv, args.out + (m * args.num_heads + head) * dv);
    if (args.states != nullptr) {
      args.states[(m * args.num_heads + head) * 2] = states[m].max;
      args.states[(m * args.num_heads + head) * 2 + 1] = states[m].sum;
    }
  }
}

template <typename P>
void MlaDirect(const MlaDirectArgs& args) {
  WithCacheFormat<P>(args.cache.dtype, [&](auto format) {
    for (size_t h = args.head_begin; h < args.head_end; ++h) {
      AttendDirect<P, decltype(format)>(args, h);
    }
  });
}

}  // namespace baleen::kernels::generic

#endif  // BALEEN_KERNELS_GENERIC_MLA_DIRECT_H_
