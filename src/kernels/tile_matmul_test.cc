// Products with tiles: 4 and 8 bits, with and without zero points, against 8-bit and F32
// activations.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "kernels/kernel_testing.h"
#include "kernels/tables.h"
#include "tensor/tiles.h"

namespace baleen::kernels {

namespace {

std::string Name(const TileLayout& layout) {
  return "cols " + std::to_string(layout.cols) + " bits " + std::to_string(layout.bits) +
         " group " + std::to_string(layout.group_cols) + (layout.has_zeros ? " zeros" : "");
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
  return layouts;
}

// How codes and numbers are filled: at random, or everything at the end where sums are largest.
enum class Fill { kRandom, kExtreme };

struct RandomTiles {
  RandomTiles(const TileLayout& layout, size_t rows, Random& random, Fill fill = Fill::kRandom)
      : data(layout.SizeBytes(rows)) {
    const size_t groups = layout.num_groups();
    const uint32_t num_codes = 1u << layout.bits;
    for (size_t begin = 0; begin < rows; begin += kTileRows) {
      const size_t count = std::min(kTileRows, rows - begin);
      std::vector<uint8_t> codes(count * layout.cols);
      std::vector<uint16_t> scales(count * groups), zeros(count * groups);
      for (size_t i = 0; i < codes.size(); ++i) {
        // Extreme rows: all codes 0, all the largest, in turn.
        const size_t row = i / layout.cols;
        codes[i] = static_cast<uint8_t>(fill == Fill::kRandom ? random.Below(num_codes)
                                        : row % 2 == 0        ? num_codes - 1
                                                              : 0);
      }
      for (uint16_t& scale : scales) scale = F32ToF16(RandomValue(random));
      for (uint16_t& zero : zeros) {
        zero =
            static_cast<uint16_t>(fill == Fill::kRandom ? random.Below(num_codes + 1)
                                                        : (&zero - zeros.data()) % 2 * num_codes);
      }
      PackTile(layout,
               {.rows = count,
                .codes = codes.data(),
                .scales = scales.data(),
                .zeros = layout.has_zeros ? zeros.data() : nullptr},
               data.data() + begin / kTileRows * layout.tile_bytes());
    }
    matrix = {.data = data.data(), .rows = rows, .cols = layout.cols, .tiles = layout};
  }
  Bytes data;
  Matrix matrix;
};

struct PackedI8 {
  PackedI8(const KernelTable& table, const std::vector<float>& x, size_t rows, size_t cols,
           size_t group_cols)
      : layout{.cols = cols, .group_cols = group_cols}, data(rows * layout.bytes()) {
    for (size_t r = 0; r < rows; ++r) {
      std::byte* row = data.data() + r * layout.bytes();
      table.pack_i8(x.data() + r * cols, layout, 0, cols, row);
    }
    activations = {.type = ActivationType::kI8,
                   .data = data.data(),
                   .rows = rows,
                   .cols = cols,
                   .row_bytes = layout.bytes(),
                   .group_cols = group_cols};
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
    for (size_t group : {32, 64, 128}) {
      std::vector<float> x = RandomFloats(cols, random);
      x[random.Below(cols)] *= 1e6f;
      if (cols > 128) std::fill_n(x.begin(), 128, 1e-36f);  // 127 / max is infinite
      const PackedI8 got(table(), x, 1, cols, group), expected(kScalarTable, x, 1, cols, group);
      // The last group's words end the row; what pads it is nobody's.
      const size_t used = got.layout.sums_offset() + 4 * got.layout.num_groups();
      EXPECT_EQ(std::memcmp(got.data.data(), expected.data.data(), used), 0)
          << cols << " columns in groups of " << group;
      for (size_t c = 0; c < cols; ++c) {
        const float scale = ref::I8ScaleAt(got.activations, 0, c / group);
        EXPECT_LE(std::abs(ref::ActivationAt(got.activations, 0, c) - x[c]),
                  0.5001f * scale + 1e-30f);
        EXPECT_LE(std::abs(ref::I8NumberAt(got.activations, 0, c)), 127);
      }
    }
  }
}

TEST_P(TileMatMulTest, PartsOfARowPackAsTheWhole) {
  Random random(SeedOfTest());
  const size_t cols = 300;
  const std::vector<float> x = RandomFloats(cols, random);
  const PackedI8 whole(table(), x, 1, cols, 64);
  PackedI8 parts(table(), std::vector<float>(cols), 1, cols, 64);
  for (const auto& [begin, n] : {std::pair<size_t, size_t>{128, 128}, {0, 128}, {256, 44}}) {
    table().pack_i8(x.data() + begin, parts.layout, begin, n, parts.data.data());
  }
  const size_t used = whole.layout.sums_offset() + 4 * whole.layout.num_groups();
  EXPECT_EQ(std::memcmp(whole.data.data(), parts.data.data(), used), 0);
}

TEST_P(TileMatMulTest, NotANumberIsNotLost) {
  for (const float bad : {std::nanf(""), HUGE_VALF}) {
    std::vector<float> x(256, 1.0f);
    x[130] = bad;
    const PackedI8 packed(table(), x, 1, 256, 128);
    Random random(SeedOfTest());
    const RandomTiles w({.cols = 256, .bits = 4, .group_cols = 128}, 1, random);
    EXPECT_FALSE(std::isfinite(Product(table(), packed.activations, {0}, w.matrix)[0]));
  }
}

// The scalar table's integer product against dequantized values in double.
TEST(TileMatMulScalarTest, EqualsDouble) {
  Random random(SeedOfTest());
  for (const TileLayout& layout : Layouts()) {
    const size_t M = 3, N = 18, K = layout.cols;
    const RandomTiles w(layout, N, random);
    const PackedI8 x(kScalarTable, RandomFloats(M * K, random), M, K, layout.segment_cols());
    std::vector<double> expected, bound;
    for (size_t m = 0; m < M; ++m) {
      for (size_t n = 0; n < N; ++n) {
        double sum = 0, magnitude = 0;
        for (size_t k = 0; k < K; ++k) {
          const double product =
              static_cast<double>(ref::I8NumberAt(x.activations, m, k)) *
              static_cast<double>(ref::I8ScaleAt(x.activations, m, k / layout.segment_cols())) *
              static_cast<double>(ref::WeightAt(w.matrix, n, k));
          sum += product;
          magnitude += std::abs(product);
        }
        expected.push_back(sum);
        bound.push_back(static_cast<double>(K / 32 + 3) * kEpsilonF32 * 2 * magnitude);
      }
    }
    EXPECT_TRUE(IsNear(Product(kScalarTable, x.activations, {0, 1, 2}, w.matrix), expected, bound))
        << Name(layout);
  }
}

TEST_P(TileMatMulTest, EqualsTheScalarTableBitForBit) {
  Random random(SeedOfTest());
  for (const TileLayout& layout : Layouts()) {
    for (size_t M : {1, 2, 3, 4, 6, 7, 8, 12, 17}) {
      const size_t N = 1 + random.Below(90);
      const RandomTiles w(layout, N, random);
      const PackedI8 x(table(), RandomFloats(M * layout.cols, random), M, layout.cols,
                       layout.segment_cols());
      const auto rows = Shuffled(M, random);
      EXPECT_TRUE(SameBits(Product(table(), x.activations, rows, w.matrix),
                           Product(kScalarTable, x.activations, rows, w.matrix)))
          << Name(layout) << " M " << M << " N " << N;
    }
  }
}

// Where sums of 16 bits would saturate first: all codes and numbers at their ends, every sign.
TEST_P(TileMatMulTest, NothingSaturatesAtTheExtremes) {
  Random random(SeedOfTest());
  for (size_t bits : {4, 8}) {
    for (bool has_zeros : {false, true}) {
      for (size_t group : {32, 64, 128, 1024}) {
        const TileLayout layout = {
            .cols = 1024, .bits = bits, .group_cols = group, .has_zeros = has_zeros};
        const RandomTiles w(layout, kTileRows, random, Fill::kExtreme);
        std::vector<float> x(4 * layout.cols);
        for (size_t i = 0; i < x.size(); ++i) {
          const size_t row = i / layout.cols;
          x[i] = row == 0   ? 1.0f
                 : row == 1 ? -1.0f
                 : row == 2 ? (i % 2 ? 1.0f : -1.0f)
                            : (i % 4 < 2 ? 1.0f : -1.0f);
        }
        const PackedI8 packed(table(), x, 4, layout.cols, layout.segment_cols());
        for (size_t M : {1, 4}) {
          std::vector<int32_t> rows(M);
          std::iota(rows.begin(), rows.end(), 0);
          EXPECT_TRUE(SameBits(Product(table(), packed.activations, rows, w.matrix),
                               Product(kScalarTable, packed.activations, rows, w.matrix)))
              << Name(layout) << " M " << M;
        }
      }
    }
  }
}

// Every pair of an 8-bit code and a number, alone and beside its like: the step that AVX2's
// vpmaddubsw could spoil.
TEST_P(TileMatMulTest, EveryPairOfCodeAndNumber) {
  for (size_t bits : {4, 8}) {
    const TileLayout layout = {.cols = 32, .bits = bits, .group_cols = 32};
    const size_t num_codes = size_t{1} << bits;
    Bytes data(layout.SizeBytes(num_codes));
    for (size_t begin = 0; begin < num_codes; begin += kTileRows) {
      std::vector<uint8_t> codes(kTileRows * layout.cols);
      for (size_t i = 0; i < codes.size(); ++i) {
        codes[i] = static_cast<uint8_t>(begin + i / layout.cols);
      }
      const std::vector<uint16_t> scales(kTileRows, 0x3c00);
      PackTile(layout, {.rows = kTileRows, .codes = codes.data(), .scales = scales.data()},
               data.data() + begin / kTileRows * layout.tile_bytes());
    }
    const Matrix w = {.data = data.data(), .rows = num_codes, .cols = layout.cols, .tiles = layout};
    for (int number = -127; number <= 127; ++number) {
      // Column 0 fixes the scale to 1 in a row of its own kind: 31 columns of `number`.
      std::vector<float> x(layout.cols, static_cast<float>(number));
      x[0] = 127;
      const PackedI8 packed(table(), x, 1, layout.cols, 32);
      const auto y = Product(table(), packed.activations, {0}, w);
      for (size_t code = 0; code < num_codes; ++code) {
        const int weight = static_cast<int>(code) - (1 << (bits - 1));
        ASSERT_EQ(y[code], static_cast<float>((127 + 31 * number) * weight))
            << bits << " bits, code " << code << ", number " << number;
      }
    }
  }
}

TEST_P(TileMatMulTest, OutputsDoNotDependOnTheirCompany) {
  Random random(SeedOfTest());
  for (const TileLayout& layout : Layouts()) {
    const size_t M = 14, N = 80, K = layout.cols;
    const RandomTiles w(layout, N, random);
    const std::vector<float> floats = RandomFloats(M * K, random);
    const PackedI8 packed(table(), floats, M, K, layout.segment_cols());
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

}  // namespace

}  // namespace baleen::kernels
