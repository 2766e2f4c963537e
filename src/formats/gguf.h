// formats/gguf.h: reads GGUF files of version 2 and 3, alone or as the parts of a split model.
//
// Layout of a file (docs/formats/gguf.md), all little-endian:
//   "GGUF" | u32 version | u64 tensors | u64 keys | keys with values | tensor infos | data
// Nothing is copied but names of tensors: strings, arrays and tensors are views into the mapped
// file, whose pages load on first use.
//
// Source of the rules: ggml-org/ggml, docs/gguf.md; ggml-org/llama.cpp, gguf-py/gguf.
#ifndef BALEEN_FORMATS_GGUF_H_
#define BALEEN_FORMATS_GGUF_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tensor/mapped_file.h"
#include "tensor/tensor_view.h"
#include "tensor/weight_source.h"

namespace baleen {

// Types of values, by their number in the file.
enum class GgufType : uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64
};

// An array as stored: `count` elements of `type` in `bytes`, all within the file.
struct GgufArray {
  GgufType type = GgufType::kU8;
  uint64_t count = 0;
  std::span<const std::byte> bytes;
};

// Numbers are widened; the kind (unsigned, signed, floating) is the file's.
using GgufValue = std::variant<uint64_t, int64_t, double, bool, std::string_view, GgufArray>;

// The keys of one file. Typed getters: nullopt (or empty) where there is no such key,
// Error{kCorruption} naming file and key where its value is of another kind.
class GgufMetadata {
 public:
  struct Entry {
    std::string_view key;
    GgufValue value;
  };

  GgufMetadata() = default;
  // `entries` sorted by key, no key twice.
  GgufMetadata(std::string path, std::vector<Entry> entries)
      : path_(std::move(path)), entries_(std::move(entries)) {}

  const std::string& path() const { return path_; }
  const std::vector<Entry>& entries() const { return entries_; }
  const GgufValue* Find(std::string_view key) const;

  // A number without sign or fraction, whatever type it has.
  std::optional<uint64_t> Uint(std::string_view key) const;
  // Any number.
  std::optional<double> Number(std::string_view key) const;
  std::optional<bool> Bool(std::string_view key) const;
  std::optional<std::string_view> String(std::string_view key) const;
  std::vector<std::string_view> Strings(std::string_view key) const;
  // Elements of a 32-bit array, signed or not.
  std::vector<int32_t> Ints(std::string_view key) const;

 private:
  [[noreturn]] void FailKind(std::string_view key, const char* expected) const;

  std::string path_;
  std::vector<Entry> entries_;
};

struct GgufHeader {
  struct Tensor {
    std::string name;
    TensorView view;  // shape in row-major order: the file's dimensions reversed
  };

  uint32_t version = 0;
  GgufMetadata metadata;
  std::vector<Tensor> tensors;  // sorted by name, no name twice
};

// Checks the bytes of a whole file and returns views into them. `path` is for messages.
//
// Every count, length and offset is compared with the bytes that are there before anything is set
// aside for it; arrays nest at most eight deep; the tensors must follow one another with no more
// than padding between them.
// Cost: reads what is before the data once; memory in proportion to it.
// Errors: kCorruption, with the key or tensor and the offset; kUnimplemented for other versions and
// for types of tensors that are not computed with here.
GgufHeader ParseGguf(std::span<const std::byte> file, const std::string& path);

// A model from one file, or from the first of its parts (NAME-00001-of-00005.gguf), which lie in
// one directory. Threads: immutable.
class GgufModel : public WeightSource {
 public:
  // Errors: as ParseGguf; kNotFound, a file or a part is missing; kInvalidArgument, `path` is a
  // later part; kCorruption, the parts do not belong together.
  explicit GgufModel(const std::string& path);

  // Of the first file.
  const GgufMetadata& metadata() const { return files_[0].header.metadata; }

  const TensorView* Find(const std::string& name) const override;
  std::vector<std::string> Names() const override;
  std::string FileOf(const std::string& name) const override;
  std::optional<FilePlace> PlaceOf(const std::byte* data) const override;

 private:
  struct File {
    MappedFile file;
    GgufHeader header;
  };
  struct Place {
    std::string_view name;
    const TensorView* view;
    size_t file;
  };

  void Open(const std::string& path);
  void OpenOtherParts(const std::string& path);
  void IndexTensors();
  const Place* FindPlace(std::string_view name) const;

  std::vector<File> files_;
  std::vector<Place> places_;  // sorted by name
};

}  // namespace baleen

#endif  // BALEEN_FORMATS_GGUF_H_
