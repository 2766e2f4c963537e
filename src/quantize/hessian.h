// quantize/hessian.h: what calibration learns of a linear layer's inputs.
//
// For inputs x_t, t < N: H = sum_t x_t x_t^T / N, of which the upper triangle is kept. The layer's
// mean squared output error is then tr(E H E^T) for a change E of its weights.
#ifndef BALEEN_QUANTIZE_HESSIAN_H_
#define BALEEN_QUANTIZE_HESSIAN_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/kernels.h"

namespace baleen {

class Hessian {
 public:
  explicit Hessian(size_t size) : size_(size), sums_(size * size, 0) {}

  size_t size() const { return size_; }
  double weight() const { return weight_; }  // N

  // Adds rows [num_rows, size] of x. Sums run over rows in ascending order, in F32.
  void Add(const float* x, size_t num_rows, kernels::KernelContext& ctx);
  // The same for the named rows of x.
  void AddRows(const float* x, std::span<const int32_t> rows, kernels::KernelContext& ctx);
  // Adds `other` as if it had been made of `weight` rows.
  void Blend(const Hessian& other, double weight);

  // The diagonal of H.
  std::vector<float> Diagonal() const;
  // Writes H with rows and columns taken in this order, upper triangle only.
  void Permuted(std::span<const int32_t> order, float* out) const;
  // tr(E H E^T) of rows e [num_rows, size].
  double OutputError(const float* e, size_t num_rows, const kernels::KernelTable& table) const;

 private:
  float At(size_t i, size_t j) const {
    return i <= j ? sums_[i * size_ + j] : sums_[j * size_ + i];
  }

  size_t size_;
  double weight_ = 0;
  std::vector<float> sums_;  // weight_ * H
};

}  // namespace baleen

#endif  // BALEEN_QUANTIZE_HESSIAN_H_
