#include "formats/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "base/quote.h"
#include "formats/file_text.h"

namespace baleen {

namespace {

constexpr size_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr size_t kMaxRank = 64;  // what PyTorch allows

// Names that the format knows and DType does not.
constexpr std::array<std::string_view, 10> kOtherDTypes = {
    "U16", "U32", "U64", "C64", "F4", "F6_E2M3", "F6_E3M2", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ",
};

constexpr std::array<Lookalike, 4> kNotSafetensors = {{
    {"version https://git-lfs",
     "is a Git LFS pointer, not the weights; fetch them with `git lfs pull`"},
    {"GGUF", "is a GGUF file, not safetensors"},
    {std::string_view("PK\x03\x04", 4),
     "is a PyTorch pickle (or another zip archive), not safetensors; convert it to safetensors"},
    {"<", "is a web page, not safetensors; download the file again"},
}};

// Parses one file's header. Every way in which a file can be wrong has its own sentence.
class HeaderParser {
 public:
  HeaderParser(std::span<const std::byte> file, const std::string& path)
      : file_(file), path_(path) {}

  SafetensorsHeader Parse() {
    const std::string_view json = FindHeader();
    const JsonDocument document =
        JsonDocument::Parse(json, fmt::format("{}: header at offset {}", path_, kLengthBytes));
    SafetensorsHeader header;
    bool has_metadata = false;
    const simdjson::dom::object object = document.object();
    for (const auto [key, value] : object) {
      if (key == "__metadata__") {
        if (std::exchange(has_metadata, true)) Fail("__metadata__ comes twice in the header");
        header.metadata = ParseMetadata(value);
      } else {
        ParseTensor(key, value);
      }
    }
    CheckTiling();
    RefuseDuplicates();
    header.tensors.reserve(entries_.size());
    for (Entry& entry : entries_) {
      entry.tensor.view.data = file_.data() + data_offset_ + entry.begin;
      header.tensors.push_back(std::move(entry.tensor));
    }
    return header;
  }

 private:
  struct Entry {
    SafetensorsHeader::Tensor tensor;
    uint64_t begin = 0;  // relative to the data, as in the file
    uint64_t end = 0;
  };

  template <typename... Args>
  [[noreturn]] void Fail(fmt::format_string<Args...> format, Args&&... args) const {
    Throw(ErrorCode::kCorruption, "{}: {}", path_,
          fmt::format(format, std::forward<Args>(args)...));
  }

  // Returns the JSON text and sets data_offset_.
  std::string_view FindHeader() {
    const std::string_view text = AsText(file_);
    for (const Lookalike& other : kNotSafetensors) {
      if (text.starts_with(other.magic)) Fail("{}", other.advice);
    }
    if (file_.empty()) Fail("the file is empty; download it again");
    if (file_.size() < kLengthBytes) {
      Fail("{} bytes, but a safetensors file begins with 8 bytes of length; download it again",
           file_.size());
    }
    uint64_t header_bytes = 0;
    for (size_t i = kLengthBytes; i-- > 0;) {
      header_bytes = header_bytes << 8 | std::to_integer<uint64_t>(file_[i]);
    }
    if (header_bytes > kMaxHeaderBytes) {
      Fail("not a safetensors file: at offset 0, a header of {} bytes, more than the {} allowed",
           header_bytes, kMaxHeaderBytes);
    }
    const uint64_t available = file_.size() - kLengthBytes;
    if (header_bytes > available) {
      Fail(
          "cut short: at offset 0, a header of {} bytes, but {} follow: {} bytes are missing; "
          "download the file again",
          header_bytes, available, header_bytes - available);
    }
    if (header_bytes == 0) Fail("at offset 0, a header of 0 bytes, expected JSON");
    if (text[kLengthBytes] != '{') {
      Fail("the header at offset 8 begins with {}, expected \"{{\"",
           Quote(text.substr(kLengthBytes, 1)));
    }
    data_offset_ = kLengthBytes + static_cast<size_t>(header_bytes);
    return text.substr(kLengthBytes, static_cast<size_t>(header_bytes));
  }

  std::map<std::string, std::string> ParseMetadata(simdjson::dom::element value) const {
    simdjson::dom::object object;
    if (value.get(object)) Fail("__metadata__ in the header is not an object");
    std::map<std::string, std::string> metadata;
    for (const auto [key, entry] : object) {
      std::string_view text;
      if (entry.get(text)) Fail("__metadata__ {} in the header is not a string", Quote(key));
      if (!metadata.emplace(key, text).second) {
        Fail("__metadata__ {} comes twice in the header", Quote(key));
      }
    }
    return metadata;
  }

  void ParseTensor(std::string_view name, simdjson::dom::element value) {
    simdjson::dom::object object;
    if (value.get(object)) Fail("tensor {}: expected an object in the header", Quote(name));
    std::optional<simdjson::dom::element> dtype, shape, offsets;
    for (const auto [key, field] : object) {
      auto* slot = key == "dtype"          ? &dtype
                   : key == "shape"        ? &shape
                   : key == "data_offsets" ? &offsets
                                           : nullptr;
      if (slot == nullptr) Fail("tensor {}: unknown key {}", Quote(name), Quote(key));
      if (slot->has_value()) Fail("tensor {}: key {} comes twice", Quote(name), Quote(key));
      *slot = field;
    }
    const char* missing = !dtype ? "dtype" : !shape ? "shape" : !offsets ? "data_offsets" : nullptr;
    if (missing != nullptr) Fail("tensor {}: no {} in the header", Quote(name), missing);

    Entry entry;
    entry.tensor.name = std::string(name);
    entry.tensor.view.dtype = ParseDType(name, *dtype);
    entry.tensor.view.shape = ParseShape(name, *shape);
    ParseOffsets(*offsets, &entry);
    CheckSize(entry);
    entries_.push_back(std::move(entry));
  }

  DType ParseDType(std::string_view name, simdjson::dom::element value) const {
    std::string_view text;
    if (value.get(text)) Fail("tensor {}: dtype is not a string", Quote(name));
    if (const std::optional<DType> dtype = DTypeFromName(text)) return *dtype;
    if (std::find(kOtherDTypes.begin(), kOtherDTypes.end(), text) != kOtherDTypes.end()) {
      Throw(ErrorCode::kUnimplemented, "{}: tensor {}: elements of type {} are not supported",
            path_, Quote(name), text);
    }
    Fail("tensor {}: unknown dtype {}", Quote(name), Quote(text));
  }

  Shape ParseShape(std::string_view name, simdjson::dom::element value) const {
    simdjson::dom::array array;
    if (value.get(array)) Fail("tensor {}: shape is not an array", Quote(name));
    Shape shape;
    for (const simdjson::dom::element dim : array) {
      uint64_t size = 0;
      if (dim.get(size)) {
        Fail("tensor {}: dimension {} of the shape is not a whole number from 0 to 2^64-1",
             Quote(name), shape.size());
      }
      if (shape.size() == kMaxRank) {
        Fail("tensor {}: more than {} dimensions", Quote(name), kMaxRank);
      }
      shape.push_back(size);
    }
    return shape;
  }

  void ParseOffsets(simdjson::dom::element value, Entry* entry) const {
    const std::string name = Quote(entry->tensor.name);
    simdjson::dom::array array;
    if (value.get(array)) Fail("tensor {}: data_offsets is not an array", name);
    std::array<uint64_t, 2> offsets{};
    size_t count = 0;
    for (const simdjson::dom::element offset : array) {
      if (count == 2) Fail("tensor {}: data_offsets has more than two numbers", name);
      if (offset.get(offsets[count++])) {
        Fail("tensor {}: data_offsets is not two whole numbers from 0 to 2^64-1", name);
      }
    }
    if (count < 2) Fail("tensor {}: data_offsets has {} numbers, expected two", name, count);
    if (offsets[0] > offsets[1]) {
      Fail("tensor {}: data_offsets [{}, {}] end before they begin", name, offsets[0], offsets[1]);
    }
    entry->begin = offsets[0];
    entry->end = offsets[1];
  }

  // The bytes that the offsets span must be what dtype and shape need.
  void CheckSize(const Entry& entry) const {
    const TensorView& view = entry.tensor.view;
    uint64_t expected = DTypeSize(view.dtype);
    for (const size_t dim : view.shape) {
      if (__builtin_mul_overflow(expected, dim, &expected)) {
        Fail("tensor {}: {} of shape {} is more than 2^64 bytes", Quote(entry.tensor.name),
             DTypeName(view.dtype), ShapeToString(view.shape));
      }
    }
    if (entry.end - entry.begin != expected) {
      Fail("tensor {}: data_offsets [{}, {}] span {} bytes, but {} of shape {} needs {}",
           Quote(entry.tensor.name), entry.begin, entry.end, entry.end - entry.begin,
           DTypeName(view.dtype), ShapeToString(view.shape), expected);
    }
  }

  // Sorted by offset, the tensors must cover the data without hole or overlap, to its last byte.
  void CheckTiling() {
    std::sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) {
      return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
    });
    const uint64_t data_bytes = file_.size() - data_offset_;
    uint64_t covered = 0;
    const Entry* previous = nullptr;
    for (const Entry& entry : entries_) {
      const std::string name = previous == nullptr ? std::string("the start of the data")
                                                   : "tensor " + Quote(previous->tensor.name);
      if (entry.begin < covered) {
        Fail("tensor {} begins at offset {}, inside {}, which ends at {}", Quote(entry.tensor.name),
             FileOffset(entry.begin), name, FileOffset(covered));
      }
      if (entry.begin > covered) {
        Fail("tensor {} begins at offset {}, but {} ends at {}: a hole of {} bytes",
             Quote(entry.tensor.name), FileOffset(entry.begin), name, FileOffset(covered),
             entry.begin - covered);
      }
      covered = entry.end;
      previous = &entry;
    }
    if (covered > data_bytes) {
      Fail(
          "cut short: the header promises {} bytes, the file has {}: {} bytes are missing, "
          "tensor {} is the last one; download the file again",
          FileOffset(covered), file_.size(), covered - data_bytes, Quote(previous->tensor.name));
    }
    if (covered < data_bytes) {
      Fail("{} bytes after the last tensor, from offset {} on, that belong to no tensor",
           data_bytes - covered, FileOffset(covered));
    }
  }

  // For messages. Offsets beyond 2^64 are shown as the largest number.
  uint64_t FileOffset(uint64_t data_offset) const {
    uint64_t offset = 0;
    if (__builtin_add_overflow(data_offset, data_offset_, &offset)) return UINT64_MAX;
    return offset;
  }

  void RefuseDuplicates() {
    const auto by_name = [](const Entry& a, const Entry& b) {
      return a.tensor.name < b.tensor.name;
    };
    std::sort(entries_.begin(), entries_.end(), by_name);
    const auto twice = std::adjacent_find(
        entries_.begin(), entries_.end(),
        [](const Entry& a, const Entry& b) { return a.tensor.name == b.tensor.name; });
    if (twice != entries_.end()) {
      Fail("tensor {} comes twice in the header", Quote(twice->tensor.name));
    }
  }

  std::span<const std::byte> file_;
  const std::string& path_;
  size_t data_offset_ = 0;  // of the tensor data in the file
  std::vector<Entry> entries_;
};

}  // namespace

SafetensorsHeader ParseSafetensors(std::span<const std::byte> file, const std::string& path) {
  return HeaderParser(file, path).Parse();
}

const TensorView* SafetensorsFile::Find(std::string_view name) const {
  const auto& tensors = header_.tensors;
  const auto found = std::lower_bound(
      tensors.begin(), tensors.end(), name,
      [](const SafetensorsHeader::Tensor& a, std::string_view b) { return a.name < b; });
  return found != tensors.end() && found->name == name ? &found->view : nullptr;
}

}  // namespace baleen
