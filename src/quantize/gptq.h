// quantize/gptq.h: one weight matrix, rounded so that its layer's output changes least
// (arXiv:2210.17323), or to the nearest codes.
#ifndef BALEEN_QUANTIZE_GPTQ_H_
#define BALEEN_QUANTIZE_GPTQ_H_

#include <cstddef>
#include <span>
#include <vector>

#include "formats/gptq.h"
#include "kernels/table.h"
#include "quantize/hessian.h"
#include "quantize/rounding.h"

namespace baleen {

enum class QuantizeMethod { kGptq, kRtn };

// The order in which columns are rounded, and the groups that share a scale.
enum class ColumnOrder {
  kNatural,     // as they are; a group's scale is found when its turn comes
  kActivation,  // largest input first; groups of neighbours, their scales found at the start
  kGroupAware,  // groups of neighbours, the largest inputs' first, and in each the largest first
  kDescAct,     // largest input first; groups of columns as they come, so that g_idx is needed
};

struct RoundingOptions {
  QuantizeMethod method = QuantizeMethod::kGptq;
  ScaleOptions scale;
  size_t group_cols = 128;  // 0: the whole row
  ColumnOrder order = ColumnOrder::kActivation;
  double damp = 0.05;  // of the mean of H's diagonal, added to it; doubled until H can be factored
};

struct RoundedMatrix {
  GptqMatrix matrix;
  QuantizeMethod method = QuantizeMethod::kGptq;  // what was done: kRtn if H cannot be factored
  double damp = 0;                                // what was added
};

// H's factor and what else matrices with the same input share.
class GptqPlan {
 public:
  // `hessian` without inputs plans rounding to the nearest. Takes size^2 floats.
  GptqPlan(const Hessian& hessian, const RoundingOptions& options,
           const kernels::KernelTable& table);

  // w [rows, hessian.size()], finite. Threads: any.
  RoundedMatrix Round(size_t rows, const float* w) const;

 private:
  void RoundToNearest(size_t rows, const float* w, GptqMatrix& out) const;
  // Rounds the places [begin, end) of a band of rows, w [num_rows, cols] in the order of places,
  // and passes their errors on to the places behind.
  struct Band;
  void RoundBlock(size_t begin, size_t end, const Band& band, GptqMatrix& out) const;
  // The group of the column that is rounded at this place.
  size_t GroupAt(size_t place) const;

  const kernels::KernelTable& table_;
  RoundingOptions options_;
  size_t cols_;
  size_t group_cols_;
  bool static_groups_;
  double damp_ = 0;
  std::vector<int32_t> order_;  // place -> column
  std::vector<float> factor_;   // U, empty: round to the nearest
};

}  // namespace baleen

#endif  // BALEEN_QUANTIZE_GPTQ_H_
