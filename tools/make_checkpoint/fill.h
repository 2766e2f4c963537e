// make_checkpoint/fill.h: random contents of tensors, faster than a disk takes them.
#ifndef BALEEN_TOOLS_MAKE_CHECKPOINT_FILL_H_
#define BALEEN_TOOLS_MAKE_CHECKPOINT_FILL_H_

#include <cstddef>
#include <span>
#include <vector>

#include "base/random.h"
#include "tensor/dtype.h"
#include "tensors.h"

namespace baleen::make_checkpoint {

// Draws weights from a table of 4,096 equally likely values, the quantiles of a normal
// distribution with standard deviation 0.02: one look-up for each 16 random bits, 2 GB/s a core.
// A table of 8 kB stays in the first-level cache.
class Filler {
 public:
  explicit Filler(DType weight_dtype);

  // Fills `out`, a whole number of elements of a tensor of that type and content. Weights must be
  // of the type given to the constructor, or BF16.
  void Fill(DType dtype, Content content, Random* random, std::span<std::byte> out) const;

 private:
  DType weight_dtype_;
  std::vector<std::byte> table_;       // in weight_dtype_
  std::vector<std::byte> bf16_table_;  // what FP8 checkpoints keep wide
};

}  // namespace baleen::make_checkpoint

#endif  // BALEEN_TOOLS_MAKE_CHECKPOINT_FILL_H_
