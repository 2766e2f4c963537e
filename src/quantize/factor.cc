#include "quantize/factor.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

namespace baleen {

namespace {

constexpr size_t kFactorBlock = 128;

// (i, j) <-> (n - 1 - j, n - 1 - i): turns the order around and transposes, which leaves an upper
// triangle an upper one.
void FlipAcross(size_t n, float* a) {
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = i; j < n - i; ++j) {
      std::swap(a[i * n + j], a[(n - 1 - j) * n + (n - 1 - i)]);
    }
  }
}

// The upper factor of the upper triangle a [size, size], in place; rows are n apart.
bool FactorBlock(size_t size, size_t n, float* a) {
  for (size_t i = 0; i < size; ++i) {
    float* row = a + i * n;
    for (size_t k = 0; k < i; ++k) {
      const float factor = a[k * n + i];
      for (size_t j = i; j < size; ++j) row[j] -= factor * a[k * n + j];
    }
    if (!(row[i] > 0) || !std::isfinite(row[i])) return false;
    const float root = std::sqrt(row[i]);
    for (size_t j = i; j < size; ++j) row[j] /= root;
  }
  return true;
}

// inverse [size, size], zeros below the diagonal, of an upper triangle whose rows are n apart.
void InvertBlock(size_t size, size_t n, const float* a, float* inverse) {
  std::fill_n(inverse, size * size, 0.0f);
  for (size_t i = size; i-- > 0;) {
    float* row = inverse + i * size;
    row[i] = 1;
    for (size_t k = i + 1; k < size; ++k) {
      const float factor = a[i * n + k];
      for (size_t j = k; j < size; ++j) row[j] -= factor * inverse[k * size + j];
    }
    for (size_t j = i; j < size; ++j) row[j] /= a[i * n + i];
  }
}

// The strips below are [size, cols], rows n apart in the matrix and cols apart in `strip`.
void Subtract(size_t size, size_t cols, const float* strip, size_t n, float* a,
              const kernels::KernelTable& table) {
  for (size_t i = 0; i < size; ++i) table.add_scaled(-1.0f, strip + i * cols, cols, a + i * n);
}

void Copy(size_t size, size_t cols, const float* from, size_t from_stride, float* to,
          size_t to_stride) {
  for (size_t i = 0; i < size; ++i) {
    std::copy_n(from + i * from_stride, cols, to + i * to_stride);
  }
}

// a = R^T R, R in place of the upper triangle.
bool Cholesky(size_t n, float* a, const kernels::KernelTable& table) {
  std::vector<float> strip(kFactorBlock * n), inverse(kFactorBlock * kFactorBlock);
  for (size_t begin = 0; begin < n; begin += kFactorBlock) {
    const size_t size = std::min(kFactorBlock, n - begin), cols = n - begin;
    float* block = a + begin * n + begin;
    table.outer_matmul({.x = a + begin,
                        .x_stride = n,
                        .x_transposed = true,
                        .w = a + begin,
                        .w_stride = n,
                        .M = size,
                        .N = cols,
                        .K = begin,
                        .y = strip.data(),
                        .y_stride = cols});
    Subtract(size, cols, strip.data(), n, block, table);
    if (!FactorBlock(size, n, block)) return false;
    const size_t rest = cols - size;
    if (rest == 0) break;
    // The rest of the rows: R_bb^-T times what is there.
    InvertBlock(size, n, block, inverse.data());
    table.outer_matmul({.x = inverse.data(),
                        .x_stride = size,
                        .x_transposed = true,
                        .w = block + size,
                        .w_stride = n,
                        .M = size,
                        .N = rest,
                        .K = size,
                        .y = strip.data(),
                        .y_stride = rest});
    Copy(size, rest, strip.data(), rest, block + size, n);
  }
  return true;
}

// R^-1 in place of R, from the last rows up: X_i = R_ii^-1 (I - R_i,rest X_rest).
void InvertUpper(size_t n, float* a, const kernels::KernelTable& table) {
  std::vector<float> strip(kFactorBlock * n), product(kFactorBlock * n),
      inverse(kFactorBlock * kFactorBlock);
  const size_t last = (n - 1) / kFactorBlock * kFactorBlock;
  for (size_t begin = last;; begin -= kFactorBlock) {
    const size_t size = std::min(kFactorBlock, n - begin), next = begin + size, rest = n - next;
    float* block = a + begin * n + begin;
    InvertBlock(size, n, block, inverse.data());
    // X_rest is a triangle: a strip of its columns needs only the rows down to the strip's end.
    constexpr size_t kStrip = 4 * kFactorBlock;
    for (size_t col = 0; col < rest; col += kStrip) {
      const size_t cols = std::min(kStrip, rest - col);
      table.outer_matmul({.x = block + size,
                          .x_stride = n,
                          .w = a + next * n + next + col,
                          .w_stride = n,
                          .M = size,
                          .N = cols,
                          .K = col + cols,
                          .y = strip.data() + col,
                          .y_stride = rest});
    }
    table.outer_matmul({.x = inverse.data(),
                        .x_stride = size,
                        .w = strip.data(),
                        .w_stride = rest,
                        .M = size,
                        .N = rest,
                        .K = size,
                        .y = product.data(),
                        .y_stride = rest});
    for (size_t i = 0; i < size; ++i) std::fill_n(block + i * n + size, rest, 0.0f);
    Subtract(size, rest, product.data(), n, block + size, table);
    Copy(size, size, inverse.data(), size, block, n);
    if (begin == 0) return;
  }
}

}  // namespace

bool InverseFactor(size_t n, float* h, const kernels::KernelTable& table) {
  for (size_t i = 1; i < n; ++i) std::fill_n(h + i * n, i, 0.0f);
  FlipAcross(n, h);
  if (!Cholesky(n, h, table)) return false;
  InvertUpper(n, h, table);
  FlipAcross(n, h);
  return true;
}

}  // namespace baleen
