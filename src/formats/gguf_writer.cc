#include "formats/gguf_writer.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "base/check.h"
#include "formats/file_text.h"
#include "formats/gguf_format.h"

namespace baleen {

namespace {

constexpr uint32_t kVersion = 3;

// Integers of the machine are those of the file: little-endian.
template <typename T>
void Append(T value, std::string* out) {
  out->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void AppendString(std::string_view text, std::string* out) {
  Append<uint64_t>(text.size(), out);
  *out += text;
}

uint32_t TypeId(DType dtype) {
  const auto known = std::ranges::find(kGgufTensorTypes, dtype, &GgufTensorType::dtype);
  BALEEN_CHECK(known != kGgufTensorTypes.end());
  return known->id;
}

uint64_t Padded(uint64_t bytes) {
  return (bytes + kGgufAlignment - 1) / kGgufAlignment * kGgufAlignment;
}

}  // namespace

void GgufKeys::AddKey(std::string_view key, GgufType type) {
  AppendString(key, &bytes_);
  Append(static_cast<uint32_t>(type), &bytes_);
  ++count_;
}

void GgufKeys::AddUint(std::string_view key, uint32_t value) {
  AddKey(key, GgufType::kU32);
  Append(value, &bytes_);
}

void GgufKeys::AddFloat(std::string_view key, float value) {
  AddKey(key, GgufType::kF32);
  Append(value, &bytes_);
}

void GgufKeys::AddBool(std::string_view key, bool value) {
  AddKey(key, GgufType::kBool);
  Append(static_cast<uint8_t>(value), &bytes_);
}

void GgufKeys::AddString(std::string_view key, std::string_view value) {
  AddKey(key, GgufType::kString);
  AppendString(value, &bytes_);
}

void GgufKeys::AddStrings(std::string_view key, std::span<const std::string> values) {
  AddKey(key, GgufType::kArray);
  Append(static_cast<uint32_t>(GgufType::kString), &bytes_);
  Append<uint64_t>(values.size(), &bytes_);
  for (const std::string& value : values) AppendString(value, &bytes_);
}

void GgufKeys::AddInts(std::string_view key, std::span<const int32_t> values) {
  AddKey(key, GgufType::kArray);
  Append(static_cast<uint32_t>(GgufType::kI32), &bytes_);
  Append<uint64_t>(values.size(), &bytes_);
  for (const int32_t value : values) Append(value, &bytes_);
}

GgufWriter::GgufWriter(std::string path, const GgufKeys& keys,
                       const std::vector<TensorSpec>& tensors, bool sync)
    : file_(std::move(path)), sync_(sync) {
  std::string header;
  Append(kGgufMagic, &header);
  Append(kVersion, &header);
  Append<uint64_t>(tensors.size(), &header);
  Append(keys.count(), &header);
  header += keys.bytes();
  std::unordered_set<std::string_view> names;
  uint64_t data_bytes = 0;
  for (const TensorSpec& tensor : tensors) {
    BALEEN_CHECK(!tensor.name.empty() && tensor.name.size() <= kMaxGgufNameBytes);
    BALEEN_CHECK(names.insert(tensor.name).second);
    BALEEN_CHECK(!tensor.shape.empty() && tensor.shape.size() <= kMaxGgufDimensions);
    BALEEN_CHECK(tensor.shape.back() % BlockSize(tensor.dtype) == 0);
    AppendString(tensor.name, &header);
    Append(static_cast<uint32_t>(tensor.shape.size()), &header);
    for (size_t i = tensor.shape.size(); i-- > 0;) Append<uint64_t>(tensor.shape[i], &header);
    Append(TypeId(tensor.dtype), &header);
    Append(data_bytes, &header);
    regions_.push_back({data_bytes, tensor.size_bytes()});
    data_bytes += Padded(tensor.size_bytes());
    tensor_bytes_ += tensor.size_bytes();
  }
  header.resize(Padded(header.size()));
  for (Region& region : regions_) region.begin += header.size();
  file_bytes_ = header.size() + data_bytes;
  file_.Reserve(file_bytes_);
  file_.WriteAt(0, AsBytes(header));
  for (const Region& region : regions_) {
    const uint64_t end = region.begin + region.size;
    file_.WriteAt(end, AsBytes(std::string(Padded(end) - end, '\0')));
  }
}

void GgufWriter::Write(size_t tensor, uint64_t offset, std::span<const std::byte> bytes) {
  const Region& region = regions_.at(tensor);
  BALEEN_CHECK(offset <= region.size && bytes.size() <= region.size - offset);
  file_.WriteAt(region.begin + offset, bytes);
  written_bytes_ += bytes.size();
}

void GgufWriter::Finish() {
  BALEEN_CHECK(written_bytes_ == tensor_bytes_);
  file_.Commit(sync_);
}

}  // namespace baleen
