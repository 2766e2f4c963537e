// What a good file gives. What bad files give is in tests/hostile/.
#include "formats/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>

namespace baleen {
namespace {

namespace fs = std::filesystem;

// A file by the format's description alone: the writer has no part in it.
std::string FileBytes(const std::string& header, const std::string& data) {
  std::string bytes;
  for (size_t i = 0; i < 8; ++i) bytes.push_back(static_cast<char>(header.size() >> (8 * i)));
  return bytes + header + data;
}

class SafetensorsTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    directory_ = fs::path(testing::TempDir()) / ("safetensors_" + std::string(info->name()));
    fs::remove_all(directory_);
    fs::create_directories(directory_);
  }
  void TearDown() override { fs::remove_all(directory_); }

  std::string Write(const std::string& name, const std::string& content) {
    std::ofstream(directory_ / name, std::ios::binary) << content;
    return (directory_ / name).string();
  }

  fs::path directory_;
};

// 1.0f and -2.0f, little-endian.
const std::string kTwoFloats("\x00\x00\x80\x3f\x00\x00\x00\xc0", 8);

TEST_F(SafetensorsTest, ReadsShapesTypesAndData) {
  // Not in name order, data order differs from header order, one empty and one rank-0 tensor, data
  // at an odd offset, spaces after the JSON.
  const std::string path =
      Write("model.safetensors",
            FileBytes(R"({"w":{"dtype":"F32","shape":[2,1],"data_offsets":[1,9]},)"
                      R"("__metadata__":{"format":"pt"},)"
                      R"("none":{"dtype":"BF16","shape":[0,7],"data_offsets":[1,1]},)"
                      R"("b":{"shape":[],"data_offsets":[0,1],"dtype":"U8"}}   )",
                      "\x2a" + kTwoFloats));
  const SafetensorsFile file(path);
  ASSERT_EQ(file.tensors().size(), 3u);
  EXPECT_EQ(file.tensors()[0].name, "b");
  EXPECT_EQ(file.metadata().at("format"), "pt");

  const TensorView* w = file.Find("w");
  ASSERT_NE(w, nullptr);
  EXPECT_EQ(w->dtype, DType::kF32);
  EXPECT_EQ(w->shape, (Shape{2, 1}));
  EXPECT_EQ(ToF32(*w), (std::vector<float>{1.0f, -2.0f}));

  const TensorView* b = file.Find("b");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->shape, Shape{});
  EXPECT_EQ(std::to_integer<int>(*b->data), 42);
  EXPECT_EQ(file.Find("none")->num_elements(), 0u);
  EXPECT_EQ(file.Find("x"), nullptr);
}

TEST_F(SafetensorsTest, AFileWithoutTensorsIsValid) {
  EXPECT_TRUE(SafetensorsFile(Write("empty.safetensors", FileBytes("{}", ""))).tensors().empty());
}

TEST_F(SafetensorsTest, OpensShardsThroughTheIndex) {
  Write("model-00001-of-00002.safetensors",
        FileBytes(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", kTwoFloats));
  Write("model-00002-of-00002.safetensors",
        FileBytes(R"({"b":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}})",
                  std::string("\x00\x3c", 2)));
  const std::string index =
      Write("model.safetensors.index.json", R"({"metadata":{"total_size":10},"weight_map":{)"
                                            R"("b":"model-00002-of-00002.safetensors",)"
                                            R"("a":"model-00001-of-00002.safetensors"}})");
  for (const std::string& path : {directory_.string(), index}) {
    const std::unique_ptr<WeightSource> source = OpenSafetensors(path);
    EXPECT_EQ(source->Names(), (std::vector<std::string>{"a", "b"}));
    EXPECT_EQ(source->FileOf("b"), (directory_ / "model-00002-of-00002.safetensors").string());
    EXPECT_EQ(ToF32(*source->Find("b")), std::vector<float>{1.0f});
    EXPECT_EQ(source->Find("c"), nullptr);
  }
}

TEST_F(SafetensorsTest, ASingleFileWinsOverAnIndex) {
  Write("model.safetensors",
        FileBytes(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", kTwoFloats));
  Write("model.safetensors.index.json", "{}");
  EXPECT_EQ(OpenSafetensors(directory_.string())->Names(), std::vector<std::string>{"a"});
}

TEST_F(SafetensorsTest, OpensTheStoriesModel) {
  const std::string path = BALEEN_SOURCE_DIR "/../shared/checkpoints/baleen-stories-mini";
  if (!fs::exists(path)) GTEST_SKIP() << path << " is not there";
  const std::unique_ptr<WeightSource> source = OpenSafetensors(path);
  EXPECT_NE(source->Find("model.embed_tokens.weight"), nullptr);
}

}  // namespace
}  // namespace baleen
