#include "tensor/tensor_view.h"

#include <cstring>

#include "base/check.h"
#include "tensor/blocks.h"

namespace baleen {

namespace {

template <typename T>
T Load(const std::byte* data, size_t i) {
  T value;
  std::memcpy(&value, data + i * sizeof(T), sizeof(T));
  return value;
}

}  // namespace

std::string ShapeToString(const Shape& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(shape[i]);
  }
  return text + "]";
}

size_t NumElements(const Shape& shape) {
  size_t count = 1;
  for (size_t dim : shape) count *= dim;
  return count;
}

void ToF32(const TensorView& tensor, size_t first, size_t count, float* out) {
  const std::byte* data = tensor.data + RowBytes(tensor.dtype, first);
  if (IsBlockType(tensor.dtype)) return DecodeBlocks(tensor.dtype, data, count, out);
  for (size_t i = 0; i < count; ++i) {
    switch (tensor.dtype) {
      case DType::kF64:
        out[i] = static_cast<float>(Load<double>(data, i));
        break;
      case DType::kF32:
        out[i] = Load<float>(data, i);
        break;
      case DType::kF16:
        out[i] = F16ToF32(Load<uint16_t>(data, i));
        break;
      case DType::kBF16:
        out[i] = Bf16ToF32(Load<uint16_t>(data, i));
        break;
      case DType::kF8E4M3:
        out[i] = F8E4M3ToF32(Load<uint8_t>(data, i));
        break;
      case DType::kF8E8M0:
        out[i] = F8E8M0ToF32(Load<uint8_t>(data, i));
        break;
      default:
        BALEEN_CHECK(!"ToF32 of an integer tensor");
    }
  }
}

std::vector<float> ToF32(const TensorView& tensor) {
  std::vector<float> values(tensor.num_elements());
  ToF32(tensor, 0, values.size(), values.data());
  return values;
}

}  // namespace baleen
