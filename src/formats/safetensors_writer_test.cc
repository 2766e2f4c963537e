#include "formats/safetensors_writer.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <filesystem>
#include <thread>

#include "base/error.h"
#include "base/json.h"
#include "formats/safetensors.h"

namespace baleen {
namespace {

namespace fs = std::filesystem;

std::span<const std::byte> Bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

class SafetensorsWriterTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    directory_ = fs::path(testing::TempDir()) / ("writer_" + std::string(info->name()));
    fs::remove_all(directory_);
    fs::create_directories(directory_);
  }
  void TearDown() override { fs::remove_all(directory_); }

  std::string Path(const std::string& name) const { return (directory_ / name).string(); }

  std::vector<std::string> Files() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(directory_)) {
      names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  }

  fs::path directory_;
};

ErrorCode CodeOf(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "no error";
  return ErrorCode::kInternal;
}

// Byte for byte what the format's description asks for: the wider type first, then by name; JSON
// of 194 bytes padded to 200, little-endian length.
TEST_F(SafetensorsWriterTest, WritesTheDocumentedLayout) {
  SafetensorsWriter writer(
      Path("m"), {{"zz", DType::kU8, {3}}, {"b", DType::kF32, {}}, {"a", DType::kF32, {1, 1}}});
  writer.Write("zz", Bytes("x"));
  writer.Write("b", Bytes("BBBB"));
  writer.Write("zz", Bytes("yz"));
  writer.Write("a", Bytes("AAAA"));
  writer.Finish();

  const std::string json = R"({"__metadata__":{"format":"pt"},)"
                           R"("a":{"dtype":"F32","shape":[1, 1],"data_offsets":[0,4]},)"
                           R"("b":{"dtype":"F32","shape":[],"data_offsets":[4,8]},)"
                           R"("zz":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}})";
  ASSERT_EQ(json.size(), 194u);
  EXPECT_EQ(ReadFile(Path("m"), 1000),
            std::string("\xc8\0\0\0\0\0\0\0", 8) + json + "      " + "AAAABBBBxyz");
}

TEST_F(SafetensorsWriterTest, TheReaderGetsBackWhatWasWritten) {
  const std::string odd_name = "quote\" slash\\ line\n \x01 中文";
  SafetensorsWriter writer(Path("m"), {{odd_name, DType::kBF16, {2}}, {"empty", DType::kI64, {0}}},
                           {.metadata = {{"a\"b", "c\td"}}});
  writer.Write(odd_name, Bytes("1234"));
  writer.Finish();
  const SafetensorsFile file(Path("m"));
  EXPECT_EQ(file.metadata().at("a\"b"), "c\td");
  ASSERT_NE(file.Find(odd_name), nullptr);
  EXPECT_EQ(std::memcmp(file.Find(odd_name)->data, "1234", 4), 0);
  EXPECT_EQ(file.Find("empty")->shape, Shape{0});
}

TEST_F(SafetensorsWriterTest, LeavesNothingUnlessFinished) {
  WriteFile(Path("m"), "the older file");
  {
    SafetensorsWriter writer(Path("m"), {{"a", DType::kU8, {4}}});
    writer.Write("a", Bytes("12"));
    EXPECT_EQ(Files(), (std::vector<std::string>{"m", "m.partial"}));
  }
  EXPECT_EQ(Files(), std::vector<std::string>{"m"});
  EXPECT_EQ(ReadFile(Path("m"), 100), "the older file");
}

TEST_F(SafetensorsWriterTest, ReplacesWhatAKilledWriterLeft) {
  WriteFile(Path("m.partial"), std::string(1000, 'x'));
  SafetensorsWriter writer(Path("m"), {{"a", DType::kU8, {1}}});
  writer.Write("a", Bytes("1"));
  writer.Finish();
  EXPECT_EQ(SafetensorsFile(Path("m")).tensors().size(), 1u);
  EXPECT_EQ(Files(), std::vector<std::string>{"m"});
}

TEST_F(SafetensorsWriterTest, RefusesASecondWriterOfTheSameFile) {
  SafetensorsWriter writer(Path("m"), {{"a", DType::kU8, {1}}});
  EXPECT_EQ(CodeOf([&] { SafetensorsWriter second(Path("m"), {}); }), ErrorCode::kInvalidArgument);
  writer.Write("a", Bytes("1"));
  writer.Finish();
  EXPECT_EQ(SafetensorsFile(Path("m")).tensors().size(), 1u);
}

TEST_F(SafetensorsWriterTest, RefusesADirectoryThatIsNotThere) {
  EXPECT_EQ(CodeOf([&] { SafetensorsWriter writer(Path("none/m"), {}); }),
            ErrorCode::kInvalidArgument);
}

TEST_F(SafetensorsWriterTest, FindsOutBeforeWritingThatTheDiskIsTooSmall) {
  EXPECT_EQ(CodeOf([&] {
              SafetensorsWriter writer(Path("m"), {{"a", DType::kU8, {size_t{1} << 60}}});
            }),
            ErrorCode::kResourceExhausted);
  EXPECT_EQ(CodeOf([&] {
              CheckpointWriter writer(directory_.string(), {{"a", DType::kU8, {size_t{1} << 59}},
                                                            {"b", DType::kU8, {size_t{1} << 59}}});
            }),
            ErrorCode::kResourceExhausted);
  EXPECT_TRUE(Files().empty());
}

// A limit on the size of files stands in for a disk that fills up: the system call fails alike.
TEST_F(SafetensorsWriterTest, AFullDiskIsAnErrorAndLeavesNothing) {
  rlimit old_limit;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old_limit), 0);
  const auto old_handler = signal(SIGXFSZ, SIG_IGN);
  const rlimit small = {4096, old_limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const ErrorCode reserving = CodeOf([&] {
    SafetensorsWriter writer(Path("m"), {{"a", DType::kU8, {10'000}}});
  });
  const ErrorCode writing = CodeOf([&] { WriteFile(Path("text"), std::string(10'000, 'x')); });
  setrlimit(RLIMIT_FSIZE, &old_limit);
  signal(SIGXFSZ, old_handler);
  EXPECT_EQ(reserving, ErrorCode::kResourceExhausted);
  EXPECT_EQ(writing, ErrorCode::kResourceExhausted);
  EXPECT_TRUE(Files().empty());
}

TEST_F(SafetensorsWriterTest, ThreadsMayWriteDifferentTensors) {
  constexpr size_t kBytes = 100'000;
  SafetensorsWriter writer(Path("m"), {{"a", DType::kU8, {kBytes}}, {"b", DType::kU8, {kBytes}}});
  const auto write = [&](const std::string& name) {
    for (size_t i = 0; i < kBytes; i += 100) writer.Write(name, Bytes(std::string(100, name[0])));
  };
  std::thread other(write, "b");
  write("a");
  other.join();
  writer.Finish();
  const SafetensorsFile file(Path("m"));
  for (const std::string name : {"a", "b"}) {
    const std::string expected(kBytes, name[0]);
    EXPECT_EQ(std::memcmp(file.Find(name)->data, expected.data(), kBytes), 0);
  }
}

TEST_F(SafetensorsWriterTest, SmallCheckpointsAreOneFile) {
  CheckpointWriter writer(directory_.string(), {{"a", DType::kU8, {1}}, {"b", DType::kU8, {1}}});
  writer.Write("b", Bytes("b"));
  writer.Write("a", Bytes("a"));
  writer.Finish();
  EXPECT_EQ(Files(), std::vector<std::string>{"model.safetensors"});
}

TEST_F(SafetensorsWriterTest, LargeOnesAreShardsThatNeverExceedTheLimit) {
  CheckpointWriter writer(directory_.string(),
                          {{"a", DType::kU8, {6}},
                           {"b", DType::kU8, {4}},  // fills the first shard exactly
                           {"large", DType::kU8, {20}},
                           {"c", DType::kU8, {1}}},
                          {}, /*max_shard_bytes=*/10);
  EXPECT_THROW(OpenSafetensors(directory_.string()), Error);
  writer.Write("large", Bytes(std::string(20, 'L')));
  writer.Write("a", Bytes("aaaaaa"));
  writer.Write("b", Bytes("bbbb"));
  writer.Write("c", Bytes("c"));
  writer.Finish();
  EXPECT_EQ(Files(), (std::vector<std::string>{
                         "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
                         "model-00003-of-00003.safetensors", "model.safetensors.index.json"}));
  const auto source = OpenSafetensors(directory_.string());
  EXPECT_EQ(source->Names(), (std::vector<std::string>{"a", "b", "c", "large"}));
  EXPECT_EQ(source->FileOf("b"), Path("model-00001-of-00003.safetensors"));
  EXPECT_EQ(source->FileOf("c"), Path("model-00003-of-00003.safetensors"));
  EXPECT_NE(ReadFile(Path("model.safetensors.index.json"), 1000).find("\"total_size\": 31"),
            std::string::npos);
}

TEST_F(SafetensorsWriterTest, NeverMixesWithAModelThatIsThere) {
  WriteFile(Path("model.safetensors"), "");
  EXPECT_EQ(CodeOf([&] { CheckpointWriter writer(directory_.string(), {}); }),
            ErrorCode::kInvalidArgument);
}

// When the second of two shards cannot get its name, the first one goes again.
TEST_F(SafetensorsWriterTest, AFailedFinishLeavesNoShards) {
  fs::create_directories(directory_ / "model-00002-of-00002.safetensors" / "in_the_way");
  {
    CheckpointWriter writer(directory_.string(), {{"a", DType::kU8, {1}}, {"b", DType::kU8, {1}}},
                            {}, /*max_shard_bytes=*/1);
    writer.Write("a", Bytes("a"));
    writer.Write("b", Bytes("b"));
    EXPECT_EQ(CodeOf([&] { writer.Finish(); }), ErrorCode::kFailed);
  }
  EXPECT_EQ(Files(), std::vector<std::string>{"model-00002-of-00002.safetensors"});
}

}  // namespace
}  // namespace baleen
