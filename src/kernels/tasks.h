// kernels/tasks.h: what operations share that split their work over threads.
#ifndef BALEEN_KERNELS_TASKS_H_
#define BALEEN_KERNELS_TASKS_H_

#include <algorithm>
#include <cstddef>

#include "base/arena.h"
#include "kernels/kernels.h"
#include "kernels/matrix.h"

namespace baleen::kernels {

// A matrix cut into slices of rows, one a task.
inline size_t NumSlices(size_t rows, size_t slice_rows) {
  return (rows + slice_rows - 1) / slice_rows;
}
inline Matrix Slice(const Matrix& w, size_t slice, size_t slice_rows) {
  const size_t begin = slice * slice_rows;
  return w.Rows(begin, std::min(slice_rows, w.rows - begin));
}

// Scratch of one size for each thread.
class ThreadScratch {
 public:
  ThreadScratch(size_t bytes, KernelContext& ctx)
      : bytes_((bytes + Arena::kAlignment - 1) / Arena::kAlignment * Arena::kAlignment),
        data_(ctx.arena.Allocate<std::byte>(bytes_ * ctx.pool.num_threads())) {}
  std::byte* Of(size_t thread) const { return data_ + thread * bytes_; }

 private:
  size_t bytes_;
  std::byte* data_;
};

// Activations [rows, cols] whose content is still to be written.
inline Activations NewActivations(const ActivationForm& form, size_t rows, size_t cols,
                                  Arena& arena) {
  Activations to = {.type = form.type,
                    .rows = rows,
                    .cols = cols,
                    .group_cols = form.group_cols,
                    .part_cols = form.part_cols};
  to.row_bytes =
      form.type == ActivationType::kI8 ? to.i8_row().bytes() : cols * ActivationSize(form.type);
  to.data = arena.Allocate<std::byte>(rows * to.row_bytes);
  return to;
}

// Writes columns [begin, begin + n) of row r; of whole numbers, whole groups.
inline void PackInto(const Activations& to, size_t r, const float* x, size_t begin, size_t n,
                     const KernelTable& table) {
  auto* row = const_cast<std::byte*>(to.row(r));
  if (to.type == ActivationType::kI8) {
    table.pack_i8(x, to.i8_row(), begin, n, row);
  } else {
    table.pack(x, n, to.type, row + begin * ActivationSize(to.type));
  }
}

}  // namespace baleen::kernels

#endif  // BALEEN_KERNELS_TASKS_H_
