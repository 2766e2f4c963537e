// quantize/factor.h: the triangular factor that GPTQ's updates are made of.
#ifndef BALEEN_QUANTIZE_FACTOR_H_
#define BALEEN_QUANTIZE_FACTOR_H_

#include <cstddef>

#include "kernels/table.h"

namespace baleen {

// h [n, n] holds the upper triangle of a symmetric matrix H; what lies below is not read. Replaces
// it by the upper triangular U with a positive diagonal and H^-1 = U^T U, zeros below. False if H
// is not positive definite (in F32); h is then spoilt.
//
// U is found without H^-1: with J the matrix that turns the order around and J H J = R^T R
// (Cholesky, R upper), U = J R^-T J. Blocks of 128; nearly all the work is in products of the
// table.
bool InverseFactor(size_t n, float* h, const kernels::KernelTable& table);

}  // namespace baleen

#endif  // BALEEN_QUANTIZE_FACTOR_H_
