// kernels/generic/inline.h: the attribute that kernels cannot do without. Primitives must be
// inlined even without optimisation, or vectors would be passed through memory and, worse, a copy
// compiled for a wide instruction set could be shared with other files.
#ifndef BALEEN_KERNELS_GENERIC_INLINE_H_
#define BALEEN_KERNELS_GENERIC_INLINE_H_

#define BALEEN_INLINE [[gnu::always_inline]] inline
#define BALEEN_INLINE_LAMBDA __attribute__((always_inline))

#endif  // BALEEN_KERNELS_GENERIC_INLINE_H_
