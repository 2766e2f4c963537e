// The writer of GGUF and the encoders of block types, byte for byte those of the `gguf` package
// (tools/golden/gguf_writer.py).
#include "formats/gguf_writer.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>

#include "base/error.h"
#include "formats/safetensors.h"
#include "tensor/blocks.h"

namespace baleen {
namespace {

namespace fs = std::filesystem;

const std::string kGolden = BALEEN_SOURCE_DIR "/tests/golden/";

std::vector<float> Ramp(size_t count) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i) / 7;
  return values;
}

std::string ReadBytes(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

class GgufWriterTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    directory_ = fs::path(testing::TempDir()) / ("gguf_writer_" + std::string(info->name()));
    fs::remove_all(directory_);
    fs::create_directories(directory_);
  }
  void TearDown() override { fs::remove_all(directory_); }

  std::string Path() const { return (directory_ / "m.gguf").string(); }
  bool IsEmpty() const { return fs::is_empty(directory_); }

  fs::path directory_;
};

TEST_F(GgufWriterTest, WritesTheBytesOfTheGgufPackage) {
  GgufKeys keys;
  keys.AddString("general.architecture", "deepseek2");
  keys.AddUint("test.uint", 4'000'000'000);
  keys.AddFloat("test.float", 0.0707f);
  keys.AddBool("test.bool", true);
  keys.AddString("test.string", "Grüße, 世界");
  keys.AddStrings("test.strings", std::vector<std::string>{"a", "", "bc d"});
  keys.AddInts("test.ints", std::vector<int32_t>{1, -2, 3});
  GgufWriter writer(Path(), keys,
                    {{"stack.weight", DType::kQ8_0, {3, 1, 32}},
                     {"norm.weight", DType::kF32, {5}},
                     {"matrix.weight", DType::kF16, {2, 3}}});
  const std::vector<float> ramp = Ramp(96);
  std::vector<std::byte> blocks(3 * 34);
  EncodeBlocks(DType::kQ8_0, ramp.data(), 96, blocks.data());
  std::vector<uint16_t> halves;
  for (size_t i = 0; i < 6; ++i) halves.push_back(F32ToF16(ramp[i]));
  // In no order, and in pieces.
  writer.Write(2, 0, std::as_bytes(std::span(halves)));
  writer.Write(0, 34, std::span(blocks).subspan(34));
  writer.Write(1, 0, std::as_bytes(std::span(ramp).first(5)));
  writer.Write(0, 0, std::span(blocks).first(34));
  writer.Finish();
  const std::string wanted = ReadBytes(kGolden + "gguf/writer.gguf");
  ASSERT_GT(wanted.size(), 600u);
  EXPECT_EQ(writer.file_bytes(), wanted.size());
  EXPECT_EQ(ReadBytes(Path()), wanted);
}

TEST_F(GgufWriterTest, AFileThatIsNotFinishedIsNotThere) {
  { const GgufWriter writer(Path(), {}, {{"a", DType::kF32, {5}}}); }
  EXPECT_TRUE(IsEmpty());
}

// A limit on the size of files stands in for a disk that is too small.
TEST_F(GgufWriterTest, ADiskThatIsTooSmallIsFoundBeforeAnythingIsWritten) {
  rlimit old_limit;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old_limit), 0);
  const auto old_handler = signal(SIGXFSZ, SIG_IGN);
  const rlimit small = {4096, old_limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  ErrorCode code = ErrorCode::kInternal;
  try {
    const GgufWriter writer(Path(), {}, {{"a", DType::kF32, {10'000}}});
  } catch (const Error& error) {
    code = error.code();
  }
  setrlimit(RLIMIT_FSIZE, &old_limit);
  signal(SIGXFSZ, old_handler);
  EXPECT_EQ(code, ErrorCode::kResourceExhausted);
  EXPECT_TRUE(IsEmpty());
}

class EncodeBlocksTest : public testing::TestWithParam<DType> {
 protected:
  std::vector<std::byte> Encode(const std::vector<float>& values) const {
    std::vector<std::byte> bytes(RowBytes(GetParam(), values.size()));
    EncodeBlocks(GetParam(), values.data(), values.size(), bytes.data());
    return bytes;
  }
};

TEST_P(EncodeBlocksTest, GivesTheBytesOfTheGgufPackage) {
  const SafetensorsFile golden(kGolden + "gguf_quantized.safetensors");
  const std::vector<float> values = ToF32(*golden.Find("values"));
  const TensorView& wanted = *golden.Find(DTypeName(GetParam()));
  const std::vector<std::byte> bytes = Encode(values);
  ASSERT_EQ(bytes.size(), wanted.size_bytes());
  const size_t block_bytes = DTypeSize(GetParam());
  size_t num_different = 0;
  for (size_t at = 0; at < bytes.size(); at += block_bytes) {
    const bool same = std::memcmp(&bytes[at], wanted.data + at, block_bytes) == 0;
    num_different += !same;
    EXPECT_TRUE(same) << "block " << at / block_bytes;
  }
  EXPECT_EQ(num_different, 0u);
}

// Where 1 / d has no finite value, `gguf` leaves the codes to chance.
TEST_P(EncodeBlocksTest, SubnormalValuesBecomeZeros) {
  const std::vector<float> values(32, std::numeric_limits<float>::denorm_min());
  std::vector<float> decoded(32, 1.0f);
  DecodeBlocks(GetParam(), Encode(values).data(), 32, decoded.data());
  for (const float value : decoded) EXPECT_EQ(value, 0.0f);
}

INSTANTIATE_TEST_SUITE_P(Types, EncodeBlocksTest, testing::Values(DType::kQ8_0, DType::kQ4_0),
                         [](const auto& info) { return std::string(DTypeName(info.param)); });

}  // namespace
}  // namespace baleen
