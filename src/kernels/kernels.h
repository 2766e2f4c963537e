// kernels/kernels.h: the operations of a forward pass, over the threads and the table of a context.
//
// Everything is F32 but the weights. Shapes are row-major. An operation writes its whole output
// before it returns. Results do not depend on the number of threads, nor, for a row, on the other
// rows (table.h).
//
// Errors: none; shapes are checked when a model is loaded. Threads: one call at a time for each
// context.
#ifndef BALEEN_KERNELS_KERNELS_H_
#define BALEEN_KERNELS_KERNELS_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "baleen/measure.h"
#include "base/arena.h"
#include "base/function_ref.h"
#include "base/thread_pool.h"
#include "kernels/matrix.h"
#include "kernels/table.h"

namespace baleen::kernels {

// The form that activations take for a product.
struct ActivationForm {
  ActivationType type = ActivationType::kF32;
  size_t group_cols = 0;  // kI8 only, as I8Row
  size_t part_cols = 0;

  bool operator==(const ActivationForm&) const = default;
};

// What an operation needs besides its arguments. Does not own the table or the pool.
struct KernelContext {
  const KernelTable& table;
  ThreadPool& pool;
  // Whether BF16 weights may be multiplied in BF16, and tiles in whole numbers; else in F32.
  bool allow_bf16_products = true;
  bool allow_i8_products = true;
  // Whether products with F32 weights are chains (MatMulArgs::chained): for training, which has
  // many rows always.
  bool chained_f32_products = false;
  Arena arena = {};

  // What has been computed with this context, priced by `roof` (zeros: not priced).
  Roof roof = {};
  Work work = {};

  // Adds one operation that reads `bytes` of weights or cache once and makes `products`
  // multiply-adds in the arithmetic of `type`.
  void Account(uint64_t bytes, ActivationType type, uint64_t products);

  // The form that activations take for a product with `w`.
  ActivationForm FormFor(const Matrix& w) const {
    if (w.is_tiled()) {
      if (!allow_i8_products) return {};
      return {.type = ActivationType::kI8,
              .group_cols = w.tiles.segment_cols(),
              .part_cols = w.tiles.part_cols()};
    }
    const bool bf16 = allow_bf16_products && table.bf16_products && w.dtype == DType::kBF16;
    return {.type = bf16 ? ActivationType::kBF16 : ActivationType::kF32};
  }
  // MatMulArgs::chained for a product with `w` in the form above.
  bool Chains(const Matrix& w) const {
    return chained_f32_products && w.dtype == DType::kF32 && !w.is_tiled();
  }
};

// The left side of products: rows of floats, converted at most once to each form that a product
// asks for. Borrows `x`; the converted copies live in the context's arena, so an Operand must not
// outlive the ArenaScope around it.
class Operand {
 public:
  // x [rows, cols], rows x_stride apart.
  Operand(const float* x, size_t rows, size_t cols, size_t x_stride, KernelContext& ctx);
  Operand(const float* x, size_t rows, size_t cols, KernelContext& ctx)
      : Operand(x, rows, cols, cols, ctx) {}

  const Activations& As(const ActivationForm& form);
  // Rows `rows` (empty: all), their columns in the order that `w` asks for. The order is the
  // caller's to keep: without one it is As(form), where rows keep their numbers.
  Activations Reordered(std::span<const int32_t> rows, const Matrix& w);
  size_t rows() const { return rows_; }
  size_t cols() const { return cols_; }

 private:
  size_t rows_;
  size_t cols_;
  KernelContext& ctx_;
  // F32, BF16, whole numbers in groups of 32, 64 and 128, and those in parts of 16 and 32.
  std::array<Activations, 7> forms_;
};

// y [x.rows, w.rows] = x w^T. `form` overrides the form (the router multiplies in F32 always).
void MatMul(Operand& x, const Matrix& w, float* y, KernelContext& ctx);
void MatMul(Operand& x, const Matrix& w, const ActivationForm& form, float* y, KernelContext& ctx);

// One SwiGLU network and the rows that visit it: for each i,
//   out[rows[i]] += row_weights[i] * down (silu(gate x[rows[i]]) * up x[rows[i]]).
struct SwiGluGroup {
  Matrix gate, up;  // [intermediate, hidden]
  Matrix down;      // [hidden, intermediate]
  std::span<const int32_t> rows;
  const float* row_weights = nullptr;  // [rows.size()]; null: 1
  // [rows.size(), intermediate] each, or null: where gate x and up x are kept.
  float* gate_out = nullptr;
  float* up_out = nullptr;
  // Null, or: somebody still brings the weights until this is 0. Other groups are computed first.
  const std::atomic<uint32_t>* pending = nullptr;
};

// out [x.rows, hidden] = sum over groups, added in the order of `groups`: a dense MLP is one group,
// a layer of experts has one group for each expert that was chosen, and one for the shared expert.
// kAdd adds to what `out` holds: the groups may come in several calls, with the same bits.
enum class SwiGluOutput { kReplace, kAdd };
void GroupedSwiGlu(Operand& x, std::span<const SwiGluGroup> groups, float* out, KernelContext& ctx,
                   SwiGluOutput output = SwiGluOutput::kReplace);

// Attention for the rows of one sequence; contracts in table.h, head ranges and scratch are filled
// in here.
void MlaAbsorbed(MlaAbsorbedArgs args, KernelContext& ctx);
// W_UK and W_UV of all heads are in args.kv_b, or, where that is empty, in two matrices: k_b
// [num_heads * kv_lora_rank, qk_nope_head_dim], each head's W_UK transposed, and v_b [num_heads *
// v_head_dim, kv_lora_rank].
struct LatentHalves {
  Matrix k_b, v_b;
};
void MlaDirect(MlaDirectArgs args, const LatentHalves& halves, KernelContext& ctx);

// For each of num_heads heads h and rows m: y[m, h] = x[m, h] W_h, W_h = w rows
// [h * head_rows + first_row, ... + K), of tiles whole ones in the order of columns. x [rows,
// num_heads, *] with K values used from x_offset on.
struct HeadMatMulArgs {
  const float* x = nullptr;
  size_t x_row_stride = 0, x_head_stride = 0;
  size_t num_rows = 0, num_heads = 0;
  Matrix w;              // [num_heads * head_rows, N]
  size_t head_rows = 0;  // rows of w for each head
  size_t first_row = 0;  // of the part that is used
  size_t used_rows = 0;  // of the part that is used
  float* y = nullptr;
  size_t y_row_stride = 0, y_head_stride = 0;
};
// y[m, h, n] = sum_k x[m, h, k] * w_h[k, n]: absorbs W_UK into the query (used_rows = K).
void HeadMatMulTransposed(const HeadMatMulArgs& args, KernelContext& ctx);
// y[m, h, n] = sum_k x[m, h, k] * w_h[n, k]: applies W_UV to the attended latents (used_rows = N).
void HeadMatMul(const HeadMatMulArgs& args, KernelContext& ctx);

// y[r] = rms_norm(x[r]) for rows of n, strides in floats; y may be x.
void RmsNorm(const float* x, size_t x_stride, size_t rows, size_t n, const float* weight, float eps,
             float* y, size_t y_stride, KernelContext& ctx);

// y[i] += x[i].
void Add(const float* x, size_t n, float* y, KernelContext& ctx);

// Calls work(begin, end) for ranges that together are [0, rows), side by side on the threads.
void ForRows(size_t rows, KernelContext& ctx, FunctionRef<void(size_t begin, size_t end)> work);

}  // namespace baleen::kernels

#endif  // BALEEN_KERNELS_KERNELS_H_
