// kernels/generic/latent_rows.h: rows of the latent cache as operands.
#ifndef BALEEN_KERNELS_GENERIC_LATENT_ROWS_H_
#define BALEEN_KERNELS_GENERIC_LATENT_ROWS_H_

#include <cstddef>

#include "kernels/generic/formats.h"
#include "kernels/generic/inline.h"
#include "kernels/table.h"

namespace baleen::kernels::generic {

// Whole numbers with a scale for each LatentLayout::kScaleBlock of them. The product with the scale
// is rounded to F32; a vector never straddles two blocks.
template <typename P>
struct I8Format {
  static constexpr size_t kBlock = LatentLayout::kScaleBlock;
  static_assert(kBlock % P::kLanes == 0);
  static constexpr size_t kBytes = 1;
  BALEEN_INLINE static typename P::F32 Load(const Row& row, size_t k) {
    return P::Mul(P::LoadI8(row.data + k), P::Set(row.scales[k / kBlock]));
  }
  BALEEN_INLINE static typename P::F32 Load(const Row& row, size_t k, size_t n) {
    return P::Mul(P::LoadI8(row.data + k, n), P::Set(row.scales[k / kBlock]));
  }
};

// How a cache stores the two parts of a row.
template <typename LatentFormat, typename RopeFormat>
struct CacheFormat {
  using Latent = LatentFormat;
  using Rope = RopeFormat;
};

// cache.row(t), inlined.
BALEEN_INLINE const std::byte* RowAt(const LatentRows& cache, size_t t) {
  return cache.blocks[t / cache.block_tokens] + cache.offset_bytes +
         t % cache.block_tokens * cache.row_bytes;
}

// Where `count` <= kKeyBlock consecutive rows lie.
template <typename P>
struct KeyRows {
  Row rows[kKeyBlock];  // the latent parts
  size_t rope_distance;

  BALEEN_INLINE KeyRows(const LatentRows& cache, const LatentLayout& layout, size_t first,
                        size_t count)
      : rope_distance(layout.rope_offset() - layout.latent_offset()) {
    for (size_t i = 0; i < count; ++i) {
      const std::byte* row = RowAt(cache, first + i);
      // Only kI8 has scales; they are in front.
      rows[i] = {row + layout.latent_offset(), reinterpret_cast<const float*>(row)};
    }
  }
  BALEEN_INLINE const Row& operator[](size_t i) const { return rows[i]; }
  BALEEN_INLINE Row Rope(size_t i) const { return {rows[i].data + rope_distance, nullptr}; }
};

// Calls use(format) with the CacheFormat of a cache.
template <typename P, typename Use>
BALEEN_INLINE void WithCacheFormat(DType dtype, const Use& use) {
  switch (dtype) {
    case DType::kI8:
      return use(CacheFormat<I8Format<P>, Bf16Format<P>>());
    case DType::kBF16:
      return use(CacheFormat<Bf16Format<P>, Bf16Format<P>>());
    default:
      return use(CacheFormat<F32Format<P>, F32Format<P>>());
  }
}

}  // namespace baleen::kernels::generic

#endif  // BALEEN_KERNELS_GENERIC_LATENT_ROWS_H_
