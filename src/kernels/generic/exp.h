// kernels/generic/exp.h: the exponential, at most 2 ulp from the true value over all floats.
//
// e^x = 2^n e^r with n = round(x / ln 2), |r| <= ln 2 / 2. e^r is its Taylor series up to r^7,
// whose first missing term is below 2^-27 of the value. ln 2 comes in two parts, the first with 12
// zero bits at its end, so that n times it is exact. Results below the smallest normal number
// become zero, results above the largest become infinity; NaN stays NaN.
#ifndef BALEEN_KERNELS_GENERIC_EXP_H_
#define BALEEN_KERNELS_GENERIC_EXP_H_

#include "kernels/generic/inline.h"

namespace baleen::kernels::generic {

template <typename P>
BALEEN_INLINE typename P::F32 Exp(typename P::F32 x) {
  using F32 = typename P::F32;
  const F32 lowest = P::Set(-87.336544f);  // e^x is about 2^-126
  const F32 highest = P::Set(88.722831f);  // the next float is above ln 2^128
  const F32 n = P::Round(P::Mul(x, P::Set(1.44269504f)));
  F32 r = P::Fma(n, P::Set(-0x1.62e4p-1f), x);
  r = P::Fma(n, P::Set(-0x1.7f7d1cp-20f), r);
  F32 sum = P::Set(1.0f / 5040);
  sum = P::Fma(sum, r, P::Set(1.0f / 720));
  sum = P::Fma(sum, r, P::Set(1.0f / 120));
  sum = P::Fma(sum, r, P::Set(1.0f / 24));
  sum = P::Fma(sum, r, P::Set(1.0f / 6));
  sum = P::Fma(sum, r, P::Set(0.5f));
  sum = P::Fma(sum, r, P::Set(1.0f));
  sum = P::Fma(sum, r, P::Set(1.0f));
  const F32 value = P::MulPow2(sum, n);
  const F32 bounded = P::SelectLess(highest, x, P::Set(__builtin_inff()), value);
  return P::SelectLess(x, lowest, P::Zero(), bounded);
}

}  // namespace baleen::kernels::generic

#endif  // BALEEN_KERNELS_GENERIC_EXP_H_
