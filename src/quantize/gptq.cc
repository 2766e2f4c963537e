#include "quantize/gptq.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "quantize/factor.h"

namespace baleen {

namespace {

constexpr size_t kBlock = 128;    // columns between two updates of all columns behind
constexpr size_t kRowBand = 256;  // rows that go through all columns together, to stay in caches
constexpr double kMaxDamp = 2;    // beyond this H is given up

// Columns by falling `value`, equal ones in their order.
void SortFalling(std::span<int32_t> columns, const std::vector<float>& value) {
  std::ranges::stable_sort(columns, std::greater<>(),
                           [&](int32_t c) { return value[static_cast<size_t>(c)]; });
}

std::vector<int32_t> MakeOrder(ColumnOrder kind, const std::vector<float>& diagonal,
                               size_t group_cols) {
  const size_t cols = diagonal.size();
  std::vector<int32_t> order(cols);
  std::iota(order.begin(), order.end(), 0);
  if (kind == ColumnOrder::kActivation || kind == ColumnOrder::kDescAct) {
    SortFalling(order, diagonal);
  }
  if (kind != ColumnOrder::kGroupAware) return order;
  std::vector<float> sums;
  for (size_t begin = 0; begin < cols; begin += group_cols) {
    const size_t end = std::min(cols, begin + group_cols);
    sums.push_back(std::accumulate(diagonal.begin() + static_cast<ptrdiff_t>(begin),
                                   diagonal.begin() + static_cast<ptrdiff_t>(end), 0.0f));
  }
  std::vector<int32_t> groups(sums.size());
  std::iota(groups.begin(), groups.end(), 0);
  SortFalling(groups, sums);
  order.clear();
  for (int32_t g : groups) {
    const size_t begin = static_cast<size_t>(g) * group_cols;
    const size_t first = order.size();
    for (size_t c = begin; c < std::min(cols, begin + group_cols); ++c) {
      order.push_back(static_cast<int32_t>(c));
    }
    SortFalling(std::span(order).subspan(first), diagonal);
  }
  return order;
}

}  // namespace

GptqPlan::GptqPlan(const Hessian& hessian, const RoundingOptions& options,
                   const kernels::KernelTable& table)
    : table_(table),
      options_(options),
      cols_(hessian.size()),
      group_cols_(options.group_cols == 0 ? cols_ : std::min(options.group_cols, cols_)) {
  BALEEN_CHECK(cols_ > 0 && cols_ % group_cols_ == 0);
  const std::vector<float> diagonal = hessian.Diagonal();
  const bool gptq = options.method == QuantizeMethod::kGptq && hessian.weight() > 0;
  // With one group, or with groups that fill no whole blocks, scales have to come first.
  static_groups_ = !gptq || options.order == ColumnOrder::kActivation || kBlock % group_cols_ != 0;
  order_ = MakeOrder(gptq ? options.order : ColumnOrder::kNatural, diagonal, group_cols_);
  if (!gptq) return;

  const double mean =
      std::accumulate(diagonal.begin(), diagonal.end(), 0.0) / static_cast<double>(cols_);
  if (!(mean > 0)) return;
  factor_.resize(cols_ * cols_);
  for (damp_ = options.damp; damp_ <= kMaxDamp; damp_ *= 2) {
    hessian.Permuted(order_, factor_.data());
    for (size_t i = 0; i < cols_; ++i) {
      // An input that was always 0 says nothing about its weights: they are rounded by themselves.
      float& value = factor_[i * cols_ + i];
      value = value == 0 ? 1.0f : value + static_cast<float>(damp_ * mean);
    }
    if (InverseFactor(cols_, factor_.data(), table_)) return;
  }
  damp_ = 0;
  factor_ = {};
}

size_t GptqPlan::GroupAt(size_t place) const {
  const auto column = static_cast<size_t>(order_[place]);
  return options_.order == ColumnOrder::kDescAct && !static_groups_ ? place / group_cols_
                                                                    : column / group_cols_;
}

struct GptqPlan::Band {
  size_t first_row = 0;
  size_t num_rows = 0;
  float* w = nullptr;            // [num_rows, cols]
  float* errors = nullptr;       // [num_rows, kBlock]: minus (w - rounded) / U_ii
  GroupScale* scales = nullptr;  // [num_rows, num_groups]
};

void GptqPlan::RoundToNearest(size_t rows, const float* w, GptqMatrix& out) const {
  const size_t groups = out.shape.num_groups();
  for (size_t i = 0; i < rows * groups; ++i) {
    const GroupScale scale = FindScale(w + i * group_cols_, group_cols_, options_.scale);
    out.scales[i] = scale.scale_bits;
    out.zeros[i] = static_cast<uint16_t>(scale.zero);
    for (size_t c = i * group_cols_; c < (i + 1) * group_cols_; ++c) {
      out.codes[c] = scale.Encode(w[c]);
    }
  }
}

void GptqPlan::RoundBlock(size_t begin, size_t end, const Band& band, GptqMatrix& out) const {
  const size_t groups = out.shape.num_groups();
  for (size_t r = 0; r < band.num_rows; ++r) {
    float* row = band.w + r * cols_;
    GroupScale* scales = band.scales + r * groups;
    uint8_t* codes = out.codes.data() + (band.first_row + r) * cols_;
    for (size_t p = begin; p < end; ++p) {
      GroupScale& scale = scales[GroupAt(p)];
      if (!static_groups_ && p % group_cols_ == 0) {
        scale = FindScale(row + p, group_cols_, options_.scale);
      }
      const float* u = factor_.data() + p * cols_ + p;
      const uint8_t code = scale.Encode(row[p]);
      const float error = (scale.Decode(code) - row[p]) / u[0];
      table_.add_scaled(error, u, end - p, row + p);
      band.errors[r * kBlock + (p - begin)] = error;
      codes[static_cast<size_t>(order_[p])] = code;
    }
  }
  table_.outer_matmul({.x = band.errors,
                       .x_stride = kBlock,
                       .w = factor_.data() + begin * cols_ + end,
                       .w_stride = cols_,
                       .M = band.num_rows,
                       .N = cols_ - end,
                       .K = end - begin,
                       .y = band.w + end,
                       .y_stride = cols_,
                       .accumulate = true});
}

RoundedMatrix GptqPlan::Round(size_t rows, const float* w) const {
  RoundedMatrix result;
  GptqMatrix& out = result.matrix;
  out.shape = {.rows = rows, .cols = cols_, .bits = options_.scale.bits, .group_cols = group_cols_};
  const size_t groups = out.shape.num_groups();
  out.codes.resize(rows * cols_);
  out.scales.resize(rows * groups);
  out.zeros.resize(rows * groups);
  out.g_idx.resize(cols_);
  for (size_t p = 0; p < cols_; ++p) {
    out.g_idx[static_cast<size_t>(order_[p])] = static_cast<int32_t>(GroupAt(p));
  }
  if (factor_.empty()) {
    result.method = QuantizeMethod::kRtn;
    RoundToNearest(rows, w, out);
    return result;
  }
  result.damp = damp_;

  std::vector<float> copy(kRowBand * cols_), errors(kRowBand * kBlock);
  std::vector<GroupScale> scales(kRowBand * groups);
  for (size_t first = 0; first < rows; first += kRowBand) {
    const Band band = {.first_row = first,
                       .num_rows = std::min(kRowBand, rows - first),
                       .w = copy.data(),
                       .errors = errors.data(),
                       .scales = scales.data()};
    for (size_t r = 0; r < band.num_rows; ++r) {
      const float* row = w + (first + r) * cols_;
      for (size_t g = 0; static_groups_ && g < groups; ++g) {
        scales[r * groups + g] = FindScale(row + g * group_cols_, group_cols_, options_.scale);
      }
      for (size_t p = 0; p < cols_; ++p) {
        copy[r * cols_ + p] = row[static_cast<size_t>(order_[p])];
      }
    }
    for (size_t begin = 0; begin < cols_; begin += kBlock) {
      RoundBlock(begin, std::min(cols_, begin + kBlock), band, out);
    }
    for (size_t i = 0; i < band.num_rows * groups; ++i) {
      out.scales[first * groups + i] = scales[i].scale_bits;
      out.zeros[first * groups + i] = static_cast<uint16_t>(scales[i].zero);
    }
  }
  return result;
}

}  // namespace baleen
