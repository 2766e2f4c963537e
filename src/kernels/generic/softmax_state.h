// kernels/generic/softmax_state.h: a softmax-weighted sum over some of the keys, as a value that
// can be combined with the sum over other keys.
//
// For scores s[t] and vectors v[t]: max = max s, sum = sum e^(s - max), acc = sum e^(s - max) v.
// The state of no keys has max = -infinity and sum = 0, and its acc is not read. Combining states
// in the order of their keys gives the whole; acc / sum is the result.
#ifndef BALEEN_KERNELS_GENERIC_SOFTMAX_STATE_H_
#define BALEEN_KERNELS_GENERIC_SOFTMAX_STATE_H_

#include <cstddef>

#include "kernels/generic/exp.h"
#include "kernels/generic/inline.h"
#include "kernels/table.h"

namespace baleen::kernels::generic {

// The part of a state beside its vector.
template <typename P>
struct SoftmaxState {
  float max = -__builtin_inff();
  float sum = 0;

  BALEEN_INLINE bool empty() const { return sum == 0; }
};

template <typename P>
BALEEN_INLINE float ExpOf(float x) {
  float result[1];
  P::Store(result, Exp<P>(P::Set(x)), 1);
  return result[0];
}

// Takes in one block of keys: scores[0, kKeyBlock) becomes e^(scale * score - max), -infinity
// stands for a key that must not be seen, and at least one key is seen. Returns the factor by which
// the acc so far must shrink before the new weights are added.
template <typename P>
BALEEN_INLINE float AddBlock(float* scores, float scale, SoftmaxState<P>& state) {
  using F32 = typename P::F32;
  static_assert(kKeyBlock % P::kLanes == 0);
  constexpr size_t kVectors = kKeyBlock / P::kLanes;
  F32 v[kVectors];
  for (size_t i = 0; i < kVectors; ++i) {
    v[i] = P::Mul(P::LoadF32(scores + i * P::kLanes), P::Set(scale));
  }
  F32 highest = v[0];
  for (size_t i = 1; i < kVectors; ++i) highest = P::Max(highest, v[i]);
  const float block_max = P::ReduceMax(highest);
  const float max = state.max < block_max ? block_max : state.max;
  F32 sum = P::Zero();
  for (size_t i = 0; i < kVectors; ++i) {
    v[i] = Exp<P>(P::Sub(v[i], P::Set(max)));
    P::Store(scores + i * P::kLanes, v[i]);
    sum = P::Add(sum, v[i]);
  }
  const float keep = ExpOf<P>(state.max - max);
  state.sum = state.sum * keep + P::ReduceAdd(sum);
  state.max = max;
  return keep;
}

template <typename P>
BALEEN_INLINE void ScaleBy(float factor, size_t n, float* v) {
  size_t i = 0;
  for (; i + P::kLanes <= n; i += P::kLanes) {
    P::Store(v + i, P::Mul(P::LoadF32(v + i), P::Set(factor)));
  }
  if (i < n) P::Store(v + i, P::Mul(P::LoadF32(v + i, n - i), P::Set(factor)), n - i);
}

// state, acc := the state of this one's keys followed by `other`'s. acc [n].
template <typename P>
void Merge(const SoftmaxState<P>& other, const float* other_acc, size_t n, SoftmaxState<P>& state,
           float* acc) {
  if (other.empty()) return;
  if (state.empty()) {
    state = other;
    __builtin_memcpy(acc, other_acc, n * sizeof(float));
    return;
  }
  const float max = state.max < other.max ? other.max : state.max;
  const float keep = ExpOf<P>(state.max - max);
  const float add = ExpOf<P>(other.max - max);
  ScaleBy<P>(keep, n, acc);
  size_t i = 0;
  for (; i + P::kLanes <= n; i += P::kLanes) {
    P::Store(acc + i, P::Fma(P::Set(add), P::LoadF32(other_acc + i), P::LoadF32(acc + i)));
  }
  if (i < n) {
    const auto sum =
        P::Fma(P::Set(add), P::LoadF32(other_acc + i, n - i), P::LoadF32(acc + i, n - i));
    P::Store(acc + i, sum, n - i);
  }
  state.sum = state.sum * keep + other.sum * add;
  state.max = max;
}

}  // namespace baleen::kernels::generic

#endif  // BALEEN_KERNELS_GENERIC_SOFTMAX_STATE_H_
