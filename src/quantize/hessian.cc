#include "quantize/hessian.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace baleen {

namespace {

constexpr size_t kBlockRows = 128;      // of H that one task adds up
constexpr size_t kGatheredRows = 1024;  // inputs that are gathered at once

}  // namespace

void Hessian::Add(const float* x, size_t num_rows, kernels::KernelContext& ctx) {
  ctx.pool.ParallelFor((size_ + kBlockRows - 1) / kBlockRows, [&](size_t task, size_t) {
    const size_t begin = task * kBlockRows;
    ctx.table.outer_matmul({.x = x + begin,
                            .x_stride = size_,
                            .x_transposed = true,
                            .w = x + begin,
                            .w_stride = size_,
                            .M = std::min(kBlockRows, size_ - begin),
                            .N = size_ - begin,
                            .K = num_rows,
                            .y = sums_.data() + begin * size_ + begin,
                            .y_stride = size_,
                            .accumulate = true});
    // What the block has below the diagonal.
    for (size_t i = begin; i < std::min(size_, begin + kBlockRows); ++i) {
      std::fill(sums_.data() + i * size_ + begin, sums_.data() + i * size_ + i, 0.0f);
    }
  });
  weight_ += static_cast<double>(num_rows);
}

void Hessian::AddRows(const float* x, std::span<const int32_t> rows, kernels::KernelContext& ctx) {
  ArenaScope scope(ctx.arena);
  float* gathered = ctx.arena.Allocate<float>(std::min(kGatheredRows, rows.size()) * size_);
  for (size_t begin = 0; begin < rows.size(); begin += kGatheredRows) {
    const size_t count = std::min(kGatheredRows, rows.size() - begin);
    for (size_t i = 0; i < count; ++i) {
      std::memcpy(gathered + i * size_, x + static_cast<size_t>(rows[begin + i]) * size_,
                  size_ * sizeof(float));
    }
    Add(gathered, count, ctx);
  }
}

void Hessian::Blend(const Hessian& other, double weight) {
  BALEEN_CHECK(other.size_ == size_ && other.weight_ > 0);
  const auto factor = static_cast<float>(weight / other.weight_);
  for (size_t i = 0; i < sums_.size(); ++i) sums_[i] += factor * other.sums_[i];
  weight_ += weight;
}

std::vector<float> Hessian::Diagonal() const {
  std::vector<float> diagonal(size_, 0);
  if (weight_ == 0) return diagonal;
  for (size_t i = 0; i < size_; ++i) {
    diagonal[i] = static_cast<float>(sums_[i * size_ + i] / weight_);
  }
  return diagonal;
}

void Hessian::Permuted(std::span<const int32_t> order, float* out) const {
  const float factor = weight_ > 0 ? static_cast<float>(1 / weight_) : 0.0f;
  for (size_t i = 0; i < size_; ++i) {
    for (size_t j = i; j < size_; ++j) {
      out[i * size_ + j] =
          factor * At(static_cast<size_t>(order[i]), static_cast<size_t>(order[j]));
    }
  }
}

double Hessian::OutputError(const float* e, size_t num_rows,
                            const kernels::KernelTable& table) const {
  if (weight_ == 0) return 0;
  // With T the upper triangle of H and D its diagonal, e H e^T = 2 e T e^T - e D e^T.
  std::vector<float> product(num_rows * size_);
  table.outer_matmul({.x = e,
                      .x_stride = size_,
                      .w = sums_.data(),
                      .w_stride = size_,
                      .M = num_rows,
                      .N = size_,
                      .K = size_,
                      .y = product.data(),
                      .y_stride = size_});
  double sum = 0;
  for (size_t r = 0; r < num_rows; ++r) {
    for (size_t i = 0; i < size_; ++i) {
      const double value = e[r * size_ + i];
      sum += value * (2.0 * product[r * size_ + i] - sums_[i * size_ + i] * value);
    }
  }
  return sum / weight_;
}

}  // namespace baleen
