#include <limits>

#include "kernels/generic/softmax_state.h"
#include "kernels/kernel_testing.h"

namespace baleen::kernels {

namespace {

class ElementwiseTest : public KernelTest {};

// SwiGLU with up = 1 shows the exponential: silu(x) (1 + e^-x) = x.
TEST_P(ElementwiseTest, SwiGluEqualsDouble) {
  Random random(SeedOfTest());
  for (size_t n : kWidths) {
    std::vector<float> gate = RandomFloats(n, random), up = RandomFloats(n, random);
    for (float& g : gate) g *= 20;
    std::vector<double> expected, bound;
    for (size_t i = 0; i < n; ++i) {
      const double g = gate[i];
      expected.push_back(g / (1 + std::exp(-g)) * up[i]);
      // Two units for the exponential, one rounding each for sum, quotient and product.
      bound.push_back(std::abs(expected.back()) * 7.5 * kEpsilonF32);
    }
    std::vector<float> out(n);
    table().swiglu(gate.data(), up.data(), n, out.data());
    EXPECT_TRUE(IsNear(out, expected, bound)) << n;
    table().swiglu(gate.data(), up.data(), n, up.data());
    EXPECT_TRUE(SameBits(out, up)) << "in place, " << n;
  }
}

TEST_P(ElementwiseTest, SwiGluAtTheEdges) {
  const std::vector<float> gate = {0, 1000, -1000, 88.8f, -88.8f, -100};
  const std::vector<float> up(gate.size(), 2.0f);
  std::vector<float> out(gate.size());
  table().swiglu(gate.data(), up.data(), gate.size(), out.data());
  const std::vector<float> expected = {0, 2000, 0, 177.6f, 0, 0};
  for (size_t i = 0; i < gate.size(); ++i) EXPECT_NEAR(out[i], expected[i], 1e-35) << gate[i];
}

TEST_P(ElementwiseTest, RmsNormEqualsDouble) {
  Random random(SeedOfTest());
  for (size_t n : kWidths) {
    for (float eps : {1e-6f, 1e-2f}) {
      std::vector<float> x = RandomFloats(n, random);
      const std::vector<float> weight = RandomFloats(n, random);
      double sum = 0;
      for (float v : x) sum += static_cast<double>(v) * v;
      const double scale = 1 / std::sqrt(sum / static_cast<double>(n) + eps);
      std::vector<double> expected, bound;
      for (size_t i = 0; i < n; ++i) {
        expected.push_back(x[i] * scale * weight[i]);
        // Half of the sum's error under the root, then some five roundings.
        bound.push_back(std::abs(expected.back()) * (static_cast<double>(n) / 2 + 5) * kEpsilonF32);
      }
      std::vector<float> y(n);
      table().rms_norm(x.data(), weight.data(), eps, n, y.data());
      EXPECT_TRUE(IsNear(y, expected, bound)) << n;
      table().rms_norm(x.data(), weight.data(), eps, n, x.data());
      EXPECT_TRUE(SameBits(x, y)) << "in place, " << n;
    }
  }
}

TEST_P(ElementwiseTest, AddScaledRoundsOnce) {
  Random random(SeedOfTest());
  for (size_t n : kWidths) {
    const std::vector<float> x = RandomFloats(n, random);
    std::vector<float> y = RandomFloats(n, random);
    std::vector<float> expected;
    for (size_t i = 0; i < n; ++i) expected.push_back(std::fma(0.37f, x[i], y[i]));
    table().add_scaled(0.37f, x.data(), n, y.data());
    // The scalar table goes the same way in float.
    EXPECT_TRUE(SameBits(y, expected)) << n;
  }
}

TEST_P(ElementwiseTest, DecodeRowIsExact) {
  Random random(SeedOfTest());
  for (DType dtype : kWeightAndBlockTypes) {
    for (size_t n : WidthsOf(dtype)) {
      const RandomMatrix w(dtype, 11, n, random, random.Below(3));
      std::vector<float> row(n), expected(n);
      table().decode_row(w.matrix, 9, row.data());
      ref::DecodeRow(w.matrix, 9, expected.data());
      EXPECT_TRUE(SameBits(row, expected)) << DTypeName(dtype) << " " << n;
    }
  }
}

TEST_P(ElementwiseTest, PackRoundsToNearestEven) {
  Random random(SeedOfTest());
  const float infinity = std::numeric_limits<float>::infinity();
  // Ties to even both ways, a carry into the exponent, subnormal numbers, the overflow to infinity.
  std::vector<float> special = {0.0f,      -0.0f,        1.00390625f, 1.01171875f, 1.99609375f,
                                0x1p-130f, -0x1.8p-140f, 3.4e38f,     infinity,    -infinity};
  for (size_t n : kWidths) {
    std::vector<float> x = RandomFloats(n, random);
    for (size_t i = 0; i < n && i < special.size(); ++i) x[(i * 7) % n] = special[i];
    for (ActivationType type : {ActivationType::kF32, ActivationType::kBF16}) {
      const size_t bytes = n * ActivationSize(type);
      const Bytes got(bytes, 2), expected(bytes);
      table().pack(x.data(), n, type, got.data());
      ref::Pack(x.data(), n, type, expected.data());
      EXPECT_EQ(std::memcmp(got.data(), expected.data(), bytes), 0) << n;
    }
  }
  const float nan = std::nanf("");
  uint16_t bits = 0;
  table().pack(&nan, 1, ActivationType::kBF16, reinterpret_cast<std::byte*>(&bits));
  EXPECT_TRUE(std::isnan(Bf16ToF32(bits)));
}

TEST_P(ElementwiseTest, RotatePairsEqualsDouble) {
  Random random(SeedOfTest());
  for (size_t pairs : kWidths) {
    std::vector<float> x = RandomFloats(2 * pairs, random), cos(pairs), sin(pairs);
    std::vector<double> expected, bound;
    for (size_t i = 0; i < pairs; ++i) {
      const double angle = random.Uniform() * 6.0;
      cos[i] = static_cast<float>(std::cos(angle));
      sin[i] = static_cast<float>(std::sin(angle));
      const double a = x[2 * i], b = x[2 * i + 1], c = cos[i], s = sin[i];
      expected.insert(expected.end(), {a * c - b * s, a * s + b * c});
      bound.push_back(2 * kEpsilonF32 * (std::abs(a * c) + std::abs(b * s)));
      bound.push_back(2 * kEpsilonF32 * (std::abs(a * s) + std::abs(b * c)));
    }
    table().rotate_pairs(x.data(), cos.data(), sin.data(), pairs);
    EXPECT_TRUE(IsNear(x, expected, bound)) << pairs;
  }
}

// Tests are compiled without sanitizers, so this asks whether what they test has them.
TEST_P(ElementwiseTest, SanitizersSeeARowThatEndsTooSoon) {
  if (kSanitizer != "address") GTEST_SKIP() << "this build has no AddressSanitizer";
  const std::vector<float> x(16);
  std::vector<float> y(32);
  EXPECT_DEATH(table().add_scaled(1, x.data(), 32, y.data()), "heap-buffer-overflow");
}

INSTANTIATE_TEST_SUITE_P(Tables, ElementwiseTest, ::testing::ValuesIn(RunnableTables()), TableName);

// One lane of the primitives, so that what is written for vectors can be judged without any.
struct OneLane {
  using F32 = float;
  static constexpr size_t kLanes = 1;
  static F32 Zero() { return 0; }
  static F32 Set(float v) { return v; }
  static F32 LoadF32(const void* p) { return *static_cast<const float*>(p); }
  static F32 LoadF32(const void* p, size_t n) { return n == 0 ? 0 : LoadF32(p); }
  static void Store(float* p, F32 v) { *p = v; }
  static void Store(float* p, F32 v, size_t n) {
    if (n != 0) *p = v;
  }
  static F32 Add(F32 a, F32 b) { return a + b; }
  static F32 Sub(F32 a, F32 b) { return a - b; }
  static F32 Mul(F32 a, F32 b) { return a * b; }
  static F32 Max(F32 a, F32 b) { return std::max(a, b); }
  static F32 Fma(F32 a, F32 b, F32 c) { return std::fma(a, b, c); }
  static F32 Round(F32 a) { return std::nearbyint(a); }
  static F32 MulPow2(F32 a, F32 n) {
    return std::isfinite(n) ? std::ldexp(a, static_cast<int>(n)) : a;
  }
  static F32 SelectLess(F32 a, F32 b, F32 yes, F32 no) { return a < b ? yes : no; }
  static float ReduceAdd(F32 v) { return v; }
  static float ReduceMax(F32 v) { return v; }
};

// Every 61st float, and the edges.
TEST(Exp, StaysWithinTwoUnitsOfTheTrueValue) {
  double worst = 0;
  const auto check = [&](float x) {
    const float got = generic::Exp<OneLane>(x);
    const double expected = std::exp(static_cast<double>(x));
    if (expected < std::numeric_limits<float>::min()) {
      EXPECT_LE(got, std::numeric_limits<float>::min()) << x;
    } else if (expected < std::numeric_limits<float>::max()) {
      const float unit =
          std::nextafter(static_cast<float>(expected), std::numeric_limits<float>::infinity()) -
          static_cast<float>(expected);
      worst = std::max(worst, std::abs(got - expected) / unit);
    } else {
      EXPECT_EQ(got, std::numeric_limits<float>::infinity()) << x;
    }
  };
  for (uint64_t bits = 0; bits < 0x43000000u; bits += 61) {
    check(std::bit_cast<float>(static_cast<uint32_t>(bits)));
    check(-std::bit_cast<float>(static_cast<uint32_t>(bits)));
  }
  EXPECT_LE(worst, 2.0);
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(generic::Exp<OneLane>(-infinity), 0);
  EXPECT_EQ(generic::Exp<OneLane>(-1e30f), 0);
  EXPECT_EQ(generic::Exp<OneLane>(infinity), infinity);
  EXPECT_EQ(generic::Exp<OneLane>(0), 1);
  EXPECT_TRUE(std::isnan(generic::Exp<OneLane>(std::nanf(""))));
}

using State = generic::SoftmaxState<OneLane>;

// The state of keys with these scores and vectors of two numbers.
struct Part {
  State state;
  std::vector<float> acc = {0, 0};
};

Part PartOf(const std::vector<float>& scores, const std::vector<float>& values) {
  Part part;
  for (float score : scores) part.state.max = std::max(part.state.max, score);
  for (size_t t = 0; t < scores.size(); ++t) {
    const float weight = std::exp(scores[t] - part.state.max);
    part.state.sum += weight;
    for (size_t i = 0; i < 2; ++i) part.acc[i] += weight * values[2 * t + i];
  }
  return part;
}

TEST(SoftmaxState, MergeEqualsTheWholeAtEveryCutAndInBothOrders) {
  Random random(SeedOfTest());
  std::vector<float> scores = RandomFloats(9, random);
  for (float& score : scores) score *= 30;
  const std::vector<float> values = RandomFloats(18, random);
  const Part whole = PartOf(scores, values);
  for (size_t cut = 0; cut <= 9; ++cut) {
    const Part left =
        PartOf({scores.begin(), scores.begin() + cut}, {values.begin(), values.begin() + 2 * cut});
    const Part right =
        PartOf({scores.begin() + cut, scores.end()}, {values.begin() + 2 * cut, values.end()});
    for (const auto& [first, second] : {std::pair{left, right}, {right, left}}) {
      Part merged = first;
      generic::Merge<OneLane>(second.state, second.acc.data(), 2, merged.state, merged.acc.data());
      EXPECT_EQ(merged.state.max, whole.state.max);
      for (size_t i = 0; i < 2; ++i) {
        EXPECT_NEAR(merged.acc[i] / merged.state.sum, whole.acc[i] / whole.state.sum, 1e-5);
      }
    }
  }
}

TEST(SoftmaxState, TheEmptyStateChangesNothing) {
  const Part part = PartOf({3, 4}, {1, 2, 3, 4});
  Part merged = part;
  generic::Merge<OneLane>(State(), nullptr, 2, merged.state, merged.acc.data());
  EXPECT_TRUE(SameBits(merged.acc, part.acc));
  EXPECT_EQ(merged.state.sum, part.state.sum);
  Part empty;
  empty.acc = {std::nanf(""), std::nanf("")};
  generic::Merge<OneLane>(part.state, part.acc.data(), 2, empty.state, empty.acc.data());
  EXPECT_TRUE(SameBits(empty.acc, part.acc));
  EXPECT_EQ(empty.state.max, 4);
}

}  // namespace

}  // namespace baleen::kernels
