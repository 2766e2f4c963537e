// kernels/ref/backward.h: the way back of each operation, as the chain rule says it (contracts:
// kernels/table.h). V is the type of the values, in which everything is computed: float gives the
// "scalar" table; double is held against finite differences, and then judges the others.
#ifndef BALEEN_KERNELS_REF_BACKWARD_H_
#define BALEEN_KERNELS_REF_BACKWARD_H_

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/table.h"
#include "tensor/dtype.h"

namespace baleen::kernels::ref {

template <typename T>
void OuterMatMul(const OuterMatMulArgs& args) {
  const auto element = [](const void* data, size_t i) {
    uint32_t bits;
    std::memcpy(&bits, static_cast<const std::byte*>(data) + i * sizeof(bits), sizeof(bits));
    return bits;
  };
  const auto low = [](uint32_t pair) { return Bf16ToF32(static_cast<uint16_t>(pair)); };
  const auto high = [](uint32_t pair) { return Bf16ToF32(static_cast<uint16_t>(pair >> 16)); };
  for (size_t m = 0; m < args.M; ++m) {
    for (size_t n = 0; n < args.N; ++n) {
      float& y = args.y[m * args.y_stride + n];
      T sum = args.accumulate ? static_cast<T>(y) : T{0};
      for (size_t k = 0; k < args.K; ++k) {
        const size_t at = args.x_transposed ? k * args.x_stride + m : m * args.x_stride + k;
        const uint32_t x = element(args.x, at), w = element(args.w, k * args.w_stride + n);
        if (args.type == ActivationType::kF32) {
          sum = std::fma(static_cast<T>(std::bit_cast<float>(x)),
                         static_cast<T>(std::bit_cast<float>(w)), sum);
        } else {
          sum += static_cast<T>(low(x)) * static_cast<T>(low(w)) +
                 static_cast<T>(high(x)) * static_cast<T>(high(w));
        }
      }
      y = static_cast<float>(sum);
    }
  }
}

// Attention of one sequence over rebuilt keys and values: what MlaBackward is the way back of.
template <typename V>
void MlaForward(const MlaBackwardArgsOf<V>& args, V* out, V* states) {
  const size_t nope = args.qk_nope_head_dim, rope = args.qk_rope_head_dim, dv = args.v_head_dim;
  for (size_t m = 0; m < args.num_rows; ++m) {
    for (size_t h = args.head_begin; h < args.head_end; ++h) {
      const V* q = args.q + (m * args.num_heads + h) * (nope + rope);
      std::vector<V> p(m + 1);
      V max = -std::numeric_limits<V>::infinity(), sum = 0;
      for (size_t t = 0; t <= m; ++t) {
        const V* kv = args.kv + (t * args.num_heads + h) * (nope + dv);
        V score = 0;
        for (size_t i = 0; i < nope; ++i) score += q[i] * kv[i];
        for (size_t i = 0; i < rope; ++i) {
          score += q[nope + i] * args.k_rope[t * args.k_rope_stride + i];
        }
        p[t] = score * args.scale;
        max = std::max(max, p[t]);
      }
      for (V& value : p) sum += value = std::exp(value - max);
      for (size_t i = 0; i < dv; ++i) {
        V total = 0;
        for (size_t t = 0; t <= m; ++t) {
          total += p[t] / sum * args.kv[(t * args.num_heads + h) * (nope + dv) + nope + i];
        }
        out[(m * args.num_heads + h) * dv + i] = total;
      }
      states[(m * args.num_heads + h) * 2] = max;
      states[(m * args.num_heads + h) * 2 + 1] = sum;
    }
  }
}

template <typename V>
void MlaBackward(const MlaBackwardArgsOf<V>& args) {
  const size_t nope = args.qk_nope_head_dim, rope = args.qk_rope_head_dim, dv = args.v_head_dim;
  for (size_t h = args.head_begin; h < args.head_end; ++h) {
    V* grad_k_rope = args.grad_k_rope + h * args.num_rows * rope;
    std::fill_n(grad_k_rope, args.num_rows * rope, V{0});
    for (size_t t = 0; t < args.num_rows; ++t) {
      std::fill_n(args.grad_kv + (t * args.num_heads + h) * (nope + dv), nope + dv, V{0});
      std::fill_n(args.grad_q + (t * args.num_heads + h) * (nope + rope), nope + rope, V{0});
    }
    for (size_t m = 0; m < args.num_rows; ++m) {
      const size_t head = m * args.num_heads + h;
      const V* q = args.q + head * (nope + rope);
      const V* g = args.grad_out + head * dv;
      V* grad_q = args.grad_q + head * (nope + rope);
      V dot_out = 0;
      for (size_t i = 0; i < dv; ++i) dot_out += g[i] * args.out[head * dv + i];
      for (size_t t = 0; t <= m; ++t) {
        const V* kv = args.kv + (t * args.num_heads + h) * (nope + dv);
        const V* k_rope = args.k_rope + t * args.k_rope_stride;
        V* grad_kv = args.grad_kv + (t * args.num_heads + h) * (nope + dv);
        V score = 0, dot_value = 0;
        for (size_t i = 0; i < nope; ++i) score += q[i] * kv[i];
        for (size_t i = 0; i < rope; ++i) score += q[nope + i] * k_rope[i];
        for (size_t i = 0; i < dv; ++i) dot_value += g[i] * kv[nope + i];
        const V p =
            std::exp(score * args.scale - args.states[head * 2]) / args.states[head * 2 + 1];
        const V s = args.scale * p * (dot_value - dot_out);
        for (size_t i = 0; i < nope; ++i) {
          grad_q[i] += s * kv[i];
          grad_kv[i] += s * q[i];
        }
        for (size_t i = 0; i < rope; ++i) {
          grad_q[nope + i] += s * k_rope[i];
          grad_k_rope[t * rope + i] += s * q[nope + i];
        }
        for (size_t i = 0; i < dv; ++i) grad_kv[nope + i] += p * g[i];
      }
    }
  }
}

template <typename V>
void RmsNormBackward(const V* x, const V* weight, V eps, size_t n, const V* grad_y, V* grad_x,
                     V* grad_weight) {
  V squares = 0, dot = 0;
  for (size_t i = 0; i < n; ++i) {
    squares += x[i] * x[i];
    dot += grad_y[i] * weight[i] * x[i];
  }
  const V r = 1 / std::sqrt(squares / static_cast<V>(n) + eps);
  const V shrink = r * r * r * dot / static_cast<V>(n);
  for (size_t i = 0; i < n; ++i) {
    grad_x[i] += r * grad_y[i] * weight[i] - shrink * x[i];
    grad_weight[i] += grad_y[i] * x[i] * r;
  }
}

template <typename V>
void SwiGluBackward(const V* gate, const V* up, const V* grad_out, size_t n, V* grad_gate,
                    V* grad_up) {
  for (size_t i = 0; i < n; ++i) {
    const V a = gate[i], u = up[i], g = grad_out[i];
    const V sigmoid = 1 / (1 + std::exp(-a));
    grad_up[i] = g * a * sigmoid;
    grad_gate[i] = g * u * sigmoid * (1 + a * (1 - sigmoid));
  }
}

template <typename V>
V CrossEntropy(V* logits, size_t n, size_t target, V scale) {
  const V max = *std::max_element(logits, logits + n);
  V sum = 0;
  for (size_t i = 0; i < n; ++i) sum += std::exp(logits[i] - max);
  const V loss = max + std::log(sum) - logits[target];
  for (size_t i = 0; i < n; ++i) {
    logits[i] = scale * (std::exp(logits[i] - max) / sum - (i == target ? V{1} : V{0}));
  }
  return loss;
}

inline void PackPairs(const float* a, const float* b, size_t n, uint32_t* out) {
  for (size_t i = 0; i < n; ++i) {
    const uint32_t high = b == nullptr ? 0 : F32ToBf16(b[i]);
    out[i] = F32ToBf16(a[i]) | high << 16;
  }
}

template <typename T>
float SumSquares(const float* x, size_t n) {
  T sum = 0;
  for (size_t i = 0; i < n; ++i) sum += static_cast<T>(x[i]) * x[i];
  return static_cast<float>(sum);
}

template <typename V>
void AdamW(const AdamWArgs& args, const V* grad, size_t n, V* value, V* m, V* v) {
  for (size_t i = 0; i < n; ++i) {
    const V g = grad[i] * static_cast<V>(args.grad_scale);
    m[i] = static_cast<V>(args.beta1) * m[i] + (1 - static_cast<V>(args.beta1)) * g;
    v[i] = static_cast<V>(args.beta2) * v[i] + (1 - static_cast<V>(args.beta2)) * g * g;
    const V step = m[i] * static_cast<V>(args.correction1) /
                   (std::sqrt(v[i] * static_cast<V>(args.correction2)) + static_cast<V>(args.eps));
    value[i] -= static_cast<V>(args.lr) * (step + static_cast<V>(args.weight_decay) * value[i]);
  }
}

}  // namespace baleen::kernels::ref

#endif  // BALEEN_KERNELS_REF_BACKWARD_H_
