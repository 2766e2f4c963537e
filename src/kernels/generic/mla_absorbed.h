// kernels/generic/mla_absorbed.h: attention over latent rows (contract: kernels/table.h).
//
// All heads of a group share one pass over the cache: a block of keys (64 x 576 numbers, 74 kB in
// BF16) is scored, then summed, while it is in the L2 cache. Each row takes exactly the keys that
// it may see, so nothing depends on the rows beside it. Scores: order of inner_product.h, first the
// latent part, then the rope part. Weighted sums: keys ascending, with BF16 products pairs of keys.
#ifndef BALEEN_KERNELS_GENERIC_MLA_ABSORBED_H_
#define BALEEN_KERNELS_GENERIC_MLA_ABSORBED_H_

#include <cstddef>

#include "kernels/generic/elementwise.h"
#include "kernels/generic/inner_product.h"
#include "kernels/generic/latent_rows.h"
#include "kernels/generic/outer_product.h"
#include "kernels/generic/softmax_state.h"
#include "kernels/table.h"

namespace baleen::kernels::generic {

// Scores of a group are 16 x 64 floats, 4 kB on the stack.
inline constexpr size_t kHeadGroup = 16;

// The queries of one row and a group of heads, in the form of the products.
struct AbsorbedQueries {
  const std::byte* latent;  // [heads, rank]
  const std::byte* rope;    // [heads, rope]
  size_t rank, rope_dim;

  AbsorbedQueries From(size_t head, size_t bytes) const {
    return {latent + head * rank * bytes, rope + head * rope_dim * bytes, rank, rope_dim};
  }
};

// Everything in F32, whatever the cache's Format.
template <typename Primitives, typename Format>
struct WideAttention {
  using P = Primitives;
  using LatentProduct = WideProduct<P, F32Format<P>, typename Format::Latent>;
  using RopeProduct = WideProduct<P, F32Format<P>, typename Format::Rope>;
  static constexpr size_t kQueryBytes = 4;

  static AbsorbedQueries Queries(const MlaAbsorbedArgs& args, size_t head, size_t /*num_heads*/) {
    const AbsorbedQueries all = {reinterpret_cast<const std::byte*>(args.q_latent),
                                 reinterpret_cast<const std::byte*>(args.q_rope), args.kv_lora_rank,
                                 args.qk_rope_head_dim};
    return all.From(head, kQueryBytes);
  }
  // out [num_heads, rank] (+)= weights [num_heads, kKeyBlock] times the first `count` keys.
  static void AddKeys(float* weights, size_t num_heads, const KeyRows<P>& keys, size_t count,
                      size_t rank, float* out, OuterStart start) {
    OuterProducts<P, typename Format::Latent>(OuterLeft{weights, kKeyBlock}, keys, num_heads, count,
                                              rank, out, rank, start);
  }
};

// Two neighbouring keys, column by column a pair.
struct KeyPair {
  const std::byte *even, *odd;
};
template <typename P>
struct KeyPairs {
  const KeyRows<P>& keys;
  size_t count;
  // The last key of an odd number stands beside itself; its second weight is zero.
  BALEEN_INLINE KeyPair operator[](size_t i) const {
    return {keys[2 * i].data, keys[2 * i + 1 < count ? 2 * i + 1 : 2 * i].data};
  }
};
template <typename Primitives>
struct KeyPairOuter {
  using P = Primitives;
  using Operand = typename P::Bf16;
  BALEEN_INLINE static Operand Set(const float* x) { return P::SetPair(x); }
  BALEEN_INLINE static Operand Load(const KeyPair& keys, size_t n) {
    return P::LoadInterleaved(keys.even + 2 * n, keys.odd + 2 * n);
  }
  BALEEN_INLINE static Operand Load(const KeyPair& keys, size_t n, size_t count) {
    return P::LoadInterleaved(keys.even + 2 * n, keys.odd + 2 * n, count);
  }
  BALEEN_INLINE static typename P::F32 MulAdd(Operand x, Operand w, typename P::F32 sum) {
    return P::DotPairs(x, w, sum);
  }
};

// A cache in BF16: queries and weights are rounded to BF16, and the machine multiplies pairs:
// neighbouring columns for scores, neighbouring keys for sums.
template <typename Primitives>
struct PairAttention {
  using P = Primitives;
  using LatentProduct = PairProduct<P>;
  using RopeProduct = PairProduct<P>;
  static constexpr size_t kQueryBytes = 2;

  static AbsorbedQueries Queries(const MlaAbsorbedArgs& args, size_t head, size_t num_heads) {
    const size_t rank = args.kv_lora_rank, rope = args.qk_rope_head_dim;
    std::byte* latent = args.scratch;
    std::byte* rope_part = latent + num_heads * rank * kQueryBytes;
    Pack<P>(args.q_latent + head * rank, num_heads * rank, ActivationType::kBF16, latent);
    Pack<P>(args.q_rope + head * rope, num_heads * rope, ActivationType::kBF16, rope_part);
    return {latent, rope_part, rank, rope};
  }
  static void AddKeys(float* weights, size_t num_heads, const KeyRows<P>& keys, size_t count,
                      size_t rank, float* out, OuterStart start) {
    for (size_t h = 0; h < num_heads; ++h) {
      float* row = weights + h * kKeyBlock;
      Pack<P>(row, kKeyBlock, ActivationType::kBF16, reinterpret_cast<std::byte*>(row));
    }
    OuterProductsOf<KeyPairOuter<P>>(OuterLeft{weights, kKeyBlock}, KeyPairs<P>{keys, count},
                                     num_heads, (count + 1) / 2, rank, out, rank, start);
  }
};

// scores[h][t] for M heads and N keys from `key` on.
template <typename Attention, size_t M, size_t N>
void ScoreTile(const AbsorbedQueries& q, const KeyRows<typename Attention::P>& keys, size_t key,
               float* scores) {
  using P = typename Attention::P;
  typename P::F32 sums[M][N];
  Row latent[M], rope[M], latent_keys[N], rope_keys[N];
  for (size_t m = 0; m < M; ++m) {
    for (size_t n = 0; n < N; ++n) sums[m][n] = P::Zero();
    const AbsorbedQueries of_head = q.From(m, Attention::kQueryBytes);
    latent[m] = {of_head.latent, nullptr};
    rope[m] = {of_head.rope, nullptr};
  }
  for (size_t n = 0; n < N; ++n) {
    latent_keys[n] = keys[key + n];
    rope_keys[n] = keys.Rope(key + n);
  }
  Accumulate<typename Attention::LatentProduct, M, N, Prefetch::kNo>(latent, latent_keys, q.rank,
                                                                     sums);
  Accumulate<typename Attention::RopeProduct, M, N, Prefetch::kNo>(rope, rope_keys, q.rope_dim,
                                                                   sums);
  Fold<P, M, N>(sums, {scores, kKeyBlock, 1});
}

// Asks for rows of the block that comes next.
template <typename P>
struct NextKeys {
  const LatentRows& cache;
  size_t first, count;

  BALEEN_INLINE void Prefetch(size_t t, size_t n) const {
    for (size_t i = t; i < t + n && i < count; ++i) {
      const std::byte* row = RowAt(cache, first + i);
      for (size_t b = 0; b < cache.row_bytes; b += 64) PrefetchAt(row, b);
    }
  }
};

template <typename Attention, size_t M, size_t N>
size_t ScoreColumns(const AbsorbedQueries& q, const KeyRows<typename Attention::P>& keys, size_t t,
                    size_t num_keys, const NextKeys<typename Attention::P>& next, float* scores) {
  for (; t + N <= num_keys; t += N) {
    next.Prefetch(t, N);
    ScoreTile<Attention, M, N>(q, keys, t, scores + t);
  }
  return t;
}

// Rows [head, num_heads) of scores, M heads at a time, then fewer.
template <typename Attention, size_t M = Attention::P::kInnerM>
void Scores(const AbsorbedQueries& q, size_t head, size_t num_heads,
            const KeyRows<typename Attention::P>& keys, size_t num_keys,
            NextKeys<typename Attention::P> next, float* scores) {
  for (; head + M <= num_heads; head += M) {
    const AbsorbedQueries part = q.From(head, Attention::kQueryBytes);
    float* rows = scores + head * kKeyBlock;
    size_t t =
        ScoreColumns<Attention, M, Attention::P::kInnerN>(part, keys, 0, num_keys, next, rows);
    t = ScoreColumns<Attention, M, 2>(part, keys, t, num_keys, next, rows);
    ScoreColumns<Attention, M, 1>(part, keys, t, num_keys, next, rows);
    next.count = 0;  // the first heads have asked
  }
  if constexpr (M > 1) Scores<Attention, M - 1>(q, head, num_heads, keys, num_keys, next, scores);
}

// One row, one group of heads; out [heads, rank].
template <typename Attention>
void AttendAbsorbed(const MlaAbsorbedArgs& args, const AbsorbedQueries& q, size_t num_heads,
                    size_t num_keys, float* out) {
  using P = typename Attention::P;
  const LatentLayout layout = {args.cache.dtype, q.rank, q.rope_dim};
  alignas(64) float scores[kHeadGroup * kKeyBlock];
  SoftmaxState<P> states[kHeadGroup];
  float keep[kHeadGroup];
  for (size_t first = 0; first < num_keys; first += kKeyBlock) {
    const size_t count = num_keys - first < kKeyBlock ? num_keys - first : kKeyBlock;
    const KeyRows<P> keys(args.cache, layout, first, count);
    const size_t left = num_keys - first - count;
    const NextKeys<P> next = {args.cache, first + kKeyBlock, left < kKeyBlock ? left : kKeyBlock};
    Scores<Attention>(q, 0, num_heads, keys, count, next, scores);
    for (size_t h = 0; h < num_heads; ++h) {
      float* row = scores + h * kKeyBlock;
      for (size_t t = count; t < kKeyBlock; ++t) row[t] = -__builtin_inff();
      keep[h] = AddBlock<P>(row, args.scale, states[h]);
    }
    Attention::AddKeys(scores, num_heads, keys, count, q.rank, out, {first == 0 ? nullptr : keep});
  }
  for (size_t h = 0; h < num_heads; ++h) ScaleBy<P>(1 / states[h].sum, q.rank, out + h * q.rank);
}

template <typename Attention>
void MlaAbsorbedWith(const MlaAbsorbedArgs& args) {
  for (size_t m = 0; m < args.num_rows; ++m) {
    for (size_t h = args.head_begin; h < args.head_end; h += kHeadGroup) {
      const size_t left = args.head_end - h;
      const size_t num_heads = left < kHeadGroup ? left : kHeadGroup;
      const size_t head = m * args.num_heads + h;
      const AbsorbedQueries q = Attention::Queries(args, head, num_heads);
      AttendAbsorbed<Attention>(args, q, num_heads, args.first_position + m + 1,
                                args.out + head * args.kv_lora_rank);
    }
  }
}

template <typename P>
void MlaAbsorbed(const MlaAbsorbedArgs& args) {
  WithCacheFormat<P>(args.cache.dtype, [&](auto format) {
    MlaAbsorbedWith<WideAttention<P, decltype(format)>>(args);
  });
}

// The same where queries and cache are BF16 and P multiplies pairs of them.
template <typename P>
void PairMlaAbsorbed(const MlaAbsorbedArgs& args) {
  MlaAbsorbedWith<PairAttention<P>>(args);
}

}  // namespace baleen::kernels::generic

#endif  // BALEEN_KERNELS_GENERIC_MLA_ABSORBED_H_
