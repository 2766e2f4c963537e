// kernels/generic/mla_absorbed.h: attention over latent rows (contract: kernels/table.h).
//
// All heads of a group share one pass over the cache: a block of keys (64 x 576 numbers, 74 kB in
// BF16) is scored, then summed, while it is in the L2 cache. Each row takes exactly the keys that
// it may see, so nothing depends on the rows beside it. Scores: order of inner_product.h, first the
// latent part, then the rope part. Weighted sums: keys ascending.
#ifndef BALEEN_KERNELS_GENERIC_MLA_ABSORBED_H_
#define BALEEN_KERNELS_GENERIC_MLA_ABSORBED_H_

#include <cstddef>

#include "kernels/generic/inner_product.h"
#include "kernels/generic/latent_rows.h"
#include "kernels/generic/outer_product.h"
#include "kernels/generic/softmax_state.h"
#include "kernels/table.h"

namespace baleen::kernels::generic {

// Scores of a group are 16 x 64 floats, 4 kB on the stack.
inline constexpr size_t kHeadGroup = 16;

// The queries of one row and a group of heads.
struct AbsorbedQueries {
  const float* latent;  // [heads, rank]
  const float* rope;    // [heads, rope]
  size_t rank, rope_dim;
};

// scores[h][t] for M heads and N keys from `key` on.
template <typename P, typename Format, size_t M, size_t N>
void ScoreTile(const AbsorbedQueries& q, size_t head, const KeyRows<P>& keys, size_t key,
               float* scores) {
  using LatentProduct = WideProduct<P, F32Format<P>, typename Format::Latent>;
  using RopeProduct = WideProduct<P, F32Format<P>, typename Format::Rope>;
  typename P::F32 sums[M][N];
  Row latent[M], rope[M], latent_keys[N], rope_keys[N];
  for (size_t m = 0; m < M; ++m) {
    for (size_t n = 0; n < N; ++n) sums[m][n] = P::Zero();
    latent[m] = {reinterpret_cast<const std::byte*>(q.latent + (head + m) * q.rank), nullptr};
    rope[m] = {reinterpret_cast<const std::byte*>(q.rope + (head + m) * q.rope_dim), nullptr};
  }
  for (size_t n = 0; n < N; ++n) {
    latent_keys[n] = keys[key + n];
    rope_keys[n] = keys.Rope(key + n);
  }
  Accumulate<LatentProduct, M, N, Prefetch::kNo>(latent, latent_keys, q.rank, sums);
  Accumulate<RopeProduct, M, N, Prefetch::kNo>(rope, rope_keys, q.rope_dim, sums);
  Fold<P, M, N>(sums, {scores, kKeyBlock, 1});
}

template <typename P, typename Format, size_t M, size_t N>
size_t ScoreColumns(const AbsorbedQueries& q, size_t head, const KeyRows<P>& keys, size_t t,
                    size_t num_keys, float* scores) {
  for (; t + N <= num_keys; t += N) {
    ScoreTile<P, Format, M, N>(q, head, keys, t, scores + head * kKeyBlock + t);
  }
  return t;
}

// Rows [head, num_heads) of scores, M heads at a time, then fewer.
template <typename P, typename Format, size_t M = P::kInnerM>
void Scores(const AbsorbedQueries& q, size_t head, size_t num_heads, const KeyRows<P>& keys,
            size_t num_keys, float* scores) {
  for (; head + M <= num_heads; head += M) {
    size_t t = ScoreColumns<P, Format, M, P::kInnerN>(q, head, keys, 0, num_keys, scores);
    t = ScoreColumns<P, Format, M, 2>(q, head, keys, t, num_keys, scores);
    ScoreColumns<P, Format, M, 1>(q, head, keys, t, num_keys, scores);
  }
  if constexpr (M > 1) Scores<P, Format, M - 1>(q, head, num_heads, keys, num_keys, scores);
}

// One row, one group of heads; out [heads, rank].
template <typename P, typename Format>
void AttendAbsorbed(const MlaAbsorbedArgs& args, const AbsorbedQueries& q, size_t num_heads,
                    size_t num_keys, float* out) {
  const LatentLayout layout = {args.cache.dtype, q.rank, q.rope_dim};
  alignas(64) float scores[kHeadGroup * kKeyBlock];
  SoftmaxState<P> states[kHeadGroup];
  float keep[kHeadGroup];
  for (size_t first = 0; first < num_keys; first += kKeyBlock) {
    const size_t count = num_keys - first < kKeyBlock ? num_keys - first : kKeyBlock;
    const KeyRows<P> keys(args.cache, layout, first, count);
    Scores<P, Format>(q, 0, num_heads, keys, count, scores);
    for (size_t h = 0; h < num_heads; ++h) {
      float* row = scores + h * kKeyBlock;
      for (size_t t = count; t < kKeyBlock; ++t) row[t] = -__builtin_inff();
      keep[h] = AddBlock<P>(row, args.scale, states[h]);
    }
    OuterProducts<P, typename Format::Latent>(OuterLeft{scores, kKeyBlock}, keys, num_heads, count,
                                              q.rank, out, q.rank, {first == 0 ? nullptr : keep});
  }
  for (size_t h = 0; h < num_heads; ++h) ScaleBy<P>(1 / states[h].sum, q.rank, out + h * q.rank);
}

template <typename P>
void MlaAbsorbed(const MlaAbsorbedArgs& args) {
  WithCacheFormat<P>(args.cache.dtype, [&](auto format) {
    using Format = decltype(format);
    const size_t rank = args.kv_lora_rank, rope = args.qk_rope_head_dim;
    for (size_t m = 0; m < args.num_rows; ++m) {
      for (size_t h = args.head_begin; h < args.head_end; h += kHeadGroup) {
        const size_t left = args.head_end - h;
        const size_t head = m * args.num_heads + h;
        const AbsorbedQueries q = {args.q_latent + head * rank, args.q_rope + head * rope, rank,
                                   rope};
        AttendAbsorbed<P, Format>(args, q, left < kHeadGroup ? left : kHeadGroup,
                                  args.first_position + m + 1, args.out + head * rank);
      }
    }
  });
}

}  // namespace baleen::kernels::generic

#endif  // BALEEN_KERNELS_GENERIC_MLA_ABSORBED_H_
