#include "quantize/gptq.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>

#include "formats/safetensors.h"
#include "kernels/registry.h"
#include "quantize/factor.h"

namespace baleen {
namespace {

struct Case {
  ThreadPool pool{1};
  kernels::KernelContext ctx{.table = kernels::SelectKernels(), .pool = pool};
  std::mt19937 random{7};

  std::vector<float> Normal(size_t count) {
    std::normal_distribution<float> normal;
    std::vector<float> values(count);
    for (float& value : values) value = normal(random);
    return values;
  }

  // Inputs [rows, cols] of which neighbours resemble each other, and some are much larger.
  std::vector<float> Inputs(size_t rows, size_t cols) {
    std::vector<float> x = Normal(rows * cols);
    for (size_t r = 0; r < rows; ++r) {
      for (size_t c = 1; c < cols; ++c) x[r * cols + c] += 0.8f * x[r * cols + c - 1];
      for (size_t c = 5; c < cols; c += 37) x[r * cols + c] *= 10;
    }
    return x;
  }

  double Error(const Hessian& hessian, const std::vector<float>& w, const GptqMatrix& rounded) {
    std::vector<float> change(w.size());
    for (size_t r = 0; r < rounded.shape.rows; ++r) {
      rounded.DecodeRow(r, change.data() + r * rounded.shape.cols);
    }
    for (size_t i = 0; i < w.size(); ++i) change[i] -= w[i];
    return hessian.OutputError(change.data(), rounded.shape.rows, ctx.table);
  }
};

RoundingOptions Options(ColumnOrder order, size_t bits = 4, size_t group_cols = 32) {
  RoundingOptions options;
  options.order = order;
  options.scale = {.bits = bits, .symmetric = true, .search = false};
  options.group_cols = group_cols;
  return options;
}

constexpr ColumnOrder kOrders[] = {ColumnOrder::kNatural, ColumnOrder::kActivation,
                                   ColumnOrder::kGroupAware, ColumnOrder::kDescAct};

TEST(InverseFactor, IsTheFactorOfTheInverse) {
  Case test;
  for (size_t n : {1, 2, 127, 128, 129, 300}) {
    const std::vector<float> x = test.Inputs(2 * n + 8, n);
    Hessian hessian(n);
    hessian.Add(x.data(), 2 * n + 8, test.ctx);
    std::vector<int32_t> order(n);
    std::iota(order.begin(), order.end(), 0);
    std::vector<float> h(n * n);
    hessian.Permuted(order, h.data());
    double mean = 0;
    for (size_t i = 0; i < n; ++i) mean += h[i * n + i] / static_cast<double>(n);
    for (size_t i = 0; i < n; ++i) h[i * n + i] += static_cast<float>(0.05 * mean);
    std::vector<float> u = h;
    ASSERT_TRUE(InverseFactor(n, u.data(), test.ctx.table));
    // U H U^T = 1, in double.
    double worst = 0;
    for (size_t i = 0; i < n; ++i) {
      std::vector<double> row(n, 0);
      for (size_t k = 0; k < n; ++k) {
        for (size_t j = 0; j < n; ++j) {
          row[j] += static_cast<double>(u[i * n + k]) * (k <= j ? h[k * n + j] : h[j * n + k]);
        }
      }
      for (size_t j = 0; j < n; ++j) {
        double product = 0;
        for (size_t k = 0; k < n; ++k) product += row[k] * u[j * n + k];
        worst = std::max(worst, std::abs(product - (i == j ? 1 : 0)));
      }
      for (size_t j = 0; j < i; ++j) EXPECT_EQ(u[i * n + j], 0);
      EXPECT_GT(u[i * n + i], 0);
    }
    EXPECT_LT(worst, 2e-4) << n;
  }
}

TEST(InverseFactor, SeesAMatrixWithoutOne) {
  Case test;
  std::vector<float> h = {1, 2, 0, 1};
  EXPECT_FALSE(InverseFactor(2, h.data(), test.ctx.table));
}

TEST(Hessian, IsTheMeanOfOuterProducts) {
  Case test;
  const float x[] = {1, 2, 3, 4, 5, 6};
  Hessian hessian(3);
  hessian.AddRows(x, std::vector<int32_t>{1, 0}, test.ctx);
  EXPECT_EQ(hessian.Diagonal(), (std::vector<float>{8.5f, 14.5f, 22.5f}));
  std::vector<float> h(9, 0);
  hessian.Permuted(std::vector<int32_t>{2, 0, 1}, h.data());
  EXPECT_EQ(h, (std::vector<float>{22.5f, 13.5f, 18, 0, 8.5f, 11, 0, 0, 14.5f}));
  const float e[] = {1, -1, 0};
  EXPECT_DOUBLE_EQ(hessian.OutputError(e, 1, test.ctx.table), 1);
}

// With uncorrelated inputs nothing can be passed on.
TEST(Gptq, IdentityHessianRoundsToNearest) {
  Case test;
  Hessian hessian(64);
  std::vector<float> identity(64 * 64, 0);
  for (size_t i = 0; i < 64; ++i) identity[i * 65] = 8;
  hessian.Add(identity.data(), 64, test.ctx);
  const std::vector<float> w = test.Normal(24 * 64);
  for (ColumnOrder order : kOrders) {
    RoundingOptions options = Options(order);
    const RoundedMatrix gptq = GptqPlan(hessian, options, test.ctx.table).Round(24, w.data());
    options.method = QuantizeMethod::kRtn;
    const RoundedMatrix rtn = GptqPlan(hessian, options, test.ctx.table).Round(24, w.data());
    EXPECT_EQ(gptq.matrix.codes, rtn.matrix.codes);
    EXPECT_EQ(gptq.matrix.scales, rtn.matrix.scales);
  }
}

TEST(Gptq, BeatsRoundingToNearestOnCorrelatedInputs) {
  Case test;
  const size_t rows = 40, cols = 256;
  const std::vector<float> x = test.Inputs(600, cols), w = test.Normal(rows * cols);
  Hessian hessian(cols);
  hessian.Add(x.data(), 600, test.ctx);
  for (size_t bits : {4, 8}) {
    for (bool symmetric : {true, false}) {
      for (ColumnOrder order : kOrders) {
        RoundingOptions options = Options(order, bits);
        options.scale.symmetric = symmetric;
        options.damp = 0.01;
        const RoundedMatrix gptq = GptqPlan(hessian, options, test.ctx.table).Round(rows, w.data());
        options.method = QuantizeMethod::kRtn;
        const RoundedMatrix rtn = GptqPlan(hessian, options, test.ctx.table).Round(rows, w.data());
        EXPECT_EQ(gptq.method, QuantizeMethod::kGptq);
        EXPECT_LT(test.Error(hessian, w, gptq.matrix), 0.5 * test.Error(hessian, w, rtn.matrix))
            << bits << " bits, order " << static_cast<int>(order);
        for (uint16_t zero : gptq.matrix.zeros) {
          ASSERT_GE(zero, 1);
          ASSERT_LT(zero, 1u << bits);
        }
      }
    }
  }
}

TEST(Gptq, FewInputsDeadInputsAndFlatRowsAreRounded) {
  Case test;
  const size_t cols = 128;
  std::vector<float> x = test.Inputs(5, cols);  // far fewer than columns
  for (size_t r = 0; r < 5; ++r) x[r * cols + 3] = 0;
  Hessian hessian(cols);
  hessian.Add(x.data(), 5, test.ctx);
  std::vector<float> w(3 * cols, 0.0f);
  std::fill_n(w.begin() + cols, cols, 0.25f);
  const std::vector<float> noise = test.Normal(cols);
  std::copy(noise.begin(), noise.end(), w.begin() + 2 * cols);
  const RoundedMatrix out =
      GptqPlan(hessian, Options(ColumnOrder::kActivation), test.ctx.table).Round(3, w.data());
  std::vector<float> row(cols);
  out.matrix.DecodeRow(0, row.data());
  for (float value : row) EXPECT_EQ(value, 0);
  out.matrix.DecodeRow(1, row.data());
  // With fewer inputs than columns weights may move far; what they make of the inputs may not.
  for (size_t r = 0; r < 5; ++r) {
    double made = 0, wanted = 0, size = 0;
    for (size_t c = 0; c < cols; ++c) {
      made += row[c] * x[r * cols + c];
      wanted += 0.25 * x[r * cols + c];
      size += 0.25 * std::abs(x[r * cols + c]);
    }
    EXPECT_NEAR(made, wanted, 0.05 * size);
  }
  out.matrix.DecodeRow(2, row.data());
  // A dead input's weight is rounded by itself.
  EXPECT_NEAR(row[3], noise[3], 0.51 * F16ToF32(out.matrix.scales[2 * 4]));
}

TEST(Gptq, GroupsAreTrivialButForDescAct) {
  Case test;
  const std::vector<float> x = test.Inputs(300, 128), w = test.Normal(8 * 128);
  Hessian hessian(128);
  hessian.Add(x.data(), 300, test.ctx);
  for (ColumnOrder order : kOrders) {
    const GptqMatrix out =
        GptqPlan(hessian, Options(order), test.ctx.table).Round(8, w.data()).matrix;
    size_t trivial = 0;
    std::vector<size_t> sizes(4, 0);
    for (size_t c = 0; c < 128; ++c) {
      trivial += out.g_idx[c] == static_cast<int32_t>(c / 32) ? 1 : 0;
      ++sizes[static_cast<size_t>(out.g_idx[c])];
    }
    EXPECT_EQ(trivial == 128, order != ColumnOrder::kDescAct);
    EXPECT_EQ(sizes, std::vector<size_t>(4, 32));
  }
}

TEST(FindScale, SearchNeverLosesAndCutsOutliers) {
  Case test;
  std::vector<float> w = test.Normal(128);
  w[17] = 9;
  const auto error = [&](const GroupScale& s) {
    double sum = 0;
    for (float value : w) sum += std::pow(s.Decode(s.Encode(value)) - value, 2);
    return sum;
  };
  for (bool symmetric : {true, false}) {
    const GroupScale plain = FindScale(w.data(), 128, {4, symmetric, false});
    const GroupScale searched = FindScale(w.data(), 128, {4, symmetric, true});
    EXPECT_LT(error(searched), error(plain));
    EXPECT_LT(searched.scale, plain.scale);
  }
}

// PyTorch's answer (tools/golden/gptq.py), in F64.
TEST(Gptq, MatchesPyTorch) {
  const SafetensorsFile golden(BALEEN_SOURCE_DIR "/tests/golden/gptq.safetensors");
  const auto values = [&](const std::string& name) {
    const TensorView* view = golden.Find(name);
    EXPECT_NE(view, nullptr) << name;
    return ToF32(*view);
  };
  Case test;
  const std::vector<float> x = values("x"), w = values("w");
  const size_t rows = 32, cols = 256;
  Hessian hessian(cols);
  hessian.Add(x.data(), x.size() / cols, test.ctx);
  struct Setting {
    std::string name;
    ColumnOrder order;
    size_t bits;
    size_t group_cols;
    bool symmetric;
  };
  const Setting settings[] = {
      {"natural", ColumnOrder::kNatural, 4, 128, true},
      {"static", ColumnOrder::kActivation, 4, 32, true},
      {"desc_act", ColumnOrder::kDescAct, 4, 128, true},
      {"asymmetric", ColumnOrder::kActivation, 4, 64, false},
      {"bits8", ColumnOrder::kActivation, 8, 128, true},
      {"row", ColumnOrder::kActivation, 4, 0, true},
  };
  for (const Setting& s : settings) {
    RoundingOptions options = Options(s.order, s.bits, s.group_cols);
    options.scale.symmetric = s.symmetric;
    options.damp = 0.01;
    const GptqMatrix out = GptqPlan(hessian, options, test.ctx.table).Round(rows, w.data()).matrix;
    const std::vector<float> expected = values(s.name);
    // A value between two codes may fall to either side, and what comes behind it follows.
    size_t differ = 0;
    double expected_error = 0, error = 0;
    std::vector<float> row(cols);
    for (size_t r = 0; r < rows; ++r) {
      out.DecodeRow(r, row.data());
      for (size_t c = 0; c < cols; ++c) {
        differ += std::abs(row[c] - expected[r * cols + c]) > 1e-6 ? 1 : 0;
      }
    }
    std::vector<float> change(expected);
    for (size_t i = 0; i < change.size(); ++i) change[i] -= w[i];
    expected_error = hessian.OutputError(change.data(), rows, test.ctx.table);
    error = test.Error(hessian, w, out);
    EXPECT_LT(differ, rows * cols / 100) << s.name;
    EXPECT_NEAR(error / expected_error, 1, 0.01) << s.name;
  }
}

}  // namespace
}  // namespace baleen
