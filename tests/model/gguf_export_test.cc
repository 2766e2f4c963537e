// Models written as GGUF (checkpoint/gguf_export.h), opened again, against the models themselves.
#include "checkpoint/gguf_export.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>

#include "base/error.h"
#include "kernels/registry.h"
#include "model_runner.h"

namespace baleen {
namespace {

namespace fs = std::filesystem;

const std::string kCases = BALEEN_SOURCE_DIR "/tests/golden/checkpoints/";
const std::string kStories = BALEEN_SOURCE_DIR "/models/baleen-stories-mini";
const std::vector<int32_t> kIds = {1, 5, 9, 13, 2, 7, 11, 3, 30, 31, 8, 4};

class GgufExportTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    std::string name = info->name();
    std::ranges::replace(name, '/', '_');
    directory_ = fs::path(testing::TempDir()) / ("gguf_export_" + name);
    fs::remove_all(directory_);
    fs::create_directories(directory_);
  }
  void TearDown() override { fs::remove_all(directory_); }

  std::string Path(const std::string& name = "m.gguf") const {
    return (directory_ / name).string();
  }
  bool IsEmpty() const { return fs::is_empty(directory_); }

  // The path of the file.
  std::string Export(const std::string& model, DType type, size_t num_threads = 2) const {
    const Checkpoint checkpoint = OpenCheckpoint(model);
    ExportGguf(checkpoint, Path(), {.type = type, .num_threads = num_threads, .sync = false});
    return Path();
  }

  static ErrorCode CodeOf(const std::function<void()>& action, std::string* message = nullptr) {
    try {
      action();
    } catch (const Error& error) {
      if (message != nullptr) *message = error.what();
      return error.code();
    }
    return ErrorCode::kInternal;
  }

  static std::vector<float> Logits(const std::string& model) {
    return ModelRunner(model).Run(kIds, {.table = &kernels::SelectKernels("scalar")}).logits;
  }

  fs::path directory_;
};

double RelativeNorm(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    difference += std::pow(static_cast<double>(a[i]) - b[i], 2);
    norm += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(difference / norm);
}

class GgufExportCaseTest : public GgufExportTest,
                           public testing::WithParamInterface<std::string> {};

// Checkpoints in BF16: the numbers stay what they are, so the logits do, bit by bit.
TEST_P(GgufExportCaseTest, ComputesTheSameInBf16) {
  const std::string model = kCases + GetParam();
  const std::vector<float> wanted = Logits(model);
  const std::vector<float> got = Logits(Export(model, DType::kBF16));
  ASSERT_EQ(got.size(), wanted.size());
  EXPECT_EQ(std::memcmp(got.data(), wanted.data(), got.size() * sizeof(float)), 0)
      << RelativeNorm(got, wanted);
}

TEST_P(GgufExportCaseTest, ComputesNearlyTheSameInQ8_0) {
  const std::string model = kCases + GetParam();
  const double norm = RelativeNorm(Logits(Export(model, DType::kQ8_0)), Logits(model));
  EXPECT_GT(norm, 0);
  EXPECT_LT(norm, 0.05);
}

INSTANTIATE_TEST_SUITE_P(Cases, GgufExportCaseTest,
                         testing::Values("v2_lite", "v2_group", "v3", "v3_packed", "v3_sharded",
                                         "v3_mtp", "moonlight", "kimi_k2"),
                         [](const auto& info) { return info.param; });

// FP8 with its scales, F16 and F32 are rounded to BF16: one part in 256, once.
TEST_F(GgufExportTest, RoundsOtherTypesToBf16) {
  for (const char* name : {"v3_fp8", "v3_fp8_ue8m0", "v2_lite_plain_rope", "v2_norm_topk"}) {
    SCOPED_TRACE(name);
    const std::string model = kCases + name;
    EXPECT_LT(RelativeNorm(Logits(Export(model, DType::kBF16)), Logits(model)), 0.02);
    fs::remove(Path());
  }
}

TEST_F(GgufExportTest, TheNumberOfThreadsChangesNothing) {
  const auto read = [](const std::string& path) {
    const MappedFile file(path);
    return std::vector<std::byte>(file.bytes().begin(), file.bytes().end());
  };
  const auto one = read(Export(kStories, DType::kQ4_0, 1));
  EXPECT_EQ(read(Export(kStories, DType::kQ4_0, 3)), one);
}

TEST_F(GgufExportTest, KeepsTheText) {
  const TextSide directory = OpenCheckpoint(kStories, CheckpointPart::kTextOnly).text;
  const TextSide file = OpenCheckpoint(Export(kStories, DType::kQ8_0)).text;
  ASSERT_NE(file.tokenizer, nullptr) << file.tokenizer_problem;
  for (const char* text :
       {"Once upon a time, there was a fox.", "12345 + 678", "naïve café 中文", "don't\n\n  stop",
        "<｜begin▁of▁sentence｜>x<｜end▁of▁sentence｜>", ""}) {
    for (bool special : {false, true}) {
      const auto ids = file.tokenizer->Encode(text, special);
      EXPECT_EQ(ids, directory.tokenizer->Encode(text, special)) << text;
      EXPECT_EQ(file.tokenizer->Decode(ids, true), directory.tokenizer->Decode(ids, true));
    }
  }
  EXPECT_EQ(file.bos_token_id, directory.bos_token_id);
  EXPECT_EQ(file.eos_token_id, directory.eos_token_id);
  EXPECT_EQ(file.stop_token_ids, directory.stop_token_ids);
  EXPECT_EQ(file.chat_template_jinja, directory.chat_template_jinja);
}

TEST_F(GgufExportTest, SaysWhoFillsHoles) {
  EXPECT_FALSE(OpenCheckpoint(Export(kStories, DType::kQ8_0)).text.knows_fim);
  const std::string marked = Path("marked");
  fs::copy(kStories, marked);
  std::ofstream(marked + "/tokenizer_config.json")
      << R"({"add_bos_token": true, "fill_in_the_middle": true})";
  EXPECT_TRUE(OpenCheckpoint(Export(marked, DType::kQ8_0)).text.knows_fim);
}

// A file made from a file: the same weights, and the same bytes of text.
TEST_F(GgufExportTest, TakesGgufAsWell) {
  const std::string first = Export(kStories, DType::kQ8_0);
  const Checkpoint checkpoint = OpenCheckpoint(first);
  ExportGguf(checkpoint, Path("second.gguf"), {.type = DType::kQ8_0, .sync = false});
  const GgufModel a(first), b(Path("second.gguf"));
  const TensorView* x = a.Find("blk.1.ffn_gate_exps.weight");
  const TensorView* y = b.Find("blk.1.ffn_gate_exps.weight");
  ASSERT_TRUE(x != nullptr && y != nullptr);
  EXPECT_EQ(std::memcmp(x->data, y->data, x->size_bytes()), 0);
  EXPECT_EQ(a.metadata().Strings("tokenizer.ggml.merges"),
            b.metadata().Strings("tokenizer.ggml.merges"));
}

TEST_F(GgufExportTest, RefusesWhatAFileCannotSay) {
  for (const char* name : {"v2_layer_freq", "v3_yarn_mscale"}) {
    std::string message;
    EXPECT_EQ(CodeOf([&] { Export(kCases + name, DType::kQ8_0); }, &message),
              ErrorCode::kUnimplemented)
        << name;
    EXPECT_NE(message.find(name), std::string::npos) << message;
  }
  EXPECT_TRUE(IsEmpty());
}

TEST_F(GgufExportTest, RefusesWeightsThatAreNotNumbers) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), 1e30f}) {
    Checkpoint checkpoint = OpenCheckpoint(kCases + "v2_lite");
    Matrix& matrix = checkpoint.weights.layers[0].mlp.up_proj;
    std::vector<float> values(matrix.rows * matrix.cols, 0.5f);
    values.back() = bad;
    matrix.dtype = DType::kF32;
    matrix.data = reinterpret_cast<const std::byte*>(values.data());
    std::string message;
    EXPECT_EQ(CodeOf([&] { ExportGguf(checkpoint, Path(), {.type = DType::kQ8_0}); }, &message),
              ErrorCode::kCorruption);
    EXPECT_NE(message.find("blk.0.ffn_up.weight"), std::string::npos) << message;
  }
  EXPECT_TRUE(IsEmpty());
}

TEST_F(GgufExportTest, StopsWhenItIsCancelled) {
  const Checkpoint checkpoint = OpenCheckpoint(kStories);
  GgufExportOptions options;
  options.cancelled = [] { return true; };
  EXPECT_EQ(CodeOf([&] { ExportGguf(checkpoint, Path(), options); }), ErrorCode::kCancelled);
  EXPECT_TRUE(IsEmpty());
}

}  // namespace
}  // namespace baleen
