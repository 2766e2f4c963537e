#include "tensor/tensor_view.h"

#include <cstring>

#include "base/check.h"
#include "tensor/blocks.h"

namespace baleen {

namespace {

template <typename T, typename Convert>
void Widen(const std::byte* data, size_t count, float* out, Convert convert) {
  for (size_t i = 0; i < count; ++i) {
    T value;
    std::memcpy(&value, data + i * sizeof(T), sizeof(T));
    out[i] = convert(value);
  }
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
  switch (tensor.dtype) {
    case DType::kF64:
      return Widen<double>(data, count, out,
                           [](double value) { return static_cast<float>(value); });
    case DType::kF32:
      return Widen<float>(data, count, out, [](float value) { return value; });
    case DType::kF16:
      return Widen<uint16_t>(data, count, out, F16ToF32);
    case DType::kBF16:
      return Widen<uint16_t>(data, count, out, Bf16ToF32);
    case DType::kF8E4M3:
      return Widen<uint8_t>(data, count, out, F8E4M3ToF32);
    case DType::kF8E8M0:
      return Widen<uint8_t>(data, count, out, F8E8M0ToF32);
    default:
      BALEEN_CHECK(!"ToF32 of an integer tensor");
  }
}

std::vector<float> ToF32(const TensorView& tensor) {
  std::vector<float> values(tensor.num_elements());
  ToF32(tensor, 0, values.size(), values.data());
  return values;
}

}  // namespace baleen
