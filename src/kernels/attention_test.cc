#include <algorithm>
#include <cmath>

#include "base/sanitized_testing.h"
#include "kernels/kernel_testing.h"

namespace baleen::kernels {

namespace {

struct Shape {
  size_t num_heads, rank, nope, rope, dv;
};

// Widths on and off the vectors, v_head_dim apart from qk_nope_head_dim, more heads than a group.
const std::vector<Shape> kShapes = {{2, 64, 32, 16, 32},
                                    {3, 33, 17, 6, 13},
                                    {5, 20, 8, 2, 40},
                                    {18, 16, 4, 4, 3},
                                    {2, 140, 8, 4, 8}};
const std::vector<DType> kCacheTypes = {DType::kF32, DType::kBF16, DType::kI8};
constexpr size_t kMaxTokens = 150;  // two whole blocks of keys and a part

// One layer of one sequence: a cache in blocks that lie apart, in any order, and the weights and
// queries of all rows.
struct Layer {
  Layer(const Shape& shape, DType cache_dtype, DType weights, Random& random)
      : shape(shape),
        kv_b(weights, shape.num_heads * (shape.nope + shape.dv), shape.rank, random),
        q(RandomFloats(kMaxTokens * shape.num_heads * (shape.nope + shape.rope), random)),
        q_latent(RandomFloats(kMaxTokens * shape.num_heads * shape.rank, random)),
        q_rope(RandomFloats(kMaxTokens * shape.num_heads * shape.rope, random)) {
    const LatentLayout layout = {cache_dtype, shape.rank, shape.rope};
    const size_t width = shape.rank + shape.rope;
    cache.dtype = cache_dtype;
    cache.block_tokens = 48;
    cache.row_bytes = layout.row_bytes();
    for (size_t first = 0; first < kMaxTokens; first += cache.block_tokens) {
      const size_t rows = std::min(cache.block_tokens, kMaxTokens - first);
      memory.emplace_back(rows * cache.row_bytes, cache.dtype == DType::kBF16 ? 2 : 4);
      for (size_t r = 0; r < rows; ++r) {
        std::vector<float> row = RandomFloats(width, random);
        for (float& value : row) value *= 2;
        std::byte* stored = memory.back().data() + r * cache.row_bytes;
        if (cache_dtype == DType::kI8) {
          PackLatentI8(layout, row.data(), stored);
        } else {
          for (size_t i = 0; i < width; ++i) WriteAs(cache_dtype, row[i], stored, i);
        }
      }
      blocks.push_back(memory.back().data());
    }
    cache.blocks = blocks.data();
  }

  MlaAbsorbedArgs Absorbed(size_t first, size_t rows, float* out) const {
    return {.cache = cache,
            .kv_lora_rank = shape.rank,
            .qk_rope_head_dim = shape.rope,
            .scale = kScale,
            .num_heads = shape.num_heads,
            .head_begin = 0,
            .head_end = shape.num_heads,
            .num_rows = rows,
            .first_position = first,
            .q_latent = q_latent.data() + first * shape.num_heads * shape.rank,
            .q_rope = q_rope.data() + first * shape.num_heads * shape.rope,
            .out = out};
  }
  MlaDirectArgs Direct(size_t first, size_t rows, ActivationType products, float* out) const {
    return {.cache = cache,
            .kv_b = kv_b.matrix,
            .products = products,
            .qk_nope_head_dim = shape.nope,
            .qk_rope_head_dim = shape.rope,
            .v_head_dim = shape.dv,
            .scale = kScale,
            .num_heads = shape.num_heads,
            .head_begin = 0,
            .head_end = shape.num_heads,
            .num_rows = rows,
            .first_position = first,
            .q = q.data() + first * shape.num_heads * (shape.nope + shape.rope),
            .out = out};
  }

  static constexpr float kScale = 0.4f;
  Shape shape;
  RandomMatrix kv_b;
  std::vector<float> q, q_latent, q_rope;
  std::vector<Bytes> memory;
  std::vector<const std::byte*> blocks;
  LatentRows cache;
};

std::vector<float> RunAbsorbed(const KernelTable& table, const Layer& layer, size_t first,
                               size_t rows, ActivationType products = ActivationType::kF32) {
  const Shape& s = layer.shape;
  std::vector<float> out(rows * s.num_heads * s.rank, std::nanf(""));
  const Bytes scratch(MlaScratchBytes(rows, s.rank, 0, s.rope, 0));
  MlaAbsorbedArgs args = layer.Absorbed(first, rows, out.data());
  args.products = products;
  args.scratch = scratch.data();
  table.mla_absorbed(args);
  return out;
}

std::vector<float> RunDirect(const KernelTable& table, const Layer& layer, size_t first,
                             size_t rows, ActivationType products) {
  const Shape& s = layer.shape;
  std::vector<float> out(rows * s.num_heads * s.dv, std::nanf(""));
  const Bytes scratch(MlaScratchBytes(rows, s.rank, s.nope, s.rope, s.dv));
  MlaDirectArgs args = layer.Direct(first, rows, products, out.data());
  args.scratch = scratch.data();
  table.mla_direct(args);
  return out;
}

std::vector<double> Widened(const std::vector<float>& values) {
  return {values.begin(), values.end()};
}

// An error of `score_error` in each score changes a weight by that share of it, twice (once through
// the sum); the sums over keys and the exponential round once each.
double WeightedSumBound(double score_error, size_t num_keys, double max_value) {
  return (2 * score_error + (static_cast<double>(num_keys) + 8) * kEpsilonF32) * max_value;
}

constexpr double kMaxLatent = 2;  // of what the layer holds; queries and weights are at most 1

double AbsorbedBound(const Shape& s, size_t num_keys) {
  const double width = static_cast<double>(s.rank + s.rope);
  const double score_error = Layer::kScale * (width + 2) * kEpsilonF32 * width * kMaxLatent;
  return WeightedSumBound(score_error, num_keys, kMaxLatent);
}

double DirectBound(const Shape& s, size_t num_keys, double epsilon) {
  const double rank = static_cast<double>(s.rank), nope = static_cast<double>(s.nope);
  const double width = static_cast<double>(s.nope + s.rope);
  const double max_key = rank * kMaxLatent * 1.5;  // FP8 weights reach 1.5
  const double key_error = (rank + 2) * epsilon * max_key;
  const double score_error =
      Layer::kScale * (nope * key_error + (width + 2) * epsilon * width * max_key);
  return WeightedSumBound(score_error, num_keys, max_key) + key_error;
}

class AttentionTest : public KernelTest {};

TEST_P(AttentionTest, AbsorbedEqualsDouble) {
  Random random(SeedOfTest());
  for (const Shape& shape : kShapes) {
    for (DType cache : kCacheTypes) {
      const Layer layer(shape, cache, DType::kF32, random);
      for (const auto& [first, rows] : {std::pair{0, 1}, {0, 70}, {63, 2}, {64, 1}, {149, 1}}) {
        const auto out = RunAbsorbed(table(), layer, first, rows);
        std::vector<float> expected(out.size());
        ref::MlaAbsorbed<double>(layer.Absorbed(first, rows, expected.data()));
        const std::vector<double> bound(out.size(), AbsorbedBound(shape, first + rows));
        EXPECT_TRUE(IsNear(out, Widened(expected), bound)) << first << "+" << rows;
      }
    }
  }
}

TEST_P(AttentionTest, DirectEqualsDouble) {
  Random random(SeedOfTest());
  for (const Shape& shape : kShapes) {
    for (DType cache : kCacheTypes) {
      for (DType weights : kWeightTypes) {
        const Layer layer(shape, cache, weights, random);
        for (const auto& [first, rows] : {std::pair{0, 1}, {0, 70}, {63, 2}, {100, 50}}) {
          const auto out = RunDirect(table(), layer, first, rows, ActivationType::kF32);
          std::vector<float> expected(out.size());
          ref::MlaDirect<double>(layer.Direct(first, rows, ActivationType::kF32, expected.data()));
          const std::vector<double> bound(out.size(),
                                          DirectBound(shape, first + rows, kEpsilonF32));
          EXPECT_TRUE(IsNear(out, Widened(expected), bound))
              << first << "+" << rows << " weights " << DTypeName(weights);
        }
      }
    }
  }
}

// Queries and weights rounded to BF16, where the table has products for it.
TEST_P(AttentionTest, AbsorbedWithBf16ProductsStaysClose) {
  Random random(SeedOfTest());
  for (const Shape& shape : kShapes) {
    const Layer layer(shape, DType::kBF16, DType::kF32, random);
    for (const auto& [first, rows] : {std::pair{0, 70}, {100, 50}}) {
      const auto out = RunAbsorbed(table(), layer, first, rows, ActivationType::kBF16);
      std::vector<float> expected(out.size());
      ref::MlaAbsorbed<double>(layer.Absorbed(first, rows, expected.data()));
      double distance = 0, norm = 0;
      for (size_t i = 0; i < out.size(); ++i) {
        distance += std::pow(static_cast<double>(out[i]) - expected[i], 2);
        norm += std::pow(static_cast<double>(expected[i]), 2);
      }
      EXPECT_LE(std::sqrt(distance / norm), 0.02) << first << "+" << rows;
      EXPECT_EQ(distance > 0 && out != RunAbsorbed(table(), layer, first, rows),
                table().bf16_products);
    }
  }
}

// With BF16 products the worst case of the bound says little; what counts is the distance as a
// whole.
TEST_P(AttentionTest, DirectWithBf16ProductsStaysClose) {
  Random random(SeedOfTest());
  for (const Shape& shape : kShapes) {
    for (DType cache : kCacheTypes) {
      const Layer layer(shape, cache, DType::kBF16, random);
      const auto out = RunDirect(table(), layer, 20, 90, ActivationType::kBF16);
      std::vector<float> expected(out.size());
      ref::MlaDirect<double>(layer.Direct(20, 90, ActivationType::kBF16, expected.data()));
      double distance = 0, norm = 0;
      for (size_t i = 0; i < out.size(); ++i) {
        distance += std::pow(static_cast<double>(out[i]) - expected[i], 2);
        norm += std::pow(static_cast<double>(expected[i]), 2);
      }
      EXPECT_LE(std::sqrt(distance / norm), 0.02);
    }
  }
}

// The same bits in chunks of 1, 7 and 64 rows, and whole, whatever the heads beside.
TEST_P(AttentionTest, RowsDoNotDependOnTheirCompany) {
  Random random(SeedOfTest());
  for (const Shape& shape : kShapes) {
    for (DType cache : kCacheTypes) {
      if (IsSlow() && cache != DType::kBF16) continue;
      const Layer layer(shape, cache, DType::kBF16, random);
      const auto compare = [&](const auto& run) {
        const std::vector<float> whole = run(0, kMaxTokens);
        const size_t width = whole.size() / kMaxTokens;
        const auto expect_same = [&](size_t first, size_t rows) {
          const std::vector<float> part(whole.begin() + first * width,
                                        whole.begin() + (first + rows) * width);
          EXPECT_TRUE(SameBits(run(first, rows), part)) << first << "+" << rows;
        };
        // Single rows around the borders of key blocks, then chunks.
        for (size_t first : {0, 1, 62, 63, 64, 65, 127, 128, 149}) expect_same(first, 1);
        for (size_t chunk : {7, 64}) {
          if (kSanitized && chunk == 7) continue;
          for (size_t first = 0; first < kMaxTokens; first += chunk) {
            expect_same(first, std::min(chunk, kMaxTokens - first));
          }
        }
      };
      for (ActivationType products : {ActivationType::kF32, ActivationType::kBF16}) {
        compare([&](size_t first, size_t rows) {
          return RunAbsorbed(table(), layer, first, rows, products);
        });
        compare([&](size_t first, size_t rows) {
          return RunDirect(table(), layer, first, rows, products);
        });
      }
      std::vector<float> by_head(kMaxTokens * shape.num_heads * shape.rank);
      for (size_t h = 0; h < shape.num_heads; ++h) {
        MlaAbsorbedArgs args = layer.Absorbed(0, kMaxTokens, by_head.data());
        const Bytes scratch(MlaScratchBytes(kMaxTokens, shape.rank, 0, shape.rope, 0));
        args.scratch = scratch.data();
        args.head_begin = h;
        args.head_end = h + 1;
        table().mla_absorbed(args);
      }
      EXPECT_TRUE(SameBits(by_head, RunAbsorbed(table(), layer, 0, kMaxTokens))) << "by head";
    }
  }
}

// softmax((W_UK c) . q) over keys, then W_UV: the direct form. The same with W_UK moved to the
// query and W_UV to the result: the absorbed form.
TEST_P(AttentionTest, FormsAgree) {
  Random random(SeedOfTest());
  for (const Shape& shape : kShapes) {
    Layer layer(shape, DType::kF32, DType::kF32, random);
    const size_t head_rows = shape.nope + shape.dv, rows = kMaxTokens;
    for (size_t m = 0; m < rows; ++m) {
      for (size_t h = 0; h < shape.num_heads; ++h) {
        const size_t head = m * shape.num_heads + h;
        const float* q = layer.q.data() + head * (shape.nope + shape.rope);
        std::copy_n(q + shape.nope, shape.rope, layer.q_rope.data() + head * shape.rope);
        table().matmul_transposed({.x = q,
                                   .x_stride = shape.nope,
                                   .num_rows = 1,
                                   .w = layer.kv_b.matrix.Rows(h * head_rows, shape.nope),
                                   .y = layer.q_latent.data() + head * shape.rank,
                                   .y_stride = shape.rank});
      }
    }
    const auto latents = RunAbsorbed(table(), layer, 0, rows);
    const Bytes scratch(MatMulScratchBytes(shape.rank));
    std::vector<float> absorbed(rows * shape.num_heads * shape.dv);
    for (size_t h = 0; h < shape.num_heads; ++h) {
      table().matmul(
          {.x = {.data = reinterpret_cast<const std::byte*>(latents.data() + h * shape.rank),
                 .rows = rows,
                 .cols = shape.rank,
                 .row_bytes = shape.num_heads * shape.rank * sizeof(float)},
           .num_rows = rows,
           .w = layer.kv_b.matrix.Rows(h * head_rows + shape.nope, shape.dv),
           .y = absorbed.data() + h * shape.dv,
           .y_stride = shape.num_heads * shape.dv,
           .scratch = scratch.data()});
    }
    const auto direct = RunDirect(table(), layer, 0, rows, ActivationType::kF32);
    const std::vector<double> bound(direct.size(), 2 * DirectBound(shape, rows, kEpsilonF32));
    EXPECT_TRUE(IsNear(absorbed, Widened(direct), bound));
  }
}

INSTANTIATE_TEST_SUITE_P(Tables, AttentionTest, ::testing::ValuesIn(RunnableTables()), TableName);

// The bounds are narrow enough to see one key too many or one too few.
TEST(AttentionBounds, CatchAKeyTooMany) {
  Random random(SeedOfTest());
  for (const Shape& shape : kShapes) {
    const Layer layer(shape, DType::kF32, DType::kF32, random);
    std::vector<float> expected(shape.num_heads * shape.rank), wrong(expected.size());
    MlaAbsorbedArgs args = layer.Absorbed(100, 1, expected.data());
    ref::MlaAbsorbed<double>(args);
    args.out = wrong.data();
    args.first_position = 101;
    ref::MlaAbsorbed<double>(args);
    const std::vector<double> bound(wrong.size(), AbsorbedBound(shape, 101));
    EXPECT_FALSE(IsNear(wrong, Widened(expected), bound));
  }
}

}  // namespace

}  // namespace baleen::kernels
