// The way back of each operation: the reference in double against central differences of the way
// there, and every table against the reference.
#include "kernels/ref/backward.h"

#include <functional>
#include <numeric>

#include "kernels/kernel_testing.h"

namespace baleen::kernels {
namespace {

constexpr double kMaxDifference = 1e-7;  // of a gradient and its central difference, relative

using Doubles = std::vector<double>;

Doubles RandomDoubles(size_t count, Random& random) {
  Doubles values(count);
  for (double& value : values) value = random.UniformDouble() * 2 - 1;
  return values;
}

double Dot(const Doubles& a, const Doubles& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

// |a - b| / |b| in the Euclidean norm; where b is almost zero (one token attends to itself whatever
// its query), what is left of rounding is compared with 0.1.
template <typename A, typename B>
double NormError(const std::vector<A>& a, const std::vector<B>& b) {
  double difference = 0, norm = 1e-2;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += static_cast<double>(b[i]) * b[i];
  }
  return std::sqrt(difference / norm);
}

// The derivative of `loss` by each element of `x`, by differences of fourth order.
Doubles Differences(Doubles& x, const std::function<double()>& loss) {
  constexpr double kStep = 1e-3;
  Doubles gradient(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const double value = x[i];
    const auto at = [&](double offset) {
      x[i] = value + offset * kStep;
      return loss();
    };
    gradient[i] = (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * kStep);
    x[i] = value;
  }
  return gradient;
}

std::vector<float> Floats(const Doubles& values) { return {values.begin(), values.end()}; }
Doubles Widen(const std::vector<float>& values) { return {values.begin(), values.end()}; }

struct RmsNormCase {
  explicit RmsNormCase(size_t n, Random& random)
      : x(RandomDoubles(n, random)),
        weight(RandomDoubles(n, random)),
        g(RandomDoubles(n, random)) {}
  double Loss() const {
    Doubles y(x.size());
    ref::RmsNorm<double>(x.data(), weight.data(), 1e-3, x.size(), y.data());
    return Dot(y, g);
  }
  Doubles x, weight, g;
};

TEST(BackwardTest, RmsNorm) {
  Random random(SeedOfTest());
  RmsNormCase c(13, random);
  Doubles grad_x(13, 0.0), grad_weight(13, 0.0);
  ref::RmsNormBackward(c.x.data(), c.weight.data(), 1e-3, 13, c.g.data(), grad_x.data(),
                       grad_weight.data());
  EXPECT_LE(NormError(grad_x, Differences(c.x, [&] { return c.Loss(); })), kMaxDifference);
  EXPECT_LE(NormError(grad_weight, Differences(c.weight, [&] { return c.Loss(); })),
            kMaxDifference);
}

// The check itself sees a gradient that is wrong in one element, by a thousandth.
TEST(BackwardTest, SeesAWrongGradient) {
  Random random(SeedOfTest());
  RmsNormCase c(13, random);
  Doubles grad_x(13, 0.0), grad_weight(13, 0.0);
  ref::RmsNormBackward(c.x.data(), c.weight.data(), 1e-3, 13, c.g.data(), grad_x.data(),
                       grad_weight.data());
  grad_x[5] *= 1.001;
  EXPECT_GT(NormError(grad_x, Differences(c.x, [&] { return c.Loss(); })), kMaxDifference);
}

TEST(BackwardTest, SwiGlu) {
  Random random(SeedOfTest());
  const size_t n = 9;
  Doubles gate = RandomDoubles(n, random), up = RandomDoubles(n, random);
  const Doubles g = RandomDoubles(n, random);
  for (double& value : gate) value *= 4;
  const auto loss = [&] {
    Doubles y(n);
    ref::SwiGlu<double>(gate.data(), up.data(), n, y.data());
    return Dot(y, g);
  };
  Doubles grad_gate(n), grad_up(n);
  ref::SwiGluBackward(gate.data(), up.data(), g.data(), n, grad_gate.data(), grad_up.data());
  EXPECT_LE(NormError(grad_gate, Differences(gate, loss)), kMaxDifference);
  EXPECT_LE(NormError(grad_up, Differences(up, loss)), kMaxDifference);
}

// The way back of a rotation is the rotation by the opposite angle, a magnitude included.
TEST(BackwardTest, RotatePairs) {
  Random random(SeedOfTest());
  Doubles x = RandomDoubles(8, random);
  const Doubles g = RandomDoubles(8, random);
  Doubles cosines, sines, back;
  for (const double angle : {0.3, 1.7, -2.0, 4.0}) {
    cosines.push_back(1.3 * std::cos(angle));
    sines.push_back(1.3 * std::sin(angle));
    back.push_back(-sines.back());
  }
  const auto loss = [&] {
    Doubles y = x;
    ref::RotatePairs<double>(y.data(), cosines.data(), sines.data(), 4);
    return Dot(y, g);
  };
  Doubles grad_x = g;
  ref::RotatePairs<double>(grad_x.data(), cosines.data(), back.data(), 4);
  EXPECT_LE(NormError(grad_x, Differences(x, loss)), kMaxDifference);
}

TEST(BackwardTest, CrossEntropy) {
  Random random(SeedOfTest());
  Doubles logits = RandomDoubles(11, random);
  for (double& value : logits) value *= 5;
  const auto loss = [&] {
    Doubles copy = logits;
    return 0.25 * ref::CrossEntropy(copy.data(), copy.size(), 4, 1.0);
  };
  Doubles grad = logits;
  ref::CrossEntropy(grad.data(), grad.size(), 4, 0.25);
  EXPECT_LE(NormError(grad, Differences(logits, loss)), kMaxDifference);
  EXPECT_NEAR(std::accumulate(grad.begin(), grad.end(), 0.0), 0, 1e-15);
}

// Operands of an attention of `rows` tokens and 3 heads, and its results.
template <typename V>
struct MlaCase {
  static constexpr size_t kHeads = 3;
  MlaCase(size_t rows, size_t nope, size_t rope, size_t dv, Random& random)
      : q(Cast(RandomDoubles(rows * kHeads * (nope + rope), random))),
        kv(Cast(RandomDoubles(rows * kHeads * (nope + dv), random))),
        k_rope(Cast(RandomDoubles(rows * (rope + 1), random))),
        g(Cast(RandomDoubles(rows * kHeads * dv, random))),
        out(g.size()),
        states(rows * kHeads * 2),
        grad_q(q.size()),
        grad_kv(kv.size()),
        grad_k_rope(kHeads * rows * rope) {
    args = {.num_rows = rows,
            .num_heads = kHeads,
            .head_begin = 0,
            .head_end = kHeads,
            .qk_nope_head_dim = nope,
            .qk_rope_head_dim = rope,
            .v_head_dim = dv,
            .scale = V(0.7)};
    Point();
  }
  void Point() {
    args.q = q.data();
    args.kv = kv.data();
    args.k_rope = k_rope.data();
    args.k_rope_stride = args.qk_rope_head_dim + 1;
    args.out = out.data();
    args.states = states.data();
    args.grad_out = g.data();
    args.grad_q = grad_q.data();
    args.grad_kv = grad_kv.data();
    args.grad_k_rope = grad_k_rope.data();
  }
  static std::vector<V> Cast(const Doubles& values) { return {values.begin(), values.end()}; }
  double Loss() {
    ref::MlaForward(args, out.data(), states.data());
    return std::inner_product(out.begin(), out.end(), g.begin(), 0.0);
  }
  // The gradient of k_rope: the heads' shares added up, a zero where the stride leaves a gap.
  Doubles GradKRope() const {
    const size_t rope = args.qk_rope_head_dim;
    Doubles sum(k_rope.size(), 0.0);
    for (size_t i = 0; i < grad_k_rope.size(); ++i) {
      sum[i / rope % args.num_rows * (rope + 1) + i % rope] += grad_k_rope[i];
    }
    return sum;
  }
  std::vector<V> q, kv, k_rope, g, out, states, grad_q, grad_kv, grad_k_rope;
  MlaBackwardArgsOf<V> args;
};

TEST(BackwardTest, Mla) {
  Random random(SeedOfTest());
  MlaCase<double> c(6, 4, 2, 3, random);
  const auto loss = [&] { return c.Loss(); };
  c.Loss();
  ref::MlaBackward(c.args);
  EXPECT_LE(NormError(c.grad_q, Differences(c.q, loss)), kMaxDifference);
  EXPECT_LE(NormError(c.grad_kv, Differences(c.kv, loss)), kMaxDifference);
  EXPECT_LE(NormError(c.GradKRope(), Differences(c.k_rope, loss)), kMaxDifference);
}

class BackwardTableTest : public KernelTest {};

constexpr double kMaxNormError = 1e-5;

TEST_P(BackwardTableTest, Mla) {
  Random random(SeedOfTest());
  for (const size_t rows : {1, 5, 63, 64, 65, 130}) {
    for (const auto& [nope, rope, dv] : {std::array<size_t, 3>{16, 8, 16}, {9, 2, 33}}) {
      MlaCase<float> got(rows, nope, rope, dv, random);
      MlaCase<double> wanted(rows, nope, rope, dv, random);
      wanted.q = Widen(got.q);
      wanted.kv = Widen(got.kv);
      wanted.k_rope = Widen(got.k_rope);
      wanted.g = Widen(got.g);
      wanted.args.scale = got.args.scale;
      wanted.Point();
      wanted.Loss();
      got.out = Floats(wanted.out);
      got.states = Floats(wanted.states);
      got.Point();
      ref::MlaBackward(wanted.args);
      Bytes scratch(MlaBackwardScratchBytes(rows, nope + rope, dv));
      got.args.scratch = scratch.data();
      for (size_t h = 0; h < got.kHeads; ++h) {
        got.args.head_begin = h;
        got.args.head_end = h + 1;
        table().mla_backward(got.args);
      }
      EXPECT_LE(NormError(got.grad_q, wanted.grad_q), kMaxNormError) << rows;
      EXPECT_LE(NormError(got.grad_kv, wanted.grad_kv), kMaxNormError) << rows;
      EXPECT_LE(NormError(got.GradKRope(), wanted.GradKRope()), kMaxNormError) << rows;
    }
  }
}

TEST_P(BackwardTableTest, Rows) {
  Random random(SeedOfTest());
  for (const size_t n : kWidths) {
    const Doubles a = Widen(RandomFloats(n, random)), b = Widen(RandomFloats(n, random));
    const Doubles g = Widen(RandomFloats(n, random)), start = Widen(RandomFloats(n, random));
    const std::vector<float> fa = Floats(a), fb = Floats(b), fg = Floats(g);

    Doubles grad_x = start, grad_weight = start;
    ref::RmsNormBackward(a.data(), b.data(), static_cast<double>(1e-3f), n, g.data(), grad_x.data(),
                         grad_weight.data());
    std::vector<float> got_x = Floats(start), got_weight = Floats(start);
    table().rms_norm_backward(fa.data(), fb.data(), 1e-3f, n, fg.data(), got_x.data(),
                              got_weight.data());
    EXPECT_LE(NormError(got_x, grad_x), kMaxNormError) << n;
    EXPECT_LE(NormError(got_weight, grad_weight), kMaxNormError) << n;

    Doubles grad_gate(n), grad_up(n);
    ref::SwiGluBackward(a.data(), b.data(), g.data(), n, grad_gate.data(), grad_up.data());
    std::vector<float> got_gate = fa, got_up = fb;  // in place
    table().swiglu_backward(got_gate.data(), got_up.data(), fg.data(), n, got_gate.data(),
                            got_up.data());
    EXPECT_LE(NormError(got_gate, grad_gate), kMaxNormError) << n;
    EXPECT_LE(NormError(got_up, grad_up), kMaxNormError) << n;

    Doubles logits = a;
    const double loss = ref::CrossEntropy(logits.data(), n, n / 2, 0.5);
    std::vector<float> got_logits = fa;
    EXPECT_NEAR(table().cross_entropy(got_logits.data(), n, n / 2, 0.5f), loss, 1e-5) << n;
    EXPECT_LE(NormError(got_logits, logits), kMaxNormError) << n;

    EXPECT_NEAR(table().sum_squares(fa.data(), n), Dot(a, a), 1e-5 * Dot(a, a));
  }
}

TEST_P(BackwardTableTest, PackPairsRoundsAndInterleaves) {
  Random random(SeedOfTest());
  for (const size_t n : kWidths) {
    const std::vector<float> a = RandomFloats(n, random), b = RandomFloats(n, random);
    std::vector<uint32_t> got(n), single(n);
    table().pack_pairs(a.data(), b.data(), n, got.data());
    table().pack_pairs(a.data(), nullptr, n, single.data());
    for (size_t i = 0; i < n; ++i) {
      ASSERT_EQ(got[i], F32ToBf16(a[i]) | static_cast<uint32_t>(F32ToBf16(b[i])) << 16);
      ASSERT_EQ(single[i], F32ToBf16(a[i]));
    }
  }
}

// In F32 the chain of fused multiply-adds is the contract: every table gives the same bits.
TEST_P(BackwardTableTest, OuterMatMulInF32) {
  Random random(SeedOfTest());
  for (const size_t K : {0, 1, 5, 127, 128, 129, 300}) {
    for (const auto& [M, N] : {std::array<size_t, 2>{1, 1}, {7, 33}, {16, 64}, {21, 50}}) {
      for (const bool transposed : {false, true}) {
        for (const bool accumulate : {false, true}) {
          const std::vector<float> x = RandomFloats(M * K, random), w = RandomFloats(K * N, random);
          std::vector<float> got = RandomFloats(M * (N + 3), random), wanted = got;
          OuterMatMulArgs args = {.x = x.data(),
                                  .x_stride = transposed ? M : K,
                                  .x_transposed = transposed,
                                  .w = w.data(),
                                  .w_stride = N,
                                  .M = M,
                                  .N = N,
                                  .K = K,
                                  .y = got.data(),
                                  .y_stride = N + 3,
                                  .accumulate = accumulate};
          table().outer_matmul(args);
          args.y = wanted.data();
          ref::OuterMatMul<float>(args);
          EXPECT_TRUE(SameBits(got, wanted)) << M << " " << N << " " << K;
        }
      }
    }
  }
}

TEST_P(BackwardTableTest, OuterMatMulOfPairs) {
  if (!table().bf16_products) GTEST_SKIP() << "this target has no products of BF16";
  Random random(SeedOfTest());
  for (const size_t K : {1, 130}) {
    for (const auto& [M, N] : {std::array<size_t, 2>{7, 33}, {16, 64}}) {
      for (const bool transposed : {false, true}) {
        std::vector<uint32_t> x(M * K), w(K * N);
        for (auto* side : {&x, &w}) {
          for (uint32_t& pair : *side) {
            const float a = RandomValue(random), b = RandomValue(random);
            ref::PackPairs(&a, &b, 1, &pair);
          }
        }
        std::vector<float> got = RandomFloats(M * N, random), wanted = got;
        OuterMatMulArgs args = {.type = ActivationType::kBF16,
                                .x = x.data(),
                                .x_stride = transposed ? M : K,
                                .x_transposed = transposed,
                                .w = w.data(),
                                .w_stride = N,
                                .M = M,
                                .N = N,
                                .K = K,
                                .y = got.data(),
                                .y_stride = N,
                                .accumulate = true};
        table().outer_matmul(args);
        args.y = wanted.data();
        ref::OuterMatMul<double>(args);
        EXPECT_LE(NormError(got, wanted), kMaxNormError);
      }
    }
  }
}

TEST_P(BackwardTableTest, AdamW) {
  Random random(SeedOfTest());
  const size_t n = 37;
  std::vector<float> value = RandomFloats(n, random), m(n, 0.0f), v(n, 0.0f);
  Doubles value2 = Widen(value), m2(n, 0.0), v2(n, 0.0);
  for (int step = 1; step <= 3; ++step) {
    const std::vector<float> grad = RandomFloats(n, random);
    const AdamWArgs args = {.lr = 0.01f,
                            .beta1 = 0.9f,
                            .beta2 = 0.95f,
                            .eps = 1e-8f,
                            .weight_decay = 0.1f,
                            .correction1 = 1 / (1 - std::pow(0.9f, static_cast<float>(step))),
                            .correction2 = 1 / (1 - std::pow(0.95f, static_cast<float>(step))),
                            .grad_scale = 0.5f};
    table().adamw(args, grad.data(), n, value.data(), m.data(), v.data());
    ref::AdamW(args, Widen(grad).data(), n, value2.data(), m2.data(), v2.data());
  }
  EXPECT_LE(NormError(value, value2), 1e-6);
  EXPECT_LE(NormError(m, m2), 1e-6);
  EXPECT_LE(NormError(v, v2), 1e-6);
}

// By hand: the first step moves each parameter by lr, whatever the gradient's size, and decays it.
TEST_P(BackwardTableTest, TheFirstStepOfAdamW) {
  float value = 2, m = 0, v = 0;
  const float grad = 3;
  table().adamw({.lr = 0.1f,
                 .beta1 = 0.9f,
                 .beta2 = 0.95f,
                 .weight_decay = 0.5f,
                 .correction1 = 10,
                 .correction2 = 20},
                &grad, 1, &value, &m, &v);
  EXPECT_NEAR(m, 0.3, 1e-6);
  EXPECT_NEAR(v, 0.45, 1e-6);
  EXPECT_NEAR(value, 2 - 0.1 * (1 + 0.5 * 2), 1e-6);
}

INSTANTIATE_TEST_SUITE_P(Tables, BackwardTableTest, testing::ValuesIn(RunnableTables()), TableName);

}  // namespace
}  // namespace baleen::kernels
