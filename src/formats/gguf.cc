#include "formats/gguf.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/quote.h"
#include "formats/file_text.h"
#include "formats/gguf_format.h"

namespace baleen {

namespace {

constexpr size_t kMaxKeyBytes = 65535;
constexpr size_t kMaxArrayDepth = 8;
constexpr uint64_t kMaxAlignment = uint64_t{1} << 20;
// The least that an entry takes in the file: an empty name, a type, and a value of one byte; an
// empty name, one dimension, type and offset.
constexpr uint64_t kMinKeyBytes = 8 + 4 + 1;
constexpr uint64_t kMinTensorBytes = 8 + 4 + 8 + 4 + 8;

// Bytes of one element of a scalar type; 0 for strings and arrays.
constexpr std::array<uint64_t, 13> kScalarBytes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

constexpr std::array<Lookalike, 4> kNotGguf = {{
    {"version https://git-lfs",
     "is a Git LFS pointer, not the weights; fetch them with `git lfs pull`"},
    {"ggjt", "is a GGML file from before GGUF; convert the model again"},
    {"tjgg", "is a GGML file from before GGUF; convert the model again"},
    {"<", "is a web page, not GGUF; download the file again"},
}};

template <typename T>
T LoadAs(const std::byte* data) {
  T value;
  std::memcpy(&value, data, sizeof(value));
  return value;
}

// Parses one file from front to back.
class Parser {
 public:
  Parser(std::span<const std::byte> file, const std::string& path) : file_(file), path_(path) {}

  GgufHeader Parse() {
    GgufHeader header;
    header.version = ParsePreamble();
    const uint64_t num_tensors = ReadCount("tensors", kMinTensorBytes);
    const uint64_t num_keys = ReadCount("keys", kMinKeyBytes);
    header.metadata = ParseMetadata(num_keys);
    const uint64_t alignment = ParseAlignment(header.metadata);
    tensors_.reserve(num_tensors);
    for (uint64_t i = 0; i < num_tensors; ++i) ParseTensor(i, alignment);
    data_offset_ = (offset_ + alignment - 1) / alignment * alignment;
    CheckPlaces(alignment);
    header.tensors = SortedByName();
    return header;
  }

 private:
  struct Entry {
    GgufHeader::Tensor tensor;
    uint64_t begin = 0;  // relative to the data
    uint64_t size = 0;
    uint64_t info_offset = 0;  // of its description in the file
  };

  template <typename... Args>
  [[noreturn]] void Fail(fmt::format_string<Args...> format, Args&&... args) const {
    Throw(ErrorCode::kCorruption, "{}: {}", path_,
          fmt::format(format, std::forward<Args>(args)...));
  }

  uint64_t Left() const { return file_.size() - offset_; }

  // `what` is where in the file we are, for the message.
  std::span<const std::byte> Take(uint64_t bytes, const std::string& what) {
    if (bytes > Left()) {
      Fail("cut short: at offset {}, {} needs {} bytes, but {} are left; download the file again",
           offset_, what, bytes, Left());
    }
    const auto taken = file_.subspan(offset_, bytes);
    offset_ += bytes;
    return taken;
  }

  template <typename T>
  T Read(const std::string& what) {
    return LoadAs<T>(Take(sizeof(T), what).data());
  }

  std::string_view ReadString(const std::string& what) {
    const uint64_t length = Read<uint64_t>("the length of " + what);
    return AsText(Take(length, what));
  }

  uint32_t ParsePreamble() {
    for (const Lookalike& other : kNotGguf) {
      if (AsText(file_).starts_with(other.magic)) Fail("{}", other.advice);
    }
    if (file_.empty()) Fail("the file is empty; download it again");
    const uint32_t magic = Read<uint32_t>("the magic");
    if (magic != kGgufMagic)
      Fail("not a GGUF file: it begins with {}", Quote(AsText(file_.first(4))));
    const uint32_t version = Read<uint32_t>("the version");
    if (version == 2 || version == 3) return version;
    const char* advice = "versions 2 and 3 are read; convert the model again";
    if ((version & 0xffff) == 0) advice = "a big-endian file; convert it to little-endian";
    Throw(version == 0 ? ErrorCode::kCorruption : ErrorCode::kUnimplemented,
          "{}: at offset 4, version {}: {}", path_, version, advice);
  }

  uint64_t ReadCount(const char* what, uint64_t min_bytes) {
    const uint64_t at = offset_;
    const uint64_t count = Read<uint64_t>(fmt::format("the number of {}", what));
    if (count > Left() / min_bytes) {
      Fail("at offset {}, {} {}, more than the {} bytes that follow can hold", at, count, what,
           Left());
    }
    return count;
  }

  GgufType ReadType(const std::string& what) {
    const uint64_t at = offset_;
    const uint32_t type = Read<uint32_t>("the type of " + what);
    if (type >= kScalarBytes.size()) Fail("at offset {}, {} has unknown type {}", at, what, type);
    return static_cast<GgufType>(type);
  }

  GgufMetadata ParseMetadata(uint64_t num_keys) {
    std::vector<GgufMetadata::Entry> entries;
    entries.reserve(num_keys);
    for (uint64_t i = 0; i < num_keys; ++i) {
      const uint64_t at = offset_;
      const std::string_view key = ReadString(fmt::format("key {}", i));
      if (key.empty() || key.size() > kMaxKeyBytes) {
        Fail("at offset {}, key {} has {} bytes, expected 1 to {}", at, i, key.size(),
             kMaxKeyBytes);
      }
      const std::string what = fmt::format("key {}", Quote(key));
      entries.push_back({key, ReadValue(ReadType(what), what)});
    }
    std::ranges::sort(entries, {}, &GgufMetadata::Entry::key);
    const auto twice = std::ranges::adjacent_find(entries, {}, &GgufMetadata::Entry::key);
    if (twice != entries.end()) {
      Fail("key {} comes twice, again at offset {}", Quote(twice->key),
           std::max(OffsetOf(twice->key), OffsetOf((twice + 1)->key)));
    }
    return {path_, std::move(entries)};
  }

  uint64_t OffsetOf(std::string_view text) const {
    return static_cast<uint64_t>(reinterpret_cast<const std::byte*>(text.data()) - file_.data());
  }

  GgufValue ReadValue(GgufType type, const std::string& what) {
    switch (type) {
      case GgufType::kU8:
        return uint64_t{Read<uint8_t>(what)};
      case GgufType::kU16:
        return uint64_t{Read<uint16_t>(what)};
      case GgufType::kU32:
        return uint64_t{Read<uint32_t>(what)};
      case GgufType::kU64:
        return Read<uint64_t>(what);
      case GgufType::kI8:
        return int64_t{Read<int8_t>(what)};
      case GgufType::kI16:
        return int64_t{Read<int16_t>(what)};
      case GgufType::kI32:
        return int64_t{Read<int32_t>(what)};
      case GgufType::kI64:
        return Read<int64_t>(what);
      case GgufType::kF32:
        return double{Read<float>(what)};
      case GgufType::kF64:
        return Read<double>(what);
      case GgufType::kBool: {
        const auto value = Read<uint8_t>(what);
        if (value > 1) {
          Fail("at offset {}, {} is a bool of value {}, expected 0 or 1", offset_ - 1, what, value);
        }
        return value == 1;
      }
      case GgufType::kString:
        return ReadString(what);
      case GgufType::kArray:
        return ReadArray(what, 1);
    }
    Fail("at offset {}, {} has an unknown type", offset_, what);
  }

  GgufArray ReadArray(const std::string& what, size_t depth) {
    if (depth > kMaxArrayDepth) {
      Fail("at offset {}, {} nests arrays more than {} deep", offset_, what, kMaxArrayDepth);
    }
    GgufArray array;
    array.type = ReadType(what);
    const uint64_t at = offset_;
    array.count = Read<uint64_t>("the number of elements of " + what);
    const uint64_t begin = offset_;
    uint64_t min_bytes = kScalarBytes[static_cast<size_t>(array.type)];
    if (array.type == GgufType::kString) min_bytes = 8;
    if (array.type == GgufType::kArray) min_bytes = 12;
    if (array.count > Left() / min_bytes) {
      Fail("at offset {}, {} has {} elements, more than the {} bytes that follow can hold", at,
           what, array.count, Left());
    }
    if (array.type == GgufType::kString) {
      const std::string element = "a string in " + what;
      for (uint64_t i = 0; i < array.count; ++i) ReadString(element);
    } else if (array.type == GgufType::kArray) {
      for (uint64_t i = 0; i < array.count; ++i) ReadArray(what, depth + 1);
    } else {
      Take(array.count * min_bytes, what);
    }
    array.bytes = file_.subspan(begin, offset_ - begin);
    return array;
  }

  uint64_t ParseAlignment(const GgufMetadata& metadata) const {
    const uint64_t alignment = metadata.Uint("general.alignment").value_or(kGgufAlignment);
    if (!std::has_single_bit(alignment) || alignment < 8 || alignment > kMaxAlignment) {
      Fail("key \"general.alignment\" is {}, expected a power of two from 8 to {}", alignment,
           kMaxAlignment);
    }
    return alignment;
  }

  DType ReadDType(const std::string& what) {
    const uint64_t at = offset_;
    const uint32_t id = Read<uint32_t>("the type of " + what);
    const auto known = std::ranges::find(kGgufTensorTypes, id, &GgufTensorType::id);
    if (known != kGgufTensorTypes.end() && known->dtype) return *known->dtype;
    const std::string type = known == kGgufTensorTypes.end()
                                 ? fmt::format("with the number {}, which is unknown here", id)
                                 : std::string(known->name);
    Throw(ErrorCode::kUnimplemented,
          "{}: at offset {}, {} has type {}; F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K to "
          "Q6_K, IQ4_NL and IQ4_XS are read",
          path_, at, what, type);
  }

  void ParseTensor(uint64_t index, uint64_t alignment) {
    Entry entry;
    entry.info_offset = offset_;
    const std::string_view name = ReadString(fmt::format("the name of tensor {}", index));
    if (name.empty() || name.size() > kMaxGgufNameBytes) {
      Fail("at offset {}, tensor {} has a name of {} bytes, expected 1 to {}", entry.info_offset,
           index, name.size(), kMaxGgufNameBytes);
    }
    const std::string what = fmt::format("tensor {}", Quote(name));
    const uint64_t at = offset_;
    const uint32_t num_dimensions = Read<uint32_t>("the number of dimensions of " + what);
    if (num_dimensions == 0 || num_dimensions > kMaxGgufDimensions) {
      Fail("at offset {}, {} has {} dimensions, expected 1 to {}", at, what, num_dimensions,
           kMaxGgufDimensions);
    }
    TensorView& view = entry.tensor.view;
    for (uint32_t i = 0; i < num_dimensions; ++i) {
      const uint64_t dim_offset = offset_;
      view.shape.push_back(Read<uint64_t>("the dimensions of " + what));
      if (view.shape.back() == 0) {
        Fail("at offset {}, dimension {} of {} is 0", dim_offset, i, what);
      }
    }
    const uint64_t row = view.shape[0];
    std::ranges::reverse(view.shape);
    view.dtype = ReadDType(what);
    entry.size = SizeOf(view, what, row, at);
    const uint64_t offset_at = offset_;
    entry.begin = Read<uint64_t>("the offset of " + what);
    if (entry.begin % alignment != 0) {
      Fail("at offset {}, {} lies at {} of the data, not a multiple of the alignment {}", offset_at,
           what, entry.begin, alignment);
    }
    entry.tensor.name = std::string(name);
    tensors_.push_back(std::move(entry));
  }

  uint64_t SizeOf(const TensorView& view, const std::string& what, uint64_t row,
                  uint64_t at) const {
    if (row % BlockSize(view.dtype) != 0) {
      Fail("at offset {}, rows of {} have {} elements, not a multiple of the {} in a block of {}",
           at, what, row, BlockSize(view.dtype), DTypeName(view.dtype));
    }
    uint64_t elements = 1, size = 0;
    for (const size_t dim : view.shape) {
      if (__builtin_mul_overflow(elements, dim, &elements)) elements = UINT64_MAX;
    }
    if (elements == UINT64_MAX ||
        __builtin_mul_overflow(elements / BlockSize(view.dtype), DTypeSize(view.dtype), &size)) {
      Fail("at offset {}, {}: {} of shape {} is more than 2^64 bytes", at, what,
           DTypeName(view.dtype), ShapeToString(view.shape));
    }
    return size;
  }

  // Sorted by offset, the tensors must follow one another, each behind the padding of the one
  // before, and reach the end of the file.
  void CheckPlaces(uint64_t alignment) {
    std::ranges::sort(tensors_, {}, &Entry::begin);
    const uint64_t data_bytes = file_.size() > data_offset_ ? file_.size() - data_offset_ : 0;
    uint64_t covered = 0;
    std::string previous = "the start of the data";
    for (Entry& entry : tensors_) {
      const std::string name = Quote(entry.tensor.name);
      if (entry.begin > data_bytes || entry.size > data_bytes - entry.begin) {
        Fail(
            "cut short: tensor {} (described at offset {}) takes {} bytes from {} of the data on, "
            "but the file has {} bytes of data; download the file again",
            name, entry.info_offset, entry.size, entry.begin, data_bytes);
      }
      if (entry.begin < covered) {
        Fail("tensor {} begins at offset {}, inside {}, which ends at {}", name,
             data_offset_ + entry.begin, previous, data_offset_ + covered);
      }
      if (entry.begin - covered >= alignment) {
        Fail("tensor {} begins at offset {}, but {} ends at {}: a hole of {} bytes", name,
             data_offset_ + entry.begin, previous, data_offset_ + covered, entry.begin - covered);
      }
      covered = entry.begin + entry.size;
      entry.tensor.view.data = file_.data() + data_offset_ + entry.begin;
      previous = "tensor " + name;
    }
    if (data_bytes - covered >= alignment) {
      Fail("{} bytes after {}, from offset {} on, that belong to no tensor", data_bytes - covered,
           previous, data_offset_ + covered);
    }
  }

  std::vector<GgufHeader::Tensor> SortedByName() {
    std::ranges::sort(tensors_, {},
                      [](const Entry& e) -> const std::string& { return e.tensor.name; });
    std::vector<GgufHeader::Tensor> sorted;
    sorted.reserve(tensors_.size());
    uint64_t previous_offset = 0;
    for (Entry& entry : tensors_) {
      if (!sorted.empty() && sorted.back().name == entry.tensor.name) {
        Fail("tensor {} comes twice, again at offset {}", Quote(entry.tensor.name),
             std::max(previous_offset, entry.info_offset));
      }
      previous_offset = entry.info_offset;
      sorted.push_back(std::move(entry.tensor));
    }
    return sorted;
  }

  std::span<const std::byte> file_;
  const std::string& path_;
  uint64_t offset_ = 0;
  uint64_t data_offset_ = 0;
  std::vector<Entry> tensors_;
};

}  // namespace

GgufHeader ParseGguf(std::span<const std::byte> file, const std::string& path) {
  return Parser(file, path).Parse();
}

const GgufValue* GgufMetadata::Find(std::string_view key) const {
  const auto found = std::ranges::lower_bound(entries_, key, {}, &Entry::key);
  return found != entries_.end() && found->key == key ? &found->value : nullptr;
}

void GgufMetadata::FailKind(std::string_view key, const char* expected) const {
  Throw(ErrorCode::kCorruption, "{}: the value of key {} is not {}", path_, Quote(key), expected);
}

std::optional<uint64_t> GgufMetadata::Uint(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* number = std::get_if<uint64_t>(value)) return *number;
  const auto* number = std::get_if<int64_t>(value);
  if (number == nullptr || *number < 0) FailKind(key, "a whole number from 0 on");
  return static_cast<uint64_t>(*number);
}

std::optional<double> GgufMetadata::Number(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* number = std::get_if<double>(value)) return *number;
  if (const auto* number = std::get_if<uint64_t>(value)) return static_cast<double>(*number);
  if (const auto* number = std::get_if<int64_t>(value)) return static_cast<double>(*number);
  FailKind(key, "a number");
}

std::optional<bool> GgufMetadata::Bool(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* flag = std::get_if<bool>(value)) return *flag;
  FailKind(key, "a bool");
}

std::optional<std::string_view> GgufMetadata::String(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* text = std::get_if<std::string_view>(value)) return *text;
  FailKind(key, "a string");
}

std::vector<std::string_view> GgufMetadata::Strings(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return {};
  const auto* array = std::get_if<GgufArray>(value);
  if (array == nullptr || array->type != GgufType::kString) FailKind(key, "an array of strings");
  std::vector<std::string_view> strings;
  strings.reserve(array->count);
  const std::byte* at = array->bytes.data();
  for (uint64_t i = 0; i < array->count; ++i) {
    const uint64_t length = LoadAs<uint64_t>(at);
    strings.emplace_back(reinterpret_cast<const char*>(at + 8), length);
    at += 8 + length;
  }
  return strings;
}

std::vector<int32_t> GgufMetadata::Ints(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return {};
  const auto* array = std::get_if<GgufArray>(value);
  if (array == nullptr || (array->type != GgufType::kI32 && array->type != GgufType::kU32)) {
    FailKind(key, "an array of 32-bit numbers");
  }
  std::vector<int32_t> numbers(array->count);
  if (array->count > 0) std::memcpy(numbers.data(), array->bytes.data(), array->bytes.size());
  return numbers;
}

}  // namespace baleen
