// tensor/weight_source.h: where weights come from, whatever the file format.
#ifndef BALEEN_TENSOR_WEIGHT_SOURCE_H_
#define BALEEN_TENSOR_WEIGHT_SOURCE_H_

#include <optional>
#include <string>
#include <vector>

#include "tensor/mapped_file.h"
#include "tensor/tensor_view.h"

namespace baleen {

// A set of named tensors, mapped from one or more files. The views stay valid as long as the
// source. Threads: immutable after opening.
class WeightSource {
 public:
  virtual ~WeightSource() = default;

  // Null when there is no tensor of that name.
  virtual const TensorView* Find(const std::string& name) const = 0;

  // All names, sorted.
  virtual std::vector<std::string> Names() const = 0;

  // The file that holds the tensor, for messages.
  virtual std::string FileOf(const std::string& name) const = 0;

  // Where the bytes of a tensor lie on disk, for one who reads them himself; nothing: the source
  // has made them, in memory.
  virtual std::optional<FilePlace> PlaceOf(const std::byte* data) const = 0;
};

}  // namespace baleen

#endif  // BALEEN_TENSOR_WEIGHT_SOURCE_H_
