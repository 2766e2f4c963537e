// kernels/generic/backward.h: the way back of what works on one row, and the optimizer (contracts:
// kernels/table.h).
#ifndef BALEEN_KERNELS_GENERIC_BACKWARD_H_
#define BALEEN_KERNELS_GENERIC_BACKWARD_H_

#include <cstddef>
#include <cstdint>

#include "kernels/generic/elementwise.h"
#include "kernels/generic/softmax_state.h"
#include "kernels/table.h"

namespace baleen::kernels::generic {

// Calls body(i, load, store) for vectors at 0, kLanes, ...; the last may be short: load(p) and
// store(p, v) then touch only the lanes that are there.
template <typename P, typename Body>
BALEEN_INLINE void ForVectors(size_t n, const Body& body) {
  size_t i = 0;
  for (; i + P::kLanes <= n; i += P::kLanes) {
    body(
        i, [&](const float* p) BALEEN_INLINE_LAMBDA { return P::LoadF32(p + i); },
        [&](float* p, typename P::F32 v) BALEEN_INLINE_LAMBDA { P::Store(p + i, v); });
  }
  if (i < n) {
    const size_t left = n - i;
    body(
        i, [&](const float* p) BALEEN_INLINE_LAMBDA { return P::LoadF32(p + i, left); },
        [&](float* p, typename P::F32 v) BALEEN_INLINE_LAMBDA { P::Store(p + i, v, left); });
  }
}

template <typename P>
void RmsNormBackward(const float* x, const float* weight, float eps, size_t n, const float* grad_y,
                     float* grad_x, float* grad_weight) {
  auto squares = P::Zero(), dots = P::Zero();
  ForVectors<P>(n, [&](size_t, const auto& load, const auto&) BALEEN_INLINE_LAMBDA {
    const auto v = load(x);
    squares = P::Fma(v, v, squares);
    dots = P::Fma(P::Mul(load(grad_y), load(weight)), v, dots);
  });
  const float count = static_cast<float>(n);
  float r[1];
  const auto mean = P::Set(P::ReduceAdd(squares) / count + eps);
  P::Store(r, P::Div(P::Set(1), P::Sqrt(mean)), 1);
  const auto scale = P::Set(r[0]);
  const auto shrink = P::Set(-r[0] * r[0] * r[0] * P::ReduceAdd(dots) / count);
  ForVectors<P>(n, [&](size_t, const auto& load, const auto& store) BALEEN_INLINE_LAMBDA {
    const auto v = load(x), g = P::Mul(load(grad_y), scale);
    store(grad_weight, P::Fma(g, v, load(grad_weight)));
    store(grad_x, P::Fma(shrink, v, P::Fma(g, load(weight), load(grad_x))));
  });
}

template <typename P>
void SwiGluBackward(const float* gate, const float* up, const float* grad_out, size_t n,
                    float* grad_gate, float* grad_up) {
  ForVectors<P>(n, [&](size_t, const auto& load, const auto& store) BALEEN_INLINE_LAMBDA {
    const auto one = P::Set(1);
    const auto a = load(gate), u = load(up), g = load(grad_out);
    const auto sigmoid = P::Div(one, P::Add(one, Exp<P>(P::Sub(P::Zero(), a))));
    const auto gs = P::Mul(g, sigmoid);
    store(grad_up, P::Mul(gs, a));
    store(grad_gate, P::Mul(P::Mul(gs, u), P::Fma(a, P::Sub(one, sigmoid), one)));
  });
}

template <typename P>
float CrossEntropy(float* logits, size_t n, size_t target, float scale) {
  float max = -__builtin_inff();
  const size_t whole = n / P::kLanes * P::kLanes;
  if (whole > 0) {
    auto highest = P::LoadF32(logits);
    for (size_t i = P::kLanes; i < whole; i += P::kLanes) {
      highest = P::Max(highest, P::LoadF32(logits + i));
    }
    max = P::ReduceMax(highest);
  }
  for (size_t i = whole; i < n; ++i) max = logits[i] > max ? logits[i] : max;
  const float target_logit = logits[target];
  auto sums = P::Zero();
  ForVectors<P>(whole, [&](size_t, const auto& load, const auto& store) BALEEN_INLINE_LAMBDA {
    const auto e = Exp<P>(P::Sub(load(logits), P::Set(max)));
    sums = P::Add(sums, e);
    store(logits, e);
  });
  float sum = P::ReduceAdd(sums);
  for (size_t i = whole; i < n; ++i) sum += logits[i] = ExpOf<P>(logits[i] - max);
  ScaleBy<P>(scale / sum, n, logits);
  logits[target] -= scale;
  return max + __builtin_logf(sum) - target_logit;
}

template <typename P>
void PackPairs(const float* a, const float* b, size_t n, uint32_t* out) {
  constexpr size_t kLanes = P::kLanes;
  alignas(64) uint16_t low[kLanes], high[kLanes] = {};
  for (size_t i = 0; i < n; i += kLanes) {
    const size_t left = n - i < kLanes ? n - i : kLanes;
    P::StoreBf16(low, P::LoadF32(a + i, left), left);
    if (b != nullptr) P::StoreBf16(high, P::LoadF32(b + i, left), left);
    for (size_t j = 0; j < left; ++j) out[i + j] = low[j] | static_cast<uint32_t>(high[j]) << 16;
  }
}

template <typename P>
float SumSquares(const float* x, size_t n) {
  // Parts of a few thousand numbers, so that a long sum does not lose the small ones.
  constexpr size_t kPart = 4096;
  double total = 0;
  for (size_t begin = 0; begin < n; begin += kPart) {
    const float* part = x + begin;
    auto sums = P::Zero();
    ForVectors<P>(n - begin < kPart ? n - begin : kPart,
                  [&](size_t, const auto& load, const auto&) BALEEN_INLINE_LAMBDA {
                    const auto v = load(part);
                    sums = P::Fma(v, v, sums);
                  });
    total += P::ReduceAdd(sums);
  }
  return static_cast<float>(total);
}

template <typename P>
void AdamW(const AdamWArgs& args, const float* grad, size_t n, float* value, float* m, float* v) {
  ForVectors<P>(n, [&](size_t, const auto& load, const auto& store) BALEEN_INLINE_LAMBDA {
    const auto g = P::Mul(load(grad), P::Set(args.grad_scale));
    const auto first = P::Fma(P::Set(args.beta1), load(m), P::Mul(P::Set(1 - args.beta1), g));
    const auto second =
        P::Fma(P::Set(args.beta2), load(v), P::Mul(P::Set(1 - args.beta2), P::Mul(g, g)));
    const auto root = P::Sqrt(P::Mul(second, P::Set(args.correction2)));
    const auto step =
        P::Div(P::Mul(first, P::Set(args.correction1)), P::Add(root, P::Set(args.eps)));
    const auto old = load(value);
    const auto whole = P::Fma(P::Set(args.weight_decay), old, step);
    store(m, first);
    store(v, second);
    store(value, P::Fma(P::Set(-args.lr), whole, old));
  });
}

}  // namespace baleen::kernels::generic

#endif  // BALEEN_KERNELS_GENERIC_BACKWARD_H_
