// Products with tiles: every form of codes, zero points, minima and factors, against 8-bit and F32
// activations.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "kernels/kernel_testing.h"
#include "kernels/tables.h"
#include "tensor/block_tiles.h"
#include "tensor/tiles.h"

namespace baleen::kernels {

namespace {

std::string Name(const TileLayout& layout) {
  return "cols " + std::to_string(layout.cols) + " bits " + std::to_string(layout.bits) +
         " group " + std::to_string(layout.group_cols) + (layout.has_zeros ? " zeros" : "") +
         (layout.has_mins ? " mins" : "") + (layout.has_table ? " table" : "") +
         (layout.super_cols ? " factors" : "");
}

// The forms of layouts that block types of GGUF files need besides Q4_0's and Q8_0's, for `cols`
// columns, a multiple of 256.
std::vector<TileLayout> FormsOfBlockTypes(size_t cols) {
  std::vector<TileLayout> layouts;
  for (DType type : {DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kIQ4_NL, DType::kQ2_K,
                     DType::kQ3_K, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K, DType::kIQ4_XS}) {
    layouts.push_back(TileLayoutOf(type, cols));
    EXPECT_TRUE(layouts.back().IsValid()) << DTypeName(type);
  }
  return layouts;
}

// Widths around blocks, chunks of 32 columns and segments, for each kind of group.
std::vector<TileLayout> Layouts() {
  std::vector<TileLayout> layouts;
  for (size_t bits : {4, 8}) {
    for (bool has_zeros : {false, true}) {
      for (const auto& [cols, group] : std::vector<std::pair<size_t, size_t>>{{32, 32},
                                                                              {96, 32},
                                                                              {192, 64},
                                                                              {128, 128},
                                                                              {384, 128},
                                                                              {512, 256},
                                                                              {300, 300},
                                                                              {130, 128},
                                                                              {5, 5}}) {
        layouts.push_back(
            {.cols = cols, .bits = bits, .group_cols = group, .has_zeros = has_zeros});
      }
    }
  }
  for (size_t cols : {256, 768}) {
    for (const TileLayout& layout : FormsOfBlockTypes(cols)) layouts.push_back(layout);
  }
  // Groups of 32 that are no multiple of 128.
  for (DType type : {DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kIQ4_NL}) {
    layouts.push_back(TileLayoutOf(type, 32));
    layouts.push_back(TileLayoutOf(type, 224));
  }
  return layouts;
}

// How codes and numbers are filled: at random, or everything at the end where sums are largest.
enum class Fill { kRandom, kExtreme };

struct RandomTiles {
  RandomTiles(const TileLayout& layout, size_t rows, Random& random, Fill fill = Fill::kRandom)
      : data(layout.SizeBytes(rows)) {
    const auto low = [&](size_t lowest, size_t highest, size_t i) {
      return fill == Fill::kRandom
                 ? lowest + random.Below(static_cast<uint32_t>(highest - lowest + 1))
                 : (i % 2 == 0 ? highest : lowest);
    };
    const size_t most = (size_t{1} << layout.bits) - 1;
    TileRowBuffers parts;
    for (size_t begin = 0; begin < rows; begin += kTileRows) {
      const size_t count = std::min(kTileRows, rows - begin);
      parts.Resize(layout, count);
      // Extreme rows: all codes the largest, all 0, in turn; so are factors, but they differ in
      // rows 2 and 3.
      for (size_t i = 0; i < parts.codes.size(); ++i) {
        parts.codes[i] = static_cast<uint8_t>(low(0, most, i / layout.cols));
      }
      for (uint16_t& scale : parts.scales) scale = F32ToF16(RandomValue(random));
      for (uint16_t& min : parts.mins) min = F32ToF16(RandomValue(random));
      for (size_t i = 0; i < parts.zeros.size(); ++i) {
        parts.zeros[i] = static_cast<uint16_t>(low(0, most + 1, i + 1));
      }
      for (size_t i = 0; i < parts.factors.size(); ++i) {
        const size_t half = layout.has_table ? 32 : 128;
        parts.factors[i] = static_cast<int8_t>(
            static_cast<int>(low(0, 2 * half - 1, i / layout.num_groups() / 2)) -
            static_cast<int>(half));
      }
      for (size_t i = 0; i < parts.min_factors.size(); ++i) {
        parts.min_factors[i] =
            static_cast<int8_t>(static_cast<int>(low(0, 255, i / layout.num_groups() / 2)) - 128);
      }
      PackTile(layout, parts.View(count), data.data() + begin / kTileRows * layout.tile_bytes());
    }
    matrix = {.data = data.data(), .rows = rows, .cols = layout.cols, .tiles = layout};
  }
  Bytes data;
  Matrix matrix;
};

struct PackedI8 {
  PackedI8(const KernelTable& table, const std::vector<float>& x, size_t rows, const I8Row& as)
      : layout(as), data(rows * layout.bytes()) {
    for (size_t r = 0; r < rows; ++r) {
      std::byte* row = data.data() + r * layout.bytes();
      table.pack_i8(x.data() + r * layout.cols, layout, 0, layout.cols, row);
    }
    activations = {.type = ActivationType::kI8,
                   .data = data.data(),
                   .rows = rows,
                   .cols = layout.cols,
                   .row_bytes = layout.bytes(),
                   .group_cols = layout.group_cols,
                   .part_cols = layout.part_cols};
  }
  PackedI8(const KernelTable& table, const std::vector<float>& x, size_t rows,
           const TileLayout& tiles)
      : PackedI8(table, x, rows, RowFor(tiles)) {}
  static I8Row RowFor(const TileLayout& tiles) {
    return {.cols = tiles.cols, .group_cols = tiles.segment_cols(), .part_cols = tiles.part_cols()};
  }
  I8Row layout;
  Bytes data;
  Activations activations;
};

std::vector<float> Product(const KernelTable& table, const Activations& x,
                           const std::vector<int32_t>& rows, const Matrix& w) {
  std::vector<float> y(rows.size() * w.rows, std::nanf(""));
  const Bytes scratch(MatMulScratchBytes(w.cols));
  table.matmul({.x = x,
                .x_rows = rows.data(),
                .num_rows = rows.size(),
                .w = w,
                .y = y.data(),
                .y_stride = w.rows,
                .scratch = scratch.data()});
  return y;
}

std::vector<int32_t> Shuffled(size_t count, Random& random) {
  std::vector<int32_t> rows(count);
  std::iota(rows.begin(), rows.end(), 0);
  for (size_t i = count; i > 1; --i) std::swap(rows[i - 1], rows[random.Below(i)]);
  return rows;
}

class TileMatMulTest : public KernelTest {};

TEST_P(TileMatMulTest, PackedActivationsAreTheBitsOfTheScalarTable) {
  Random random(SeedOfTest());
  for (size_t cols : {1, 31, 32, 100, 128, 300, 1408}) {
    for (const auto& [group, part] :
         {std::pair<size_t, size_t>{32, 0}, {64, 0}, {128, 0}, {128, 16}, {128, 32}}) {
      std::vector<float> x = RandomFloats(cols, random);
      x[random.Below(cols)] *= 1e6f;
      if (cols > 128) std::fill_n(x.begin(), 128, 1e-36f);  // 127 / max is infinite
      const I8Row row = {.cols = cols, .group_cols = group, .part_cols = part};
      const PackedI8 got(table(), x, 1, row), expected(kScalarTable, x, 1, row);
      // The last group's words end the row; what pads it is nobody's.
      const size_t used = row.sums_offset() + 4 * row.num_sums();
      EXPECT_EQ(std::memcmp(got.data.data(), expected.data.data(), used), 0)
          << cols << " columns in groups of " << group << ", parts of " << part;
      for (size_t c = 0; c < cols; ++c) {
        const float scale = ref::I8ScaleAt(got.activations, 0, c / group);
        EXPECT_LE(std::abs(ref::ActivationAt(got.activations, 0, c) - x[c]),
                  0.5001f * scale + 1e-30f);
        EXPECT_LE(std::abs(ref::I8NumberAt(got.activations, 0, c)), 127);
      }
      for (size_t p = 0; part > 0 && p < row.num_sums(); ++p) {
        int sums[2] = {};
        for (size_t c = p * part; c < std::min(cols, (p + 1) * part); ++c) {
          sums[c % 4 < 2 ? 0 : 1] += ref::I8NumberAt(got.activations, 0, c);
        }
        for (size_t i : {0, 1}) {
          EXPECT_EQ(ref::Load<int16_t>(got.data.data() + row.sums_offset(), 2 * p + i),
                    -8 * sums[i]);
        }
      }
    }
  }
}

TEST_P(TileMatMulTest, PartsOfARowPackAsTheWhole) {
  Random random(SeedOfTest());
  const size_t cols = 300;
  const std::vector<float> x = RandomFloats(cols, random);
  for (const I8Row& row : {I8Row{.cols = cols, .group_cols = 64},
                           I8Row{.cols = cols, .group_cols = 128, .part_cols = 16}}) {
    const PackedI8 whole(table(), x, 1, row);
    PackedI8 parts(table(), std::vector<float>(cols), 1, row);
    for (const auto& [begin, n] : {std::pair<size_t, size_t>{128, 128}, {0, 128}, {256, 44}}) {
      table().pack_i8(x.data() + begin, row, begin, n, parts.data.data());
    }
    const size_t used = row.sums_offset() + 4 * row.num_sums();
    EXPECT_EQ(std::memcmp(whole.data.data(), parts.data.data(), used), 0);
  }
}

TEST_P(TileMatMulTest, NotANumberIsNotLost) {
  for (const float bad : {std::nanf(""), HUGE_VALF}) {
    std::vector<float> x(256, 1.0f);
    x[130] = bad;
    Random random(SeedOfTest());
    std::vector<TileLayout> layouts = FormsOfBlockTypes(256);
    layouts.push_back({.cols = 256, .bits = 4, .group_cols = 128});
    for (const TileLayout& layout : layouts) {
      const PackedI8 packed(table(), x, 1, layout);
      const RandomTiles w(layout, 1, random);
      EXPECT_FALSE(std::isfinite(Product(table(), packed.activations, {0}, w.matrix)[0]))
          << Name(layout);
    }
  }
}

// The scalar table's integer product against dequantized values in double.
TEST(TileMatMulScalarTest, EqualsDouble) {
  Random random(SeedOfTest());
  for (const TileLayout& layout : Layouts()) {
    const size_t M = 3, N = 18, K = layout.cols;
    const RandomTiles w(layout, N, random);
    const PackedI8 x(kScalarTable, RandomFloats(M * K, random), M, layout);
    std::vector<double> expected, bound;
    for (size_t m = 0; m < M; ++m) {
      for (size_t n = 0; n < N; ++n) {
        double sum = 0, magnitude = 0;
        for (size_t k = 0; k < K; ++k) {
          const double x_value =
              static_cast<double>(ref::I8NumberAt(x.activations, m, k)) *
              static_cast<double>(ref::I8ScaleAt(x.activations, m, k / layout.segment_cols()));
          const TileElement e = TileElementAt(layout, w.matrix.tile(n / 16 * 16), n % 16, k);
          sum += x_value * static_cast<double>(ref::WeightAt(w.matrix, n, k));
          magnitude += std::abs(x_value) * (std::abs(static_cast<double>(e.number) * e.scale) +
                                            std::abs(static_cast<double>(e.min_number) * e.min));
        }
        expected.push_back(sum);
        bound.push_back(static_cast<double>(K / 32 + 3) * kEpsilonF32 * 2 * magnitude);
      }
    }
    EXPECT_TRUE(IsNear(Product(kScalarTable, x.activations, {0, 1, 2}, w.matrix), expected, bound))
        << Name(layout);
  }
}

class TileMatMulJudgedTest : public KernelTest {};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(TileMatMulJudgedTest);  // nothing but scalar here

TEST_P(TileMatMulJudgedTest, EqualsTheScalarTableBitForBit) {
  Random random(SeedOfTest());
  for (const TileLayout& layout : Layouts()) {
    for (size_t M : {1, 2, 3, 4, 6, 7, 8, 12, 17}) {
      const size_t N = 1 + random.Below(90);
      const RandomTiles w(layout, N, random);
      const PackedI8 x(table(), RandomFloats(M * layout.cols, random), M, layout);
      const auto rows = Shuffled(M, random);
      EXPECT_TRUE(SameBits(Product(table(), x.activations, rows, w.matrix),
                           Product(kScalarTable, x.activations, rows, w.matrix)))
          << Name(layout) << " M " << M << " N " << N;
    }
  }
}

// Where sums of 16 bits would saturate first: all codes and numbers at their ends, every sign.
TEST_P(TileMatMulJudgedTest, NothingSaturatesAtTheExtremes) {
  Random random(SeedOfTest());
  std::vector<TileLayout> layouts = FormsOfBlockTypes(1024);
  for (size_t bits : {4, 8}) {
    for (bool has_zeros : {false, true}) {
      for (size_t group : {32, 64, 128, 1024}) {
        layouts.push_back(
            {.cols = 1024, .bits = bits, .group_cols = group, .has_zeros = has_zeros});
      }
    }
  }
  for (const TileLayout& layout : layouts) {
    const RandomTiles w(layout, kTileRows, random, Fill::kExtreme);
    // All signs of the columns of a step, and of the steps.
    std::vector<float> x(32 * layout.cols);
    for (size_t i = 0; i < x.size(); ++i) {
      const size_t row = i / layout.cols;
      const bool minus = (row >> (i % 4)) & 1, turns = row >= 16 && i / 4 % 2 == 1;
      x[i] = minus != turns ? -1.0f : 1.0f;
    }
    const PackedI8 packed(table(), x, 32, layout);
    for (size_t M : {1, 32}) {
      std::vector<int32_t> rows(M);
      std::iota(rows.begin(), rows.end(), 0);
      EXPECT_TRUE(SameBits(Product(table(), packed.activations, rows, w.matrix),
                           Product(kScalarTable, packed.activations, rows, w.matrix)))
          << Name(layout) << " M " << M;
    }
  }
}

// Every pair of a code and a number, alone and beside its like: the step that AVX2's vpmaddubsw
// could spoil. Scales, factors and what else there is are 1.
TEST_P(TileMatMulTest, EveryPairOfCodeAndNumber) {
  std::vector<TileLayout> layouts = FormsOfBlockTypes(256);
  for (size_t bits : {4, 8}) layouts.push_back({.cols = 256, .bits = bits, .group_cols = 32});
  for (const TileLayout& layout : layouts) {
    const size_t num_codes = size_t{1} << layout.bits;
    Bytes data(layout.SizeBytes(num_codes));
    TileRowBuffers parts;
    for (size_t begin = 0; begin < num_codes; begin += kTileRows) {
      const size_t count = std::min(num_codes, kTileRows);
      parts.Resize(layout, count);
      for (size_t i = 0; i < parts.codes.size(); ++i) {
        parts.codes[i] = static_cast<uint8_t>(begin + i / layout.cols);
      }
      for (auto* part : {&parts.scales, &parts.mins}) std::fill(part->begin(), part->end(), 0x3c00);
      for (auto* part : {&parts.factors, &parts.min_factors}) {
        std::fill(part->begin(), part->end(), int8_t{1});
      }
      PackTile(layout, parts.View(count), data.data() + begin / kTileRows * layout.tile_bytes());
    }
    const Matrix w = {.data = data.data(), .rows = num_codes, .cols = layout.cols, .tiles = layout};
    for (int number = -127; number <= 127; ++number) {
      // The first column of each group of 32 fixes its scale to 1; 31 columns of `number`.
      std::vector<float> x(layout.cols, static_cast<float>(number));
      for (size_t c = 0; c < layout.cols; c += 32) x[c] = 127;
      const PackedI8 packed(table(), x, 1, layout);
      const auto y = Product(table(), packed.activations, {0}, w);
      for (size_t code = 0; code < num_codes; ++code) {
        const int c = static_cast<int>(code);
        const int weight = layout.has_table  ? kNonLinear[code]
                           : layout.has_mins ? c - 1
                                             : c - (1 << (layout.bits - 1));
        ASSERT_EQ(y[code], static_cast<float>(8 * (127 + 31 * number) * weight))
            << Name(layout) << ", code " << code << ", number " << number;
      }
    }
  }
}

TEST_P(TileMatMulTest, OutputsDoNotDependOnTheirCompany) {
  Random random(SeedOfTest());
  for (const TileLayout& layout : Layouts()) {
    if (IsSlow() && layout.cols > 512) continue;
    const size_t M = 14, N = 80, K = layout.cols;
    const RandomTiles w(layout, N, random);
    const std::vector<float> floats = RandomFloats(M * K, random);
    const PackedI8 packed(table(), floats, M, layout);
    const Activations plain = {.data = reinterpret_cast<const std::byte*>(floats.data()),
                               .rows = M,
                               .cols = K,
                               .row_bytes = K * sizeof(float)};
    for (const Activations& x : {packed.activations, plain}) {
      const auto rows = Shuffled(M, random);
      const auto together = Product(table(), x, rows, w.matrix);
      for (size_t m = 0; m < M; ++m) {
        for (size_t n : {size_t{0}, size_t{16}, size_t{64}}) {
          const auto alone = Product(table(), x, {rows[m]}, w.matrix.Rows(n, kTileRows));
          EXPECT_TRUE(SameBits(
              alone, {together.begin() + m * N + n, together.begin() + m * N + n + kTileRows}))
              << Name(layout) << " m " << m << " n " << n;
        }
      }
    }
  }
}

TEST_P(TileMatMulTest, FloatsMeetTheExactValues) {
  Random random(SeedOfTest());
  for (const TileLayout& layout : Layouts()) {
    for (size_t M : {1, 2, 5, 9}) {
      const size_t N = 1 + random.Below(60), K = layout.cols;
      const RandomTiles w(layout, N, random);
      const RandomActivations x(ActivationType::kF32, M, K, random);
      const auto rows = Shuffled(M, random);
      std::vector<double> expected, bound;
      for (int32_t row : rows) {
        for (size_t n = 0; n < N; ++n) {
          double sum = 0, magnitude = 0;
          for (size_t k = 0; k < K; ++k) {
            const double product = static_cast<double>(ref::ActivationAt(x.activations, row, k)) *
                                   static_cast<double>(ref::WeightAt(w.matrix, n, k));
            sum += product;
            magnitude += std::abs(product);
          }
          expected.push_back(sum);
          bound.push_back(static_cast<double>(K + 2) * kEpsilonF32 * magnitude);
        }
      }
      EXPECT_TRUE(IsNear(Product(table(), x.activations, rows, w.matrix), expected, bound))
          << Name(layout) << " M " << M << " N " << N;
    }
  }
}

TEST_P(TileMatMulTest, TransposedMeetsTheExactValuesWhateverTheBatch) {
  Random random(SeedOfTest());
  for (const TileLayout& layout : Layouts()) {
    const size_t N = layout.cols, K = 48, kMost = 7;
    const RandomTiles w(layout, K + 16, random);
    const Matrix part = w.matrix.Rows(16, K);
    const std::vector<float> x = RandomFloats(kMost * K, random);
    std::vector<float> all;
    for (size_t M : {kMost, size_t{1}, size_t{2}, size_t{3}}) {
      std::vector<float> y(M * N, std::nanf(""));
      table().matmul_transposed(
          {.x = x.data(), .x_stride = K, .num_rows = M, .w = part, .y = y.data(), .y_stride = N});
      std::vector<double> expected, bound;
      for (size_t m = 0; m < M; ++m) {
        for (size_t n = 0; n < N; ++n) {
          double sum = 0, magnitude = 0;
          for (size_t k = 0; k < K; ++k) {
            const double product =
                static_cast<double>(x[m * K + k]) * static_cast<double>(ref::WeightAt(part, k, n));
            sum += product;
            magnitude += std::abs(product);
          }
          expected.push_back(sum);
          bound.push_back(static_cast<double>(K + 2) * kEpsilonF32 * magnitude);
        }
      }
      EXPECT_TRUE(IsNear(y, expected, bound)) << Name(layout) << " M " << M;
      if (M == kMost) all = y;
      EXPECT_TRUE(SameBits(y, {all.begin(), all.begin() + M * N})) << Name(layout) << " M " << M;
    }
  }
}

TEST_P(TileMatMulTest, RowsDecodeExactly) {
  Random random(SeedOfTest());
  for (const TileLayout& layout : Layouts()) {
    const RandomTiles w(layout, 20, random);
    for (size_t r : {0, 15, 16, 19}) {
      std::vector<float> got(layout.cols), expected(layout.cols);
      table().decode_row(w.matrix, r, got.data());
      for (size_t c = 0; c < layout.cols; ++c) expected[c] = ref::WeightAt(w.matrix, r, c);
      EXPECT_TRUE(SameBits(got, expected)) << Name(layout);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tables, TileMatMulTest, ::testing::ValuesIn(RunnableTables()), TableName);
INSTANTIATE_TEST_SUITE_P(Tables, TileMatMulJudgedTest, ::testing::ValuesIn(VectorTables()),
                         TableName);

}  // namespace

}  // namespace baleen::kernels
