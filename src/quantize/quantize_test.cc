// Whole runs on the bundled model, with few tokens.
#include "quantize/quantize.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/json.h"
#include "base/sha256.h"
#include "checkpoint/checkpoint.h"
#include "formats/safetensors.h"
#include "quantize/report.h"

namespace baleen {
namespace {

namespace fs = std::filesystem;

const std::string kModel = BALEEN_SOURCE_DIR "/models/baleen-stories-mini";

class QuantizeTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    destination_ = testing::TempDir() + "/quantize_test_" + info->name();
    TearDown();
  }
  void TearDown() override {
    fs::remove_all(destination_);
    fs::remove_all(destination_ + ".partial");
  }

  static QuantizeOptions Few() {
    QuantizeOptions options;
    options.max_tokens = 1024;
    options.max_held_out_tokens = 512;
    options.num_threads = 2;
    return options;
  }

  // All tensors of a directory, as one hash.
  static std::string HashOf(const std::string& directory) {
    const auto source = OpenSafetensors(directory);
    std::string all;
    for (const std::string& name : source->Names()) {
      const TensorView& view = *source->Find(name);
      all += name + Sha256Hex({reinterpret_cast<const char*>(view.data), view.size_bytes()});
    }
    return Sha256Hex(all);
  }

  std::string destination_;
};

TEST_F(QuantizeTest, MakesADirectoryThatOpens) {
  uint64_t last = 0, total = 0;
  QuantizeOptions options = Few();
  options.on_progress = [&](uint64_t done, uint64_t all) { last = done, total = all; };
  const QuantizeReport report = Quantize(kModel, destination_, options);
  EXPECT_EQ(last, total);
  // 6 queries; 3 matrices of the dense network, and of 5 * (16 + 1) experts. o_proj has 192
  // columns.
  EXPECT_EQ(report.tensors.size(), 6 + 3 + 5 * 17 * 3u);
  EXPECT_EQ(report.kept.size(), 6u);
  EXPECT_EQ(report.calibration_tokens, 1024u);
  EXPECT_GT(report.perplexity_before, 1);
  EXPECT_NEAR(report.perplexity_after / report.perplexity_before, 1, 0.05);
  EXPECT_FALSE(fs::exists(destination_ + ".partial"));
  EXPECT_EQ(report.calibration_sha256, Sha256Hex(ShippedCalibrationText()));

  const Checkpoint checkpoint = OpenCheckpoint(destination_);
  EXPECT_EQ(checkpoint.config.quantization, WeightQuantization::kGptq);
  EXPECT_NE(checkpoint.text.tokenizer, nullptr);
  const JsonDocument json =
      JsonDocument::Parse(ReadFile(destination_ + "/quantize_report.json", 1 << 20), "report");
  EXPECT_EQ(json.root()["tensors"].get_array().value().size(), report.tensors.size());
  EXPECT_EQ(Sha256Hex(ReadFile(destination_ + "/tokenizer.json", 1 << 20)),
            Sha256Hex(ReadFile(kModel + "/tokenizer.json", 1 << 20)));
}

TEST_F(QuantizeTest, GoesOnWhereItWasInterrupted) {
  Quantize(kModel, destination_, Few());
  const std::string whole = HashOf(destination_);
  TearDown();

  QuantizeOptions options = Few();
  uint64_t done = 0;
  options.on_progress = [&](uint64_t now, uint64_t) { done = now; };
  options.cancelled = [&] { return done > 3'000'000; };  // in the third layer or later
  try {
    Quantize(kModel, destination_, options);
    FAIL() << "was not interrupted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCancelled);
  }
  EXPECT_FALSE(fs::exists(destination_));
  EXPECT_FALSE(fs::exists(destination_ + ".partial/config.json"));
  EXPECT_THROW(OpenCheckpoint(destination_ + ".partial"), Error);

  options.cancelled = {};
  const QuantizeReport report = Quantize(kModel, destination_, options);
  EXPECT_GT(report.resumed_layers, 0u);
  EXPECT_EQ(report.tensors.size(), 6 + 3 + 5 * 17 * 3u);
  EXPECT_EQ(HashOf(destination_), whole);
}

TEST_F(QuantizeTest, LeavesOtherWorkAlone) {
  fs::create_directories(destination_);
  EXPECT_THROW(Quantize(kModel, destination_, Few()), Error);
  fs::remove_all(destination_);
  fs::create_directories(destination_ + ".partial");
  std::ofstream(destination_ + ".partial/mine") << "text";
  EXPECT_THROW(Quantize(kModel, destination_, Few()), Error);
  EXPECT_TRUE(fs::exists(destination_ + ".partial/mine"));
}

TEST_F(QuantizeTest, RefusesWhatIsQuantizedAlready) {
  QuantizeOptions options = Few();
  options.rounding.method = QuantizeMethod::kRtn;
  Quantize(kModel, destination_, options);
  try {
    Quantize(destination_, destination_ + "2", options);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnimplemented);
  }
}

TEST_F(QuantizeTest, NamesTooLittleText) {
  QuantizeOptions options = Few();
  options.calibration = CalibrationText{.name = "mine.txt", .text = "A dog."};
  try {
    Quantize(kModel, destination_, options);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("mine.txt"), std::string::npos);
  }
  EXPECT_FALSE(fs::exists(destination_ + ".partial"));
}

TEST(Report, ComesBackAndEscapes) {
  QuantizeReport report;
  report.tensors = {{.name = "model.layers.1.<b>\"", .bits = 4, .error = 0.01, .tokens = 5}};
  report.perplexity_before = 10;
  report.perplexity_after = 11;
  const auto tensors = ParseTensorsJson(TensorsJson(report.tensors), "state");
  ASSERT_EQ(tensors.size(), 1u);
  EXPECT_EQ(tensors[0].name, report.tensors[0].name);
  EXPECT_EQ(tensors[0].error, 0.01);
  EXPECT_EQ(tensors[0].tokens, 5u);
  EXPECT_THROW(ParseTensorsJson("[{}]", "state"), Error);
  const std::string html = ReportHtml(report, {});
  EXPECT_EQ(html.find("<b>"), std::string::npos);
  EXPECT_NE(html.find("&lt;b&gt;&quot;"), std::string::npos);
  EXPECT_NE(html.find("+10.00 %"), std::string::npos);
}

}  // namespace
}  // namespace baleen
