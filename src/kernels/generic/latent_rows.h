// kernels/generic/latent_rows.h: rows of the latent cache as operands.
#ifndef BALEEN_KERNELS_GENERIC_LATENT_ROWS_H_
#define BALEEN_KERNELS_GENERIC_LATENT_ROWS_H_

#include <cstddef>

#include "kernels/generic/formats.h"
#include "kernels/generic/inline.h"
#include "kernels/table.h"

namespace baleen::kernels::generic {

// Where `count` <= kKeyBlock consecutive rows lie.
template <typename P>
struct KeyRows {
  Row rows[kKeyBlock];

  BALEEN_INLINE KeyRows(const LatentRows& cache, size_t first, size_t count) {
    for (size_t i = 0; i < count; ++i) {
      const size_t t = first + i;
      rows[i] = {cache.blocks[t / cache.block_tokens] + cache.offset_bytes +
                     t % cache.block_tokens * cache.row_bytes,
                 nullptr};
    }
  }
  BALEEN_INLINE const Row& operator[](size_t i) const { return rows[i]; }
};

// Calls use(format) with the format of a cache, F32 or BF16.
template <typename P, typename Use>
BALEEN_INLINE void WithCacheFormat(DType dtype, const Use& use) {
  return dtype == DType::kBF16 ? use(Bf16Format<P>()) : use(F32Format<P>());
}

}  // namespace baleen::kernels::generic

#endif  // BALEEN_KERNELS_GENERIC_LATENT_ROWS_H_
