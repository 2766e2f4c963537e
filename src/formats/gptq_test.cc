#include "formats/gptq.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <map>

#include "base/error.h"
#include "formats/safetensors.h"

namespace baleen {
namespace {

constexpr size_t kRows = 16, kCols = 64;

// Tensors in memory, each of which a test can replace.
class Tensors : public WeightSource {
 public:
  explicit Tensors(const std::string& prefix)
      : file_(BALEEN_SOURCE_DIR "/tests/golden/gptq_layout.safetensors") {
    for (const auto& tensor : file_.tensors()) {
      if (tensor.name.starts_with(prefix + ".")) {
        views_["m" + tensor.name.substr(prefix.size())] = tensor.view;
      }
    }
  }
  const TensorView* Find(const std::string& name) const override {
    const auto found = views_.find(name);
    return found == views_.end() ? nullptr : &found->second;
  }
  std::vector<std::string> Names() const override { return {}; }
  std::optional<FilePlace> PlaceOf(const std::byte*) const override { return std::nullopt; }
  std::string FileOf(const std::string&) const override { return "m.safetensors"; }

  void Remove(const std::string& name) { views_.erase(name); }
  TensorView& At(const std::string& name) { return views_.at(name); }
  // The bytes of a tensor, to be changed.
  template <typename T>
  T* Own(const std::string& name) {
    TensorView& view = views_.at(name);
    auto& bytes = owned_[name];
    bytes.assign(view.data, view.data + view.size_bytes());
    view.data = bytes.data();
    return reinterpret_cast<T*>(bytes.data());
  }

 private:
  SafetensorsFile file_;
  std::map<std::string, TensorView> views_;
  std::map<std::string, std::vector<std::byte>> owned_;
};

GptqConfig ConfigOf(const std::string& version, size_t bits, const std::string& kind) {
  return {.bits = bits,
          .group_cols = kind == "row" ? size_t{0} : size_t{32},
          .version = version == "v1" ? GptqVersion::kV1 : GptqVersion::kV2};
}

std::vector<float> Decode(const GptqTensor& tensor) {
  const GptqShape& s = tensor.shape();
  std::vector<uint8_t> codes(s.rows * s.cols);
  std::vector<uint16_t> scales(s.rows * s.num_groups()), zeros(scales.size());
  // In two pieces: a row's place in its words must not matter.
  const size_t cut = 5;
  tensor.Read(0, cut, codes.data(), scales.data(), zeros.data());
  tensor.Read(cut, s.rows - cut, codes.data() + cut * s.cols, scales.data() + cut * s.num_groups(),
              zeros.data() + cut * s.num_groups());
  std::vector<float> values(s.rows * s.cols);
  for (size_t r = 0; r < s.rows; ++r) {
    for (size_t c = 0; c < s.cols; ++c) {
      const size_t g = r * s.num_groups() + c / s.group_cols;
      const size_t col =
          tensor.has_plain_groups() ? c : static_cast<size_t>(tensor.column_order()[c]);
      values[r * s.cols + col] =
          static_cast<float>(codes[r * s.cols + c] - zeros[g]) * F16ToF32(scales[g]);
    }
  }
  return values;
}

TEST(GptqTensor, DecodesWhatNumpyPacked) {
  for (const std::string version : {"v1", "v2"}) {
    for (size_t bits : {4, 8}) {
      for (const std::string kind : {"symmetric", "asymmetric", "act_order", "row"}) {
        const std::string name = version + "." + std::to_string(bits) + "." + kind;
        const Tensors tensors(name);
        const GptqTensor tensor(tensors, "m", ConfigOf(version, bits, kind), kRows, kCols);
        EXPECT_EQ(Decode(tensor), ToF32(*tensors.Find("m.expected"))) << name;
        EXPECT_EQ(tensor.has_zeros(), kind == "asymmetric" || kind == "act_order") << name;
        EXPECT_EQ(tensor.has_plain_groups(), kind != "act_order") << name;
      }
    }
  }
}

TEST(GptqTensor, TakesBitsAndGroupsOfOverridesFromTheShapes) {
  const Tensors tensors("v1.8.asymmetric");
  GptqConfig config = ConfigOf("v1", 4, "row");
  EXPECT_THROW(GptqTensor(tensors, "m", config, kRows, kCols), Error);
  config.has_overrides = true;
  const GptqTensor tensor(tensors, "m", config, kRows, kCols);
  EXPECT_EQ(Decode(tensor), ToF32(*tensors.Find("m.expected")));
}

TEST(GptqTensor, WithoutGroupIndexGroupsAreNeighbours) {
  Tensors tensors("v1.4.asymmetric");
  tensors.Remove("m.g_idx");
  const GptqTensor tensor(tensors, "m", ConfigOf("v1", 4, "asymmetric"), kRows, kCols);
  EXPECT_EQ(Decode(tensor), ToF32(*tensors.Find("m.expected")));
}

// What is refused, and that the message names the tensor.
void ExpectRefused(const WeightSource& source, ErrorCode code, const std::string& part) {
  try {
    GptqTensor(source, "m", ConfigOf("v1", 4, "asymmetric"), kRows, kCols);
    FAIL() << "accepted; expected a message with " << part;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

TEST(GptqTensor, RefusesDamage) {
  const std::string name = "v1.4.asymmetric";
  for (const char* part : {"qzeros", "scales"}) {
    Tensors tensors(name);
    tensors.Remove(std::string("m.") + part);
    ExpectRefused(tensors, ErrorCode::kCorruption, part);
  }
  for (const char* part : {"qweight", "qzeros", "scales", "g_idx"}) {
    Tensors shape(name);
    shape.At(std::string("m.") + part).shape[0] += 1;
    ExpectRefused(shape, ErrorCode::kCorruption, part);
    Tensors type(name);
    type.At(std::string("m.") + part).dtype = DType::kF32;
    ExpectRefused(type, ErrorCode::kCorruption, part);
  }
  for (int32_t group : {2, -3, std::numeric_limits<int32_t>::max()}) {
    Tensors tensors(name);
    tensors.Own<int32_t>("m.g_idx")[40] = group;
    ExpectRefused(tensors, ErrorCode::kCorruption, "column 40 into group");
  }
  {
    Tensors tensors(name);
    tensors.Own<int32_t>("m.g_idx")[40] = 0;  // 33 columns there, 31 in the other
    ExpectRefused(tensors, ErrorCode::kUnimplemented, "groups of one size");
  }
  for (uint16_t bits : {0x7c00, 0x7e00}) {  // infinity, NaN
    Tensors tensors(name);
    tensors.Own<uint16_t>("m.scales")[7] = bits;
    ExpectRefused(tensors, ErrorCode::kCorruption, "element 7");
  }
}

TEST(GptqConfig, IsReadAsPublished) {
  const GptqConfig old =
      ParseGptqConfig(R"({"bits": 4, "group_size": 128, "desc_act": true})", "q");
  EXPECT_EQ(old.bits, 4);
  EXPECT_EQ(old.group_cols, 128);
  EXPECT_EQ(old.version, GptqVersion::kV1);
  EXPECT_FALSE(old.has_overrides);
  const GptqConfig now = ParseGptqConfig(
      R"({"bits": 8, "group_size": -1, "format": "gptq_v2", "dynamic": {"-:.*gate$": {}, "+:.*down.*": {"bits": 4}}})",
      "q");
  EXPECT_EQ(now.bits, 8);
  EXPECT_EQ(now.group_cols, 0);
  EXPECT_EQ(now.version, GptqVersion::kV2);
  EXPECT_TRUE(now.has_overrides);
  EXPECT_FALSE(ParseGptqConfig(R"({"bits": 4, "dynamic": {"-:.*gate$": {}}})", "q").has_overrides);
}

TEST(GptqConfig, RefusesWhatItCannotRead) {
  for (const char* json :
       {"[]", "{}", R"({"bits": "4"})", R"({"bits": 3})", R"({"bits": 4, "group_size": 0})",
        R"({"bits": 4, "group_size": -2})", R"({"bits": 4, "group_size": "a"})",
        R"({"bits": 4, "checkpoint_format": "marlin"})", R"({"bits": 4, "pack_dtype": "int16"})",
        R"({"bits": 4, "lm_head": true})"}) {
    EXPECT_THROW(ParseGptqConfig(json, "q"), Error) << json;
  }
}

TEST(WriteGptq, ComesBack) {
  const std::string path = testing::TempDir() + "/gptq_test.safetensors";
  GptqMatrix matrix = {.shape = {.rows = 8, .cols = 32, .bits = 4, .group_cols = 16}};
  for (size_t i = 0; i < 8 * 32; ++i) matrix.codes.push_back(static_cast<uint8_t>(i * 7 % 16));
  for (size_t i = 0; i < 16; ++i) {
    matrix.scales.push_back(static_cast<uint16_t>(0x3000 + i));
    matrix.zeros.push_back(static_cast<uint16_t>(1 + i % 15));
  }
  for (int32_t c = 0; c < 32; ++c) matrix.g_idx.push_back((c * 5 % 32) / 16);
  for (GptqVersion version : {GptqVersion::kV1, GptqVersion::kV2}) {
    SafetensorsWriter writer(path, GptqTensorSpecs("m", matrix.shape));
    WriteGptq("m", matrix, version, writer);
    writer.Finish();
    const auto source = OpenSafetensors(path);
    const GptqTensor tensor(*source, "m", {.bits = 4, .group_cols = 16, .version = version}, 8, 32);
    const std::vector<float> values = Decode(tensor);
    std::vector<float> row(32);
    for (size_t r = 0; r < 8; ++r) {
      matrix.DecodeRow(r, row.data());
      EXPECT_EQ(row, std::vector<float>(values.begin() + static_cast<ptrdiff_t>(r * 32),
                                        values.begin() + static_cast<ptrdiff_t>((r + 1) * 32)));
    }
  }
}

}  // namespace
}  // namespace baleen
