#include "formats/gptq.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/check.h"
#include "base/error.h"
#include "base/json.h"

namespace baleen {

namespace {

using simdjson::dom::element;

// One zero point less in each field of a word. Files of version 1 hold words from which this was
// subtracted, borrows between fields included, so adding it back is exact.
uint32_t OneInEachField(size_t bits) { return bits == 4 ? 0x11111111u : 0x01010101u; }

uint32_t LoadWord(const TensorView& view, size_t index) {
  uint32_t word;
  std::memcpy(&word, view.data + index * sizeof(word), sizeof(word));
  return word;
}

std::span<const std::byte> BytesOf(const auto& values) { return std::as_bytes(std::span(values)); }

// F16 bits of a scale. A BF16 scale has fewer digits but more range.
uint16_t LoadScale(const TensorView& view, size_t index) {
  uint16_t bits;
  std::memcpy(&bits, view.data + index * sizeof(bits), sizeof(bits));
  return view.dtype == DType::kF16 ? bits : F32ToF16(Bf16ToF32(bits));
}

const TensorView& Require(const WeightSource& source, const std::string& name, DType dtype,
                          size_t rank) {
  const TensorView* view = source.Find(name);
  if (view == nullptr) {
    Throw(ErrorCode::kCorruption, "tensor {} is missing: a quantized matrix needs it", name);
  }
  const bool is_scale = dtype == DType::kF16 && view->dtype == DType::kBF16;
  if ((view->dtype != dtype && !is_scale) || view->shape.size() != rank) {
    Throw(ErrorCode::kCorruption, "{}: tensor {} is {} {}, expected {} with {} dimensions",
          source.FileOf(name), name, DTypeName(view->dtype), ShapeToString(view->shape),
          DTypeName(dtype), rank);
  }
  return *view;
}

void RequireShape(const WeightSource& source, const std::string& name, const TensorView& view,
                  const Shape& expected) {
  if (view.shape == expected) return;
  Throw(ErrorCode::kCorruption, "{}: tensor {} has shape {}, but the matrix asks for {}",
        source.FileOf(name), name, ShapeToString(view.shape), ShapeToString(expected));
}

std::string StringOr(simdjson::dom::object object, std::initializer_list<std::string_view> keys,
                     std::string_view otherwise) {
  for (std::string_view key : keys) {
    std::string_view text;
    if (!object.at_key(key).get_string().get(text)) return std::string(text);
  }
  return std::string(otherwise);
}

}  // namespace

GptqConfig ParseGptqConfig(std::string_view json, const std::string& source) {
  const JsonDocument document = JsonDocument::Parse(json, source);
  const simdjson::dom::object root = document.object();
  const auto refuse = [&](ErrorCode code, std::string_view problem) {
    Throw(code, "{}: quantization {}", source, problem);
  };
  GptqConfig config;
  int64_t bits = 0, group_size = -1;
  if (root.at_key("bits").get_int64().get(bits)) {
    refuse(ErrorCode::kCorruption, "config needs a number of \"bits\"");
  }
  if (bits != 4 && bits != 8) {
    refuse(ErrorCode::kUnimplemented,
           fmt::format("in {} bits is not supported; 4 and 8 are", bits));
  }
  config.bits = static_cast<size_t>(bits);
  element group;
  if (!root.at_key("group_size").get(group) && group.get_int64().get(group_size)) {
    refuse(ErrorCode::kCorruption, "config's group_size is not a number");
  }
  if (group_size == 0 || group_size < -1 || group_size > (int64_t{1} << 31)) {
    refuse(ErrorCode::kCorruption,
           fmt::format("config's group_size of {} makes no sense", group_size));
  }
  config.group_cols = group_size < 0 ? 0 : static_cast<size_t>(group_size);

  const std::string format = StringOr(root, {"checkpoint_format", "format"}, "gptq");
  if (format != "gptq" && format != "gptq_v2") {
    refuse(ErrorCode::kUnimplemented,
           fmt::format("format {} is not supported; gptq and gptq_v2 are", format));
  }
  config.version = format == "gptq" ? GptqVersion::kV1 : GptqVersion::kV2;
  const std::string pack = StringOr(root, {"pack_dtype"}, "int32");
  if (pack != "int32") {
    refuse(ErrorCode::kUnimplemented,
           fmt::format("packed into {} is not supported; int32 is", pack));
  }
  bool lm_head = false;
  if (!root.at_key("lm_head").get_bool().get(lm_head) && lm_head) {
    refuse(ErrorCode::kUnimplemented, "of lm_head is not supported");
  }
  simdjson::dom::object dynamic;
  if (!root.at_key("dynamic").get_object().get(dynamic)) {
    // "-:PATTERN" names matrices that are not quantized, which their tensors show anyway.
    for (const auto& [pattern, value] : dynamic) {
      config.has_overrides |= !pattern.starts_with("-:");
    }
  }
  return config;
}

void GptqMatrix::DecodeRow(size_t row, float* out) const {
  const size_t groups = shape.num_groups();
  for (size_t c = 0; c < shape.cols; ++c) {
    const size_t g = row * groups + static_cast<size_t>(g_idx[c]);
    out[c] = static_cast<float>(codes[row * shape.cols + c] - zeros[g]) * F16ToF32(scales[g]);
  }
}

std::vector<TensorSpec> GptqTensorSpecs(const std::string& name, const GptqShape& shape) {
  BALEEN_CHECK(shape.IsPackable());
  const size_t groups = shape.num_groups(), per_word = shape.codes_per_word();
  return {{name + ".qweight", DType::kI32, {shape.cols / per_word, shape.rows}},
          {name + ".qzeros", DType::kI32, {groups, shape.rows / per_word}},
          {name + ".scales", DType::kF16, {groups, shape.rows}},
          {name + ".g_idx", DType::kI32, {shape.cols}}};
}

void WriteGptq(const std::string& name, const GptqMatrix& matrix, GptqVersion version,
               SafetensorsWriter& writer) {
  const GptqShape& s = matrix.shape;
  const size_t per_word = s.codes_per_word(), groups = s.num_groups();
  std::vector<uint32_t> qweight(s.cols / per_word * s.rows, 0);
  for (size_t row = 0; row < s.rows; ++row) {
    const uint8_t* codes = matrix.codes.data() + row * s.cols;
    for (size_t c = 0; c < s.cols; ++c) {
      qweight[c / per_word * s.rows + row] |= uint32_t{codes[c]} << (c % per_word * s.bits);
    }
  }
  std::vector<uint32_t> qzeros(groups * (s.rows / per_word), 0);
  std::vector<uint16_t> scales(groups * s.rows);
  for (size_t g = 0; g < groups; ++g) {
    for (size_t row = 0; row < s.rows; ++row) {
      scales[g * s.rows + row] = matrix.scales[row * groups + g];
      qzeros[(g * s.rows + row) / per_word] |= uint32_t{matrix.zeros[row * groups + g]}
                                               << (row % per_word * s.bits);
    }
  }
  if (version == GptqVersion::kV1) {
    for (uint32_t& word : qzeros) word -= OneInEachField(s.bits);
  }
  writer.Write(name + ".qweight", BytesOf(qweight));
  writer.Write(name + ".qzeros", BytesOf(qzeros));
  writer.Write(name + ".scales", BytesOf(scales));
  writer.Write(name + ".g_idx", BytesOf(matrix.g_idx));
}

bool GptqTensor::IsIn(const WeightSource& source, const std::string& name) {
  return source.Find(name + ".qweight") != nullptr;
}

GptqTensor::GptqTensor(const WeightSource& source, const std::string& name,
                       const GptqConfig& config, size_t rows, size_t cols)
    : version_(config.version),
      qweight_(Require(source, name + ".qweight", DType::kI32, 2)),
      qzeros_(Require(source, name + ".qzeros", DType::kI32, 2)),
      scales_(Require(source, name + ".scales", DType::kF16, 2)) {
  shape_ = {.rows = rows, .cols = cols, .bits = config.bits};
  const size_t groups = scales_.shape[0];
  if (config.has_overrides) {
    shape_.bits = qweight_.shape[0] == cols / 4 ? 8 : 4;
    shape_.group_cols = groups == 0 ? 0 : (cols + groups - 1) / groups;
  } else {
    shape_.group_cols = config.group_cols == 0 ? cols : std::min(config.group_cols, cols);
  }
  if (shape_.group_cols == 0 || !shape_.IsPackable()) {
    Throw(ErrorCode::kCorruption,
          "{}: tensor {}.qweight of {} rows and {} columns cannot be in {} bits and {} groups",
          source.FileOf(name + ".qweight"), name, rows, cols, shape_.bits, groups);
  }
  for (const TensorSpec& spec : GptqTensorSpecs(name, shape_)) {
    const TensorView* view = source.Find(spec.name);
    if (view != nullptr) RequireShape(source, spec.name, *view, spec.shape);
  }
  CheckScales(source, name);
  FindColumnOrder(source, name);

  const uint32_t middle = shape_.middle() * OneInEachField(shape_.bits);
  const uint32_t stored =
      version_ == GptqVersion::kV1 ? middle - OneInEachField(shape_.bits) : middle;
  uint32_t differing = 0;
  for (size_t i = 0; i < qzeros_.num_elements(); ++i) differing |= LoadWord(qzeros_, i) ^ stored;
  has_zeros_ = differing != 0;
}

namespace {

// Whether none of the F16 numbers is infinite or NaN: most files are checked by this alone.
bool AllFinite(const TensorView& view) {
  uint16_t largest = 0;
  for (size_t i = 0; i < view.num_elements(); ++i) {
    uint16_t bits;
    std::memcpy(&bits, view.data + i * sizeof(bits), sizeof(bits));
    largest = std::max<uint16_t>(largest, bits & 0x7fff);
  }
  return largest < 0x7c00;
}

}  // namespace

void GptqTensor::CheckScales(const WeightSource& source, const std::string& name) const {
  if (scales_.dtype == DType::kF16 && AllFinite(scales_)) return;
  for (size_t i = 0; i < scales_.num_elements(); ++i) {
    uint16_t stored;
    std::memcpy(&stored, scales_.data + i * sizeof(stored), sizeof(stored));
    const float scale = scales_.dtype == DType::kF16 ? F16ToF32(stored) : Bf16ToF32(stored);
    if (!std::isfinite(scale)) {
      Throw(ErrorCode::kCorruption, "{}: tensor {}.scales holds {} at element {}",
            source.FileOf(name + ".scales"), name, scale, i);
    }
    if (F16ToF32(LoadScale(scales_, i)) != scale) {
      Throw(ErrorCode::kUnimplemented, "{}: tensor {}.scales holds {}, which F16 does not have",
            source.FileOf(name + ".scales"), name, scale);
    }
  }
}

void GptqTensor::FindColumnOrder(const WeightSource& source, const std::string& name) {
  const std::string tensor = name + ".g_idx";
  if (source.Find(tensor) == nullptr) return;
  const TensorView& view = Require(source, tensor, DType::kI32, 1);
  const size_t groups = shape_.num_groups();
  std::vector<int32_t> g_idx(shape_.cols);
  std::memcpy(g_idx.data(), view.data, view.size_bytes());
  std::vector<size_t> sizes(groups, 0);
  bool plain = true, zero = true;
  for (size_t c = 0; c < shape_.cols; ++c) {
    // Some writers count groups from behind, as Python's indices do.
    if (g_idx[c] < 0 && g_idx[c] >= -static_cast<int64_t>(groups)) {
      g_idx[c] += static_cast<int32_t>(groups);
    }
    if (g_idx[c] < 0 || static_cast<size_t>(g_idx[c]) >= groups) {
      Throw(ErrorCode::kCorruption, "{}: tensor {} puts column {} into group {} of {}",
            source.FileOf(tensor), tensor, c, g_idx[c], groups);
    }
    ++sizes[static_cast<size_t>(g_idx[c])];
    plain &= static_cast<size_t>(g_idx[c]) == c / shape_.group_cols;
    zero &= g_idx[c] == 0;
  }
  if (plain || zero) return;  // all zero: never filled in
  for (size_t g = 0; g < groups; ++g) {
    const size_t expected = std::min(shape_.group_cols, shape_.cols - g * shape_.group_cols);
    if (sizes[g] != expected) {
      Throw(ErrorCode::kUnimplemented,
            "{}: tensor {} gives group {} {} columns; only groups of one size ({}) are supported",
            source.FileOf(tensor), tensor, g, sizes[g], expected);
    }
  }
  column_order_.resize(shape_.cols);
  std::iota(column_order_.begin(), column_order_.end(), 0);
  std::ranges::stable_sort(column_order_, {},
                           [&](int32_t c) { return g_idx[static_cast<size_t>(c)]; });
}

uint32_t GptqTensor::ZeroWord(size_t group, size_t word) const {
  const uint32_t stored = LoadWord(qzeros_, group * (shape_.rows / shape_.codes_per_word()) + word);
  return version_ == GptqVersion::kV1 ? stored + OneInEachField(shape_.bits) : stored;
}

namespace {

// The codes of a word, lowest first, a byte each.
void SpreadWord(uint32_t word, size_t bits, uint8_t* codes) {
  if (bits == 8) {
    std::memcpy(codes, &word, sizeof(word));
    return;
  }
  uint64_t spread = word;
  spread = (spread | spread << 16) & 0x0000ffff0000ffffu;
  spread = (spread | spread << 8) & 0x00ff00ff00ff00ffu;
  spread = (spread | spread << 4) & 0x0f0f0f0f0f0f0f0fu;
  std::memcpy(codes, &spread, sizeof(spread));
}

}  // namespace

void GptqTensor::Read(size_t first, size_t count, uint8_t* codes, uint16_t* scales,
                      uint16_t* zeros) const {
  const size_t per_word = shape_.codes_per_word(), groups = shape_.num_groups();
  const uint32_t mask = (1u << shape_.bits) - 1;
  BALEEN_CHECK(first + count <= shape_.rows);
  // Rows that share cache lines are read together.
  for (size_t word = 0; word < shape_.cols / per_word; ++word) {
    for (size_t r = 0; r < count; ++r) {
      SpreadWord(LoadWord(qweight_, word * shape_.rows + first + r), shape_.bits,
                 codes + r * shape_.cols + word * per_word);
    }
  }
  if (!column_order_.empty()) {
    std::vector<uint8_t> stored(shape_.cols);
    for (size_t r = 0; r < count; ++r) {
      uint8_t* const row = codes + r * shape_.cols;
      std::memcpy(stored.data(), row, stored.size());
      for (size_t c = 0; c < shape_.cols; ++c) {
        row[c] = stored[static_cast<size_t>(column_order_[c])];
      }
    }
  }
  for (size_t g = 0; g < groups; ++g) {
    for (size_t r = 0; r < count; ++r) {
      const size_t row = first + r;
      scales[r * groups + g] = LoadScale(scales_, g * shape_.rows + row);
      if (zeros == nullptr) continue;
      zeros[r * groups + g] = static_cast<uint16_t>(
          ZeroWord(g, row / per_word) >> (row % per_word * shape_.bits) & mask);
    }
  }
}

}  // namespace baleen
