// formats/safetensors.h: reads safetensors files, alone or as the shards of a checkpoint.
//
// Layout of a file (docs/formats/safetensors.md):
//   u64 N, little-endian | N bytes of JSON, name -> {dtype, shape, data_offsets} | tensor data
// Nothing is copied: views point into the mapped file, whose pages load on first use. A file that
// is shortened by somebody else while it is mapped ends the process with SIGBUS, as with any
// mapped file.
//
// Source of the rules: huggingface/safetensors, README.md and safetensors/src/tensor.rs.
#ifndef BALEEN_FORMATS_SAFETENSORS_H_
#define BALEEN_FORMATS_SAFETENSORS_H_

#include <cstddef>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/mapped_file.h"
#include "tensor/tensor_view.h"
#include "tensor/weight_source.h"

namespace baleen {

struct SafetensorsHeader {
  struct Tensor {
    std::string name;
    TensorView view;
  };

  std::vector<Tensor> tensors;                  // sorted by name, no name twice
  std::map<std::string, std::string> metadata;  // "__metadata__"; empty when there is none
};

// Checks the bytes of a whole file and returns views into them. `path` is for messages only.
//
// Refuses whatever the reference refuses: the tensors must tile the data exactly, each size must
// follow from dtype and shape, no name may come twice. Also refuses keys that the format does not
// have and ranks above 64.
// Cost: reads the header only; memory in proportion to the header, at most 100 MB.
// Errors: kCorruption; kUnimplemented for element types that baleen::DType lacks.
SafetensorsHeader ParseSafetensors(std::span<const std::byte> file, const std::string& path);

// One mapped file. Threads: immutable.
class SafetensorsFile {
 public:
  // Errors: as ParseSafetensors, and kNotFound.
  explicit SafetensorsFile(const std::string& path)
      : file_(path), header_(ParseSafetensors(file_.bytes(), path)) {}

  const std::string& path() const { return file_.path(); }
  const MappedFile& mapped() const { return file_; }
  const std::vector<SafetensorsHeader::Tensor>& tensors() const { return header_.tensors; }
  const std::map<std::string, std::string>& metadata() const { return header_.metadata; }

  // Null when there is no tensor of that name. Valid as long as this object; moving keeps it.
  const TensorView* Find(std::string_view name) const;

 private:
  MappedFile file_;
  SafetensorsHeader header_;
};

// Reads "weight_map" of a model.safetensors.index.json: tensor name -> file name, sorted, with
// names of files that stay inside the directory. `path` is for messages only. Error{kCorruption}.
std::map<std::string, std::string> ParseSafetensorsIndex(std::string_view json,
                                                         const std::string& path);

// Opens the weights of a model. `path` is a directory with model.safetensors (which wins, as in
// transformers) or model.safetensors.index.json and its shards; or one .safetensors file; or an
// index file.
//
// Index and shards must agree on every tensor. All shards are opened: headers only.
// Errors: kNotFound, nothing there or a shard is missing. kCorruption, a damaged or half-downloaded
//   file, or index and shards disagree. kUnimplemented, only files of another format are there.
std::unique_ptr<WeightSource> OpenSafetensors(const std::string& path);

}  // namespace baleen

#endif  // BALEEN_FORMATS_SAFETENSORS_H_
