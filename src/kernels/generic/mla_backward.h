// kernels/generic/mla_backward.h: the way back of attention in the direct form (contract:
// kernels/table.h).
//
// One head and one block of kKeyBlock keys at a time, as on the way there (mla_direct.h): all rows
// that see the block pass by in groups of kQueryRows. Scores are computed again by the same chain
// of multiply-adds, so the weights are those of the way there; nothing of the size rows x rows is
// ever held. Sums over rows ascend.
#ifndef BALEEN_KERNELS_GENERIC_MLA_BACKWARD_H_
#define BALEEN_KERNELS_GENERIC_MLA_BACKWARD_H_

#include <cstddef>

#include "kernels/generic/exp.h"
#include "kernels/generic/mla_direct.h"
#include "kernels/generic/outer_product.h"
#include "kernels/mla_scratch.h"
#include "kernels/table.h"

namespace baleen::kernels::generic {

// The keys and values of a block, both ways round; places of keys that nobody has are zero.
template <typename P>
void GatherBlock(const MlaBackwardArgs& args, const MlaBackwardScratch& scratch, size_t head,
                 size_t first, size_t count) {
  const size_t nope = args.qk_nope_head_dim, rope = args.qk_rope_head_dim, dv = args.v_head_dim;
  const size_t width = nope + rope;
  for (size_t i = 0; i < kKeyBlock * width; ++i) scratch.keys[i] = scratch.grad_keys[i] = 0;
  for (size_t i = 0; i < kKeyBlock * width; ++i) scratch.keys_transposed[i] = 0;
  for (size_t i = 0; i < kKeyBlock * dv; ++i) scratch.values_transposed[i] = 0;
  for (size_t i = 0; i < kKeyBlock * dv; ++i) scratch.grad_values[i] = 0;
  for (size_t t = 0; t < count; ++t) {
    const float* kv = args.kv + ((first + t) * args.num_heads + head) * (nope + dv);
    const float* k_rope = args.k_rope + (first + t) * args.k_rope_stride;
    float* key = scratch.keys + t * width;
    for (size_t i = 0; i < nope; ++i) key[i] = kv[i];
    for (size_t i = 0; i < rope; ++i) key[nope + i] = k_rope[i];
    for (size_t i = 0; i < width; ++i) scratch.keys_transposed[i * kKeyBlock + t] = key[i];
    for (size_t i = 0; i < dv; ++i) scratch.values_transposed[i * kKeyBlock + t] = kv[nope + i];
  }
}

// From scores and g . v of one row to its weights and the gradients of its scores, both in place.
template <typename P>
BALEEN_INLINE void WeightsAndGradients(float scale, const float* state, float dot_out,
                                       size_t visible, float* scores, float* grads) {
  const auto max = P::Set(state[0]), share = P::Set(1 / state[1]);
  for (size_t t = 0; t < kKeyBlock; t += P::kLanes) {
    const auto score = P::Mul(P::LoadF32(scores + t), P::Set(scale));
    const auto p = P::Mul(Exp<P>(P::Sub(score, max)), share);
    const auto s = P::Mul(P::Mul(p, P::Set(scale)), P::Sub(P::LoadF32(grads + t), P::Set(dot_out)));
    P::Store(scores + t, p);
    P::Store(grads + t, s);
  }
  for (size_t t = visible; t < kKeyBlock; ++t) scores[t] = grads[t] = 0;
}

// Rows [row, row + num_rows) and the block of keys at `first`.
template <typename P>
void BackwardBlock(const MlaBackwardArgs& args, const MlaBackwardScratch& scratch, size_t head,
                   size_t first, size_t row, size_t num_rows) {
  using Format = F32Format<P>;
  const size_t width = args.qk_nope_head_dim + args.qk_rope_head_dim, dv = args.v_head_dim;
  const size_t q_stride = args.num_heads * width, out_stride = args.num_heads * dv;
  alignas(64) float scores[kQueryRows * kKeyBlock];
  alignas(64) float grads[kQueryRows * kKeyBlock];
  float ones[kKeyBlock];
  for (float& one : ones) one = 1;
  const float* q = args.q + row * q_stride + head * width;
  const float* g = args.grad_out + row * out_stride + head * dv;
  float* grad_q = args.grad_q + row * q_stride + head * width;

  OuterProducts<P, Format>(OuterLeft{q, q_stride}, FloatRows<P>{scratch.keys_transposed, kKeyBlock},
                           num_rows, width, kKeyBlock, scores, kKeyBlock, {nullptr});
  OuterProducts<P, Format>(OuterLeft{g, out_stride},
                           FloatRows<P>{scratch.values_transposed, kKeyBlock}, num_rows, dv,
                           kKeyBlock, grads, kKeyBlock, {nullptr});
  for (size_t m = 0; m < num_rows; ++m) {
    const size_t visible = row + m + 1 - first;
    WeightsAndGradients<P>(args.scale, args.states + ((row + m) * args.num_heads + head) * 2,
                           scratch.dot_out[row + m], visible, scores + m * kKeyBlock,
                           grads + m * kKeyBlock);
  }
  OuterProducts<P, Format>(OuterLeftTransposed{scores, kKeyBlock}, FloatRows<P>{g, out_stride},
                           kKeyBlock, num_rows, dv, scratch.grad_values, dv, {ones});
  OuterProducts<P, Format>(OuterLeftTransposed{grads, kKeyBlock}, FloatRows<P>{q, q_stride},
                           kKeyBlock, num_rows, width, scratch.grad_keys, width, {ones});
  OuterProducts<P, Format>(OuterLeft{grads, kKeyBlock}, FloatRows<P>{scratch.keys, width}, num_rows,
                           kKeyBlock, width, grad_q, q_stride, {first == 0 ? nullptr : ones});
}

template <typename P>
void BackwardHead(const MlaBackwardArgs& args, size_t head) {
  const size_t nope = args.qk_nope_head_dim, rope = args.qk_rope_head_dim, dv = args.v_head_dim;
  const MlaBackwardScratch scratch =
      CutMlaBackwardScratch(args.scratch, args.num_rows, nope + rope, dv);
  for (size_t m = 0; m < args.num_rows; ++m) {
    const size_t at = (m * args.num_heads + head) * dv;
    float dot = 0;
    for (size_t i = 0; i < dv; ++i) dot += args.grad_out[at + i] * args.out[at + i];
    scratch.dot_out[m] = dot;
  }
  for (size_t first = 0; first < args.num_rows; first += kKeyBlock) {
    const size_t count = args.num_rows - first < kKeyBlock ? args.num_rows - first : kKeyBlock;
    GatherBlock<P>(args, scratch, head, first, count);
    for (size_t row = first; row < args.num_rows; row += kQueryRows) {
      const size_t left = args.num_rows - row;
      BackwardBlock<P>(args, scratch, head, first, row, left < kQueryRows ? left : kQueryRows);
    }
    for (size_t t = 0; t < count; ++t) {
      const float* key = scratch.grad_keys + t * (nope + rope);
      float* kv = args.grad_kv + ((first + t) * args.num_heads + head) * (nope + dv);
      __builtin_memcpy(kv, key, nope * sizeof(float));
      __builtin_memcpy(kv + nope, scratch.grad_values + t * dv, dv * sizeof(float));
      __builtin_memcpy(args.grad_k_rope + (head * args.num_rows + first + t) * rope, key + nope,
                       rope * sizeof(float));
    }
  }
}

template <typename P>
void MlaBackward(const MlaBackwardArgs& args) {
  for (size_t h = args.head_begin; h < args.head_end; ++h) BackwardHead<P>(args, h);
}

}  // namespace baleen::kernels::generic

#endif  // BALEEN_KERNELS_GENERIC_MLA_BACKWARD_H_
