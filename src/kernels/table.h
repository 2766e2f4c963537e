// kernels/table.h: what an instruction set provides.
//
// Each function works on the calling thread only and never allocates; kernels.h has the operations
// that models call, which split the work over threads and call these. A table is one column of the
// dispatch: scalar (ref/), AVX2, AVX-512, AVX-512 with BF16.
//
// Same answer whatever the company: each output of a product is summed over K in one order that
// depends on K and the table only, never on the number of rows, on the tile or on the thread. So
// callers may cut M and N anywhere.
#ifndef BALEEN_KERNELS_TABLE_H_
#define BALEEN_KERNELS_TABLE_H_

#include <cstddef>
#include <cstdint>

#include "kernels/matrix.h"

namespace baleen::kernels {

// y[m, n] = sum_k x[row(m), k] * w[n, k], with row(m) = x_rows ? x_rows[m] : m.
// Tiles and kI8 (x's groups are the segments of the tiles, its parts theirs), the same bits with
// every table: over the groups of x in ascending order, y = fma(float(sum of whole numbers), scale
// of w * scale of x, y), where numbers have their factors in them; and then, of tiles with minima,
// y = fma(float(sum of -8 * x * min_number), min * (scale of x / 8), y). The columns of x are in
// the order of the tiles. Tiles and kF32: one chain of fused multiply-adds for each output, k
// ascending. Tiles and kBF16: not provided.
struct MatMulArgs {
  Activations x;                    // [*, K]
  const int32_t* x_rows = nullptr;  // [num_rows] or null
  size_t num_rows = 0;              // M
  Matrix w;                         // [N, K]
  float* y = nullptr;               // y[m * y_stride + n], overwritten
  size_t y_stride = 0;
  std::byte* scratch = nullptr;  // at least MatMulScratchBytes(K), 64-byte aligned
  // F32 weights and kF32 only: each output is one chain of fused multiply-adds, k ascending, the
  // same bits with every table, instead of the table's own order. Quicker for many rows, far slower
  // for one.
  bool chained = false;
};

// A tile of weight rows, widened to F32 once for many activation rows.
inline constexpr size_t kMaxTileRows = 16;
inline size_t MatMulScratchBytes(size_t cols) {
  return kMaxTileRows * ((cols + 63) / 64 * 64) * sizeof(float);
}

// y[m, n] = sum_k x[m, k] * w[k, n] in F32, k ascending, one fused multiply-add chain for each
// output. Tiles: one vector of running sums for each output, taking k in steps of one vector, then
// folded in halves; K is a multiple of 16.
struct MatMulTransposedArgs {
  const float* x = nullptr;  // [M, K], rows x_stride apart
  size_t x_stride = 0;
  size_t num_rows = 0;  // M
  Matrix w;             // [K, N]
  float* y = nullptr;   // [M, N], rows y_stride apart, overwritten
  size_t y_stride = 0;
};

// Attention over the latent cache, absorbed form, for rows of one sequence:
//   score[h][t] = scale * (q_latent[h] . c[t] + q_rope[h] . k_rope[t]),  t <= position of the row
//   out[h] = sum_t softmax(score[h])[t] * c[t]
// summed in F32 with a running maximum over blocks of kKeyBlock keys that begin at absolute
// positions.
struct MlaAbsorbedArgs {
  LatentRows cache;
  // kBF16 allows a table with bf16_products, over a cache in BF16, to round queries and softmax
  // weights to BF16.
  ActivationType products = ActivationType::kF32;
  size_t kv_lora_rank = 0;
  size_t qk_rope_head_dim = 0;
  float scale = 0;
  size_t num_heads = 0;  // in the rows of q and out
  size_t head_begin = 0, head_end = 0;
  size_t num_rows = 0;
  size_t first_position = 0;        // of row 0; row i sees keys [0, first_position + i]
  const float* q_latent = nullptr;  // [num_rows, num_heads, kv_lora_rank]
  const float* q_rope = nullptr;    // [num_rows, num_heads, qk_rope_head_dim], rotated
  float* out = nullptr;             // [num_rows, num_heads, kv_lora_rank]
  std::byte* scratch = nullptr;     // at least MlaScratchBytes, 64-byte aligned
};

// The same in the direct form: keys and values of one head are rebuilt from the cache, a block of
// kKeyBlock keys at a time:
//   k[t] = W_UK[h] c[t], v[t] = W_UV[h] c[t];  score as above with q_nope . k;  out[h] = sum p v
struct MlaDirectArgs {
  LatentRows cache;
  // [heads * (qk_nope_head_dim + v_head_dim), kv_lora_rank]: for each head from first_head on W_UK,
  // then W_UV.
  Matrix kv_b;
  size_t first_head = 0;
  ActivationType products = ActivationType::kF32;  // of the rebuilding
  size_t qk_nope_head_dim = 0, qk_rope_head_dim = 0, v_head_dim = 0;
  float scale = 0;
  size_t num_heads = 0;
  size_t head_begin = 0, head_end = 0;
  size_t num_rows = 0;
  size_t first_position = 0;
  const float* q = nullptr;  // [num_rows, num_heads, qk_nope + qk_rope], the rope part rotated
  float* out = nullptr;      // [num_rows, num_heads, v_head_dim]
  // [num_rows, num_heads, 2] or null: the largest score (times scale) and the sum of e^(score -
  // largest), which the way back needs.
  float* states = nullptr;
  std::byte* scratch = nullptr;
};

// Keys are taken in blocks [i * kKeyBlock, (i + 1) * kKeyBlock). A key that a row must not see has
// weight exactly zero, so a row's result does not depend on the rows beside it.
inline constexpr size_t kKeyBlock = 64;

// Scratch for either form: operands of one head and block, scores and running sums of num_rows
// rows.
size_t MlaScratchBytes(size_t num_rows, size_t kv_lora_rank, size_t qk_nope_head_dim,
                       size_t qk_rope_head_dim, size_t v_head_dim);

// The way back of attention in the direct form, for the rows of one sequence from position 0 on. V
// is float but in tests. With p = softmax(score), g = grad_out:
//   grad_v[t] = sum p[m, t] g[m];   s[m, t] = scale * p[m, t] * (g[m] . v[t] - g[m] . out[m])
//   grad_q[m] = sum_t s[m, t] k[t];  grad_k[t] = sum_m s[m, t] q[m]
template <typename V>
struct MlaBackwardArgsOf {
  size_t num_rows = 0;
  size_t num_heads = 0;
  size_t head_begin = 0, head_end = 0;
  size_t qk_nope_head_dim = 0, qk_rope_head_dim = 0, v_head_dim = 0;
  V scale = 0;
  const V* q = nullptr;       // [num_rows, num_heads, qk_nope + qk_rope], the rope part rotated
  const V* kv = nullptr;      // [num_rows, num_heads, qk_nope + v]: rebuilt keys, then values
  const V* k_rope = nullptr;  // rotated, qk_rope numbers each k_rope_stride apart
  size_t k_rope_stride = 0;
  const V* out = nullptr;        // [num_rows, num_heads, v]
  const V* states = nullptr;     // as MlaDirectArgs
  const V* grad_out = nullptr;   // [num_rows, num_heads, v]
  V* grad_q = nullptr;           // like q, overwritten
  V* grad_kv = nullptr;          // like kv, overwritten
  V* grad_k_rope = nullptr;      // [num_heads, num_rows, qk_rope], overwritten: each head's share
  std::byte* scratch = nullptr;  // at least MlaBackwardScratchBytes, 64-byte aligned
};
using MlaBackwardArgs = MlaBackwardArgsOf<float>;
size_t MlaBackwardScratchBytes(size_t num_rows, size_t qk_head_dim, size_t v_head_dim);

// y[m, n] (+)= sum_k x(m, k) * w[k, n] over 4-byte elements, k ascending in one chain for each
// output, from what y held with `accumulate`. An element is a float, or a pair of BF16 of which the
// products are summed (with tables that have bf16_products): so K counts pairs.
// Both ways back of a product y = x W^T are of this kind: grad_x = grad_y W, and grad_W += grad_y^T
// x with x_transposed.
struct OuterMatMulArgs {
  ActivationType type = ActivationType::kF32;
  const void* x = nullptr;  // x(m, k) is element [m * x_stride + k]; transposed: [k * x_stride + m]
  size_t x_stride = 0;
  bool x_transposed = false;
  const void* w = nullptr;  // element [k * w_stride + n]
  size_t w_stride = 0;
  size_t M = 0, N = 0, K = 0;
  float* y = nullptr;  // y[m * y_stride + n]
  size_t y_stride = 0;
  bool accumulate = false;
};

// One step of AdamW (arXiv:1711.05101) over n parameters.
struct AdamWArgs {
  float lr = 0, beta1 = 0, beta2 = 0, eps = 0, weight_decay = 0;
  // 1 / (1 - beta^step): what the moments must grow by while they are young.
  float correction1 = 1, correction2 = 1;
  float grad_scale = 1;  // the gradient is multiplied by this first (clipping)
};

// Kinds of arithmetic with a peak of their own.
enum class PeakKind : uint8_t { kF32, kBF16, kI8 };

struct KernelTable {
  const char* name;
  bool bf16_products;  // ActivationType::kBF16 runs on instructions made for it

  void (*matmul)(const MatMulArgs& args);
  void (*matmul_transposed)(const MatMulTransposedArgs& args);
  void (*mla_absorbed)(const MlaAbsorbedArgs& args);
  void (*mla_direct)(const MlaDirectArgs& args);

  // y[i] = x[i] * rsqrt(mean(x^2) + eps) * weight[i]; y may be x.
  void (*rms_norm)(const float* x, const float* weight, float eps, size_t n, float* y);
  // out[i] = gate[i] * sigmoid(gate[i]) * up[i]; out may be gate or up.
  void (*swiglu)(const float* gate, const float* up, size_t n, float* out);
  // y[i] += a * x[i], fused.
  void (*add_scaled)(float a, const float* x, size_t n, float* y);
  // Row r of w as F32.
  void (*decode_row)(const Matrix& w, size_t r, float* out);
  // n floats into the form `type`, kF32 or kBF16.
  void (*pack)(const float* x, size_t n, ActivationType type, std::byte* out);
  // Columns [begin, begin + n) of a row, which are whole groups but for the last of the row, into
  // the kI8 row `out`; x[0] is column `begin`. The same bits with every table.
  void (*pack_i8)(const float* x, const I8Row& layout, size_t begin, size_t n, std::byte* out);
  // Pairs (2i, 2i+1) of x turned by the angle of (cos[i], sin[i]).
  void (*rotate_pairs)(float* x, const float* cos, const float* sin, size_t num_pairs);

  // The way back. grad_x and grad_weight are added to, all else is overwritten.
  void (*outer_matmul)(const OuterMatMulArgs& args);
  void (*mla_backward)(const MlaBackwardArgs& args);
  void (*rms_norm_backward)(const float* x, const float* weight, float eps, size_t n,
                            const float* grad_y, float* grad_x, float* grad_weight);
  // grad_gate may be gate, grad_up may be up.
  void (*swiglu_backward)(const float* gate, const float* up, const float* grad_out, size_t n,
                          float* grad_gate, float* grad_up);
  // -log softmax(logits)[target]; logits becomes its gradient times `scale`.
  float (*cross_entropy)(float* logits, size_t n, size_t target, float scale);
  // out[i] = the pair (a[i], b[i]) in BF16, a in the lower half; b null: zeros.
  void (*pack_pairs)(const float* a, const float* b, size_t n, uint32_t* out);
  float (*sum_squares)(const float* x, size_t n);
  void (*adamw)(const AdamWArgs& args, const float* grad, size_t n, float* value, float* m,
                float* v);

  // Runs a loop in registers only and returns the operations done (a multiply-add is two): what
  // this arithmetic can do at most (roof.h). 0: the table has no instructions for it.
  double (*peak_loop)(PeakKind kind, size_t iterations);
};

}  // namespace baleen::kernels

#endif  // BALEEN_KERNELS_TABLE_H_
