#include <algorithm>
#include <numeric>

#include "kernels/kernel_testing.h"

namespace baleen::kernels {

namespace {

// The plain product and, for each output, sum |x w|, in double.
struct Expected {
  std::vector<double> y, magnitude;
};

Expected MatMulInDouble(const Activations& x, const std::vector<int32_t>& rows, const Matrix& w) {
  Expected expected;
  for (int32_t row : rows) {
    for (size_t n = 0; n < w.rows; ++n) {
      double sum = 0, magnitude = 0;
      for (size_t k = 0; k < w.cols; ++k) {
        const double product = static_cast<double>(ref::ActivationAt(x, row, k)) *
                               static_cast<double>(ref::WeightAt(w, n, k));
        sum += product;
        magnitude += std::abs(product);
      }
      expected.y.push_back(sum);
      expected.magnitude.push_back(magnitude);
    }
  }
  return expected;
}

// K additions in any order round at most K times; one more for the product of a plain multiply-add
// and for BF16 pairs.
std::vector<double> Bound(const Expected& expected, size_t K) {
  std::vector<double> bound;
  for (double magnitude : expected.magnitude) {
    bound.push_back(static_cast<double>(K + 2) * kEpsilonF32 * magnitude);
  }
  return bound;
}

std::vector<int32_t> Iota(size_t count) {
  std::vector<int32_t> rows(count);
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}

std::vector<float> Product(const KernelTable& table, const Activations& x, const int32_t* x_rows,
                           size_t num_rows, const Matrix& w) {
  std::vector<float> y(num_rows * w.rows, std::nanf(""));
  const Bytes scratch(MatMulScratchBytes(w.cols));
  table.matmul({.x = x,
                .x_rows = x_rows,
                .num_rows = num_rows,
                .w = w,
                .y = y.data(),
                .y_stride = w.rows,
                .scratch = scratch.data()});
  return y;
}

class MatMulTest : public KernelTest {};

TEST_P(MatMulTest, EqualsDoubleOverWidthsTypesAndAlignments) {
  Random random(SeedOfTest());
  for (ActivationType type : {ActivationType::kF32, ActivationType::kBF16}) {
    for (DType dtype : kWeightAndBlockTypes) {
      for (size_t K : WidthsOf(dtype)) {
        const size_t N = 1 + random.Below(20), M = kBatches[random.Below(kBatches.size())];
        const RandomMatrix w(dtype, N, K, random, random.Below(7));
        const RandomActivations x(type, M, K, random, random.Below(3) * 4);
        const Expected expected = MatMulInDouble(x.activations, Iota(M), w.matrix);
        const auto y = Product(table(), x.activations, nullptr, M, w.matrix);
        EXPECT_TRUE(IsNear(y, expected.y, Bound(expected, K)))
            << "M " << M << " N " << N << " K " << K << " weights " << DTypeName(dtype)
            << " activations " << static_cast<int>(type);
      }
    }
  }
}

// Every cut of M and N gives each output the same bits as when it is computed alone: tiles of any
// shape, weights widened in registers or in scratch, rows gathered or in order.
TEST_P(MatMulTest, OutputsDoNotDependOnTheirCompany) {
  Random random(SeedOfTest());
  for (ActivationType type : {ActivationType::kF32, ActivationType::kBF16}) {
    if (IsSlow() && type == ActivationType::kBF16) continue;
    for (DType dtype : kWeightAndBlockTypes) {
      for (size_t K :
           IsBlockType(dtype) ? WidthsOf(dtype) : std::vector<size_t>{1, 17, 64, 131, 300}) {
        constexpr size_t kN = 14, kM = 17;  // more than any tile
        const RandomMatrix w(dtype, kN, K, random);
        const RandomActivations x(type, kM, K, random);
        std::vector<float> alone(kM * kN);
        for (int32_t m = 0; m < static_cast<int32_t>(kM); ++m) {
          for (size_t n = 0; n < kN; ++n) {
            alone[m * kN + n] = Product(table(), x.activations, &m, 1, w.matrix.Rows(n, 1))[0];
          }
        }
        for (size_t M : kBatches) {
          if (M > kM) continue;
          std::vector<int32_t> rows = Iota(M);
          std::reverse(rows.begin(), rows.end());
          const size_t cut = random.Below(kN);
          for (const auto& [begin, count] : {std::pair{size_t{0}, kN}, {cut, kN - cut}}) {
            const Matrix part = w.matrix.Rows(begin, count);
            const auto y = Product(table(), x.activations, rows.data(), M, part);
            std::vector<float> expected;
            for (int32_t row : rows) {
              expected.insert(expected.end(), alone.begin() + row * kN + begin,
                              alone.begin() + row * kN + begin + count);
            }
            EXPECT_TRUE(SameBits(y, expected))
                << "M " << M << " rows " << begin << "+" << count << " K " << K << " weights "
                << DTypeName(dtype) << " activations " << static_cast<int>(type);
          }
        }
      }
    }
  }
}

// A chain of fused multiply-adds is the contract: every table gives the same bits, whatever M, N
// and the blocks of K.
TEST_P(MatMulTest, ChainsHaveTheBitsOfTheScalarTable) {
  Random random(SeedOfTest());
  for (const size_t K : {1, 5, 191, 192, 193, 400}) {
    for (const auto& [M, N] : {std::array<size_t, 2>{1, 1}, {7, 33}, {97, 16}, {23, 130}}) {
      const RandomMatrix w(DType::kF32, N, K, random);
      const RandomActivations x(ActivationType::kF32, M, K, random);
      std::vector<int32_t> rows = Iota(M);
      std::reverse(rows.begin(), rows.end());
      for (const bool gathered : {false, true}) {
        const int32_t* x_rows = gathered ? rows.data() : nullptr;
        std::vector<float> got(M * (N + 3), 7.0f), wanted = got;
        MatMulArgs args = {.x = x.activations,
                           .x_rows = x_rows,
                           .num_rows = M,
                           .w = w.matrix,
                           .y = got.data(),
                           .y_stride = N + 3,
                           .chained = true};
        table().matmul(args);
        args.y = wanted.data();
        ref::MatMul<float>(args);
        EXPECT_TRUE(SameBits(got, wanted)) << M << " " << N << " " << K;
      }
    }
  }
}

// Blocks of activations: more than fit the block, and a row that is larger than the block.
TEST_P(MatMulTest, LargeActivationsAreCutIntoBlocks) {
  Random random(SeedOfTest());
  for (const auto& [M, K] : {std::pair<size_t, size_t>{300, 1024}, {9, 150000}}) {
    const RandomMatrix w(DType::kBF16, 7, K, random);
    const RandomActivations x(ActivationType::kF32, M, K, random);
    const Expected expected = MatMulInDouble(x.activations, Iota(M), w.matrix);
    const auto y = Product(table(), x.activations, nullptr, M, w.matrix);
    EXPECT_TRUE(IsNear(y, expected.y, Bound(expected, K)));
  }
}

TEST_P(MatMulTest, NoRowsWriteNothing) {
  Random random(SeedOfTest());
  const RandomMatrix w(DType::kF32, 3, 8, random);
  EXPECT_TRUE(Product(table(), {}, nullptr, 0, w.matrix).empty());
}

TEST_P(MatMulTest, F8CodesAreExact) {
  Random random(SeedOfTest());
  Bytes codes(256);
  for (int code = 0; code < 256; ++code) codes.data()[code] = static_cast<std::byte>(code);
  const std::vector<float> scales = {0.75f, 3.0f};
  const Matrix w = {.dtype = DType::kF8E4M3,
                    .data = codes.data(),
                    .rows = 1,
                    .cols = 256,
                    .scales = scales.data()};
  std::vector<float> row(256);
  table().decode_row(w, 0, row.data());
  for (int code = 0; code < 256; ++code) {
    const float expected = F8E4M3ToF32(static_cast<uint8_t>(code)) * scales[code / 128];
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(row[code])) << code;
    } else {
      EXPECT_EQ(row[code], expected) << code;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tables, MatMulTest, ::testing::ValuesIn(RunnableTables()), TableName);

class MatMulTransposedTest : public KernelTest {};

std::vector<float> ProductTransposed(const KernelTable& table, const float* x, size_t x_stride,
                                     size_t M, const Matrix& w) {
  std::vector<float> y(M * w.cols, std::nanf(""));
  table.matmul_transposed(
      {.x = x, .x_stride = x_stride, .num_rows = M, .w = w, .y = y.data(), .y_stride = w.cols});
  return y;
}

TEST_P(MatMulTransposedTest, EqualsDoubleAndDoesNotDependOnTheBatch) {
  Random random(SeedOfTest());
  for (DType dtype : kWeightAndBlockTypes) {
    for (size_t N : WidthsOf(dtype)) {
      const size_t K = 1 + random.Below(40), M = kBatches[random.Below(kBatches.size())];
      const RandomMatrix w(dtype, K, N, random, random.Below(7));
      const size_t stride = K + random.Below(3);
      const std::vector<float> x = RandomFloats(M * stride, random);
      std::vector<double> expected, bound;
      for (size_t m = 0; m < M; ++m) {
        for (size_t n = 0; n < N; ++n) {
          double sum = 0, magnitude = 0;
          for (size_t k = 0; k < K; ++k) {
            const double product =
                static_cast<double>(x[m * stride + k]) * ref::WeightAt(w.matrix, k, n);
            sum += product;
            magnitude += std::abs(product);
          }
          expected.push_back(sum);
          bound.push_back(static_cast<double>(K + 1) * kEpsilonF32 * magnitude);
        }
      }
      const auto y = ProductTransposed(table(), x.data(), stride, M, w.matrix);
      EXPECT_TRUE(IsNear(y, expected, bound)) << "M " << M << " N " << N << " K " << K;
      for (size_t m = 0; m < M; ++m) {
        const std::vector<float> row(y.begin() + m * N, y.begin() + (m + 1) * N);
        EXPECT_TRUE(
            SameBits(ProductTransposed(table(), x.data() + m * stride, stride, 1, w.matrix), row));
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tables, MatMulTransposedTest, ::testing::ValuesIn(RunnableTables()),
                         TableName);

// The checkers see a fault of either sign, a NaN and a wrong bit.
TEST(KernelTesting, ComparisonsCatchPlantedFaults) {
  const std::vector<double> expected = {1, -2}, bound = {0.25, 0.25};
  EXPECT_TRUE(IsNear({1.25f, -2.25f}, expected, bound));
  EXPECT_FALSE(IsNear({1.5f, -2}, expected, bound));
  EXPECT_FALSE(IsNear({1, -2.5f}, expected, bound));
  EXPECT_FALSE(IsNear({1, 2}, expected, bound));
  EXPECT_FALSE(IsNear({std::nanf(""), -2}, expected, bound));
  EXPECT_FALSE(IsNear({1}, expected, bound));
  EXPECT_TRUE(SameBits({1, 0.0f}, {1, 0.0f}));
  EXPECT_FALSE(SameBits({1, 0.0f}, {1, -0.0f}));
}

// A product that forgets its last column, as a kernel with a wrong tail would, is caught at every
// width.
TEST(KernelTesting, BoundsCatchAForgottenTail) {
  Random random(SeedOfTest());
  for (size_t K : kWidths) {
    if (K == 1) continue;
    const RandomMatrix w(DType::kF32, 5, K, random);
    const RandomActivations x(ActivationType::kF32, 3, K, random);
    const Expected expected = MatMulInDouble(x.activations, Iota(3), w.matrix);
    std::vector<float> y;
    for (size_t m = 0; m < 3; ++m) {
      for (size_t n = 0; n < 5; ++n) {
        y.push_back(
            static_cast<float>(expected.y[m * 5 + n] -
                               static_cast<double>(ref::ActivationAt(x.activations, m, K - 1)) *
                                   ref::WeightAt(w.matrix, n, K - 1)));
      }
    }
    EXPECT_FALSE(IsNear(y, expected.y, Bound(expected, K))) << K;
  }
}

}  // namespace

}  // namespace baleen::kernels
