// kernels/backward.h: the operations of the way back, over the threads and the table of a context.
//
// A product y = x W^T has two ways back, grad_x = grad_y W and grad_W += grad_y^T x, both sums over
// rows of two matrices as they lie in memory (OuterMatMulArgs). In F32 nothing is copied. With BF16
// products both sides are rounded and laid out as pairs first, which GradOperand does at most once.
//
// Results do not depend on the number of threads.
#ifndef BALEEN_KERNELS_BACKWARD_H_
#define BALEEN_KERNELS_BACKWARD_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/kernels.h"

namespace baleen::kernels {

// Rows [rows, cols] of floats, cut into segments that are multiplied apart: one for a dense layer,
// one for each expert. Borrows x and offsets; copies live in the context's arena, so it must not
// outlive the ArenaScope around it.
class GradOperand {
 public:
  // offsets [segments + 1], ascending, from 0 to the number of rows. x_stride in floats.
  GradOperand(const float* x, size_t cols, size_t x_stride, std::span<const size_t> offsets,
              KernelContext& ctx);

  size_t cols() const { return cols_; }
  size_t num_segments() const { return offsets_.size() - 1; }
  size_t rows(size_t segment) const { return offsets_[segment + 1] - offsets_[segment]; }
  size_t begin(size_t segment) const { return offsets_[segment]; }

  // 4-byte elements, `stride` of them from row to row.
  struct Elements {
    const void* data = nullptr;
    size_t stride = 0;
    size_t count = 0;  // of the dimension that is summed over
  };
  // Rows of the segment, for sums over columns.
  Elements Rows(size_t segment, ActivationType type);
  // The same for sums over rows: pairs are of neighbouring rows.
  Elements RowPairs(size_t segment, ActivationType type);

 private:
  size_t num_rows() const { return offsets_.back(); }

  const float* x_;
  size_t cols_;
  size_t stride_;
  std::span<const size_t> offsets_;
  KernelContext& ctx_;
  uint32_t* bf16_rows_ = nullptr;   // [rows, ceil(cols / 2)]
  uint32_t* bf16_pairs_ = nullptr;  // [sum of ceil(rows of a segment / 2), cols]
};

// A weight as the way back reads it: kF32, its rows; kBF16, pairs of neighbouring rows
// [ceil(rows / 2), cols] (PackRowPairs).
struct BackwardWeight {
  ActivationType type = ActivationType::kF32;
  const void* data = nullptr;
  size_t rows = 0, cols = 0;
};

// out [ceil(rows / 2), cols] from w [rows, cols].
void PackRowPairs(const float* w, size_t rows, size_t cols, uint32_t* out, KernelContext& ctx);

// grad_x[r] (+)= grad_y[r] W, W = weights[segment of r]; grad_x rows of weights[].cols floats,
// grad_x_stride apart.
void GradInput(GradOperand& grad_y, std::span<const BackwardWeight> weights, bool accumulate,
               float* grad_x, size_t grad_x_stride, KernelContext& ctx);

// grad_w[segment] [grad_y.cols, x.cols] += grad_y^T x over the segment's rows. `type` is that of
// the products.
void GradWeight(GradOperand& grad_y, GradOperand& x, ActivationType type,
                std::span<float* const> grad_w, KernelContext& ctx);

// grad_x += the way back of RmsNorm; grad_weight likewise. Strides in floats.
struct RmsNormBackwardArgs {
  const float* x = nullptr;
  size_t x_stride = 0;
  size_t rows = 0, n = 0;
  const float* weight = nullptr;
  float eps = 0;
  const float* grad_y = nullptr;
  size_t grad_y_stride = 0;
  float* grad_x = nullptr;
  size_t grad_x_stride = 0;
  float* grad_weight = nullptr;
};
void RmsNormBackward(const RmsNormBackwardArgs& args, KernelContext& ctx);

}  // namespace baleen::kernels

#endif  // BALEEN_KERNELS_BACKWARD_H_
