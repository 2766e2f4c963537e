// tensor/tensor_view.h: a typed, shaped look at bytes that somebody else owns.
#ifndef BALEEN_TENSOR_TENSOR_VIEW_H_
#define BALEEN_TENSOR_TENSOR_VIEW_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tensor/dtype.h"

namespace baleen {

using Shape = std::vector<size_t>;

// "[64, 2048]".
std::string ShapeToString(const Shape& shape);

// Number of elements. The readers of files have checked that the product does not overflow.
size_t NumElements(const Shape& shape);

// Row-major, no strides; a block type's last dimension is whole blocks. The data may be unaligned
// (old files are): load with memcpy or unaligned vector loads.
struct TensorView {
  const std::byte* data = nullptr;
  DType dtype = DType::kF32;
  Shape shape;

  size_t num_elements() const { return NumElements(shape); }
  size_t size_bytes() const { return RowBytes(dtype, num_elements()); }
};

// Converts `count` elements from `first` on to float, whatever their type (floating and block
// types; of the latter, whole blocks).
void ToF32(const TensorView& tensor, size_t first, size_t count, float* out);
std::vector<float> ToF32(const TensorView& tensor);

}  // namespace baleen

#endif  // BALEEN_TENSOR_TENSOR_VIEW_H_
