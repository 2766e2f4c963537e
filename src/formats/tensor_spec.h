// formats/tensor_spec.h: a tensor that a writer of files is told of before its data.
#ifndef BALEEN_FORMATS_TENSOR_SPEC_H_
#define BALEEN_FORMATS_TENSOR_SPEC_H_

#include <cstdint>
#include <string>

#include "tensor/dtype.h"
#include "tensor/tensor_view.h"

namespace baleen {

struct TensorSpec {
  std::string name;
  DType dtype;
  Shape shape;  // of a block type: the last dimension is whole blocks

  uint64_t size_bytes() const { return RowBytes(dtype, NumElements(shape)); }
};

}  // namespace baleen

#endif  // BALEEN_FORMATS_TENSOR_SPEC_H_
