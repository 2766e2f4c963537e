// Whole runs on the bundled model or its first layers, with few tokens.
#include "quantize/quantize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>

#include "base/error.h"
#include "base/json.h"
#include "base/sanitized_testing.h"
#include "base/sha256.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/stories_testing.h"
#include "formats/safetensors.h"
#include "formats/safetensors_writer.h"
#include "kernels/registry.h"
#include "model/forward.h"
#include "quantize/calibration.h"
#include "quantize/directory.h"
#include "quantize/report.h"

namespace baleen {
namespace {

namespace fs = std::filesystem;

// The first is dense.
constexpr size_t kLayers = kTestStoriesLayers, kMoeLayers = kLayers - 1;
constexpr size_t kExpertMatrices = 3 * 17;  // of a layer

std::string Layer(size_t l) { return "model.layers." + std::to_string(l) + "."; }

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
    options.window_tokens = kSanitized ? 128 : 512;
    options.max_tokens = 2 * options.window_tokens;
    options.max_held_out_tokens = options.window_tokens;
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
  const QuantizeReport report = Quantize(TestStories(), destination_, options);
  EXPECT_EQ(last, total);
  // Queries; 3 matrices of the dense network, and of 16 + 1 experts. o_proj has 192 columns.
  EXPECT_EQ(report.tensors.size(), kLayers + 3 + kMoeLayers * kExpertMatrices);
  EXPECT_EQ(report.kept.size(), kLayers);
  EXPECT_EQ(report.calibration_tokens, options.max_tokens);
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
            Sha256Hex(ReadFile(TestStories() + "/tokenizer.json", 1 << 20)));
}

// Other engines take a linear layer to be quantized unless a pattern of `dynamic` excludes it.
TEST_F(QuantizeTest, TellsOtherEnginesWhatStays) {
  QuantizeOptions options = Few();
  options.rounding.method = QuantizeMethod::kRtn;
  Quantize(TestStories(), destination_, options);
  const JsonDocument config =
      JsonDocument::Parse(ReadFile(destination_ + "/quantize_config.json", 1 << 20), "config");
  std::set<std::string> patterns;
  const simdjson::dom::object dynamic = config.object()["dynamic"].get_object().value();
  for (const auto& [pattern, value] : dynamic) patterns.emplace(pattern);
  std::set<std::string> wanted = {R"(-:.*\.mlp\.gate$)",
                                  R"(-:.*\.self_attn\.(kv_a_proj_with_mqa|kv_b_proj|q_a_proj)$)"};
  for (size_t l = 0; l < kLayers; ++l) {  // o_proj has 192 columns
    wanted.insert(R"(-:model\.layers\.)" + std::to_string(l) + R"(\.self_attn\.o_proj$)");
  }
  EXPECT_EQ(patterns, wanted);
  const auto quantized = OpenSafetensors(destination_);
  EXPECT_EQ(quantized->Find(Layer(kLayers - 1) + "self_attn.o_proj.qweight"), nullptr);
  EXPECT_NE(quantized->Find(Layer(kLayers - 1) + "self_attn.q_proj.qweight"), nullptr);
}

TEST(QuantizationConfig, ExpertsShareAPattern) {
  const std::string text = QuantizationConfigJson(
      {}, {"model.layers.3.mlp.experts.5.down_proj", "model.layers.3.mlp.experts.16.down_proj",
           "model.layers.3.mlp.shared_experts.down_proj"});
  const JsonDocument config = JsonDocument::Parse(text, "config");
  const simdjson::dom::object dynamic = config.object()["dynamic"].get_object().value();
  EXPECT_EQ(dynamic.size(), 2u + 2);
  for (const char* pattern : {R"(-:model\.layers\.3\.mlp\.experts\.\d+\.down_proj$)",
                              R"(-:model\.layers\.3\.mlp\.shared_experts\.down_proj$)"}) {
    EXPECT_EQ(dynamic.at_key(pattern).error(), simdjson::SUCCESS) << pattern;
  }
}

TEST_F(QuantizeTest, GivesSmallProjectionsEightBits) {
  const double stored = Quantize(TestStories(), destination_, Few()).perplexity_after;
  TearDown();
  QuantizeOptions options = Few();
  options.small_projections = SmallProjections::kEightBits;
  const QuantizeReport report = Quantize(TestStories(), destination_, options);
  EXPECT_NEAR(report.perplexity_after / stored, 1, 0.01);
  size_t num_small = 0;
  for (const TensorReport& tensor : report.tensors) {
    const bool small =
        tensor.name.ends_with(".kv_a_proj_with_mqa") || tensor.name.ends_with(".kv_b_proj");
    num_small += small;
    EXPECT_EQ(tensor.bits, small ? 8u : 4u) << tensor.name;
    // Steps of 8 bits are 17 times as small as of 4, so their error's square is 289 times.
    EXPECT_EQ(tensor.error < 1e-4, small) << tensor.name << " " << tensor.error;
  }
  EXPECT_EQ(num_small, 2 * kLayers);

  const Checkpoint checkpoint = OpenCheckpoint(destination_);
  EXPECT_EQ(checkpoint.source->Find("model.layers.0.self_attn.kv_b_proj.weight"), nullptr);
  EXPECT_NE(checkpoint.source->Find("model.layers.0.self_attn.o_proj.weight"), nullptr);
  const JsonDocument config =
      JsonDocument::Parse(ReadFile(destination_ + "/quantize_config.json", 1 << 20), "config");
  size_t overrides = 0;
  const simdjson::dom::object dynamic = config.object()["dynamic"].get_object().value();
  for (const auto& [pattern, value] : dynamic) {
    if (!pattern.starts_with("+:")) continue;
    ++overrides;
    EXPECT_NE(pattern.find("kv_a_proj_with_mqa|kv_b_proj|q_a_proj"), std::string_view::npos);
    EXPECT_EQ(value["bits"].get_int64().value(), 8);
  }
  EXPECT_EQ(overrides, 1u);
}

TEST_F(QuantizeTest, GoesOnWhereItWasInterrupted) {
  if (kSanitized) GTEST_SKIP() << "with sanitizers, GoesOnAtTheModule alone goes this way";
  Quantize(TestStories(), destination_, Few());
  const std::string whole = HashOf(destination_);
  TearDown();

  QuantizeOptions options = Few();
  uint64_t done = 0;
  options.on_progress = [&](uint64_t now, uint64_t) { done = now; };
  options.cancelled = [&] { return done > 3'000'000; };  // in the third layer or later
  try {
    Quantize(TestStories(), destination_, options);
    FAIL() << "was not interrupted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCancelled);
  }
  EXPECT_FALSE(fs::exists(destination_));
  EXPECT_FALSE(fs::exists(destination_ + ".partial/config.json"));
  EXPECT_THROW(OpenCheckpoint(destination_ + ".partial"), Error);

  options.cancelled = {};
  const QuantizeReport report = Quantize(TestStories(), destination_, options);
  EXPECT_GT(report.resumed_layers, 0u);
  EXPECT_EQ(report.tensors.size(), kLayers + 3 + kMoeLayers * kExpertMatrices);
  EXPECT_EQ(HashOf(destination_), whole);
}

// The bundled model with an MTP module that is made of its last layer; eh_proj adds up its two
// halves.
class QuantizeMtpTest : public QuantizeTest {
 protected:
  void SetUp() override {
    QuantizeTest::SetUp();
    model_ = destination_ + "_mtp";
    fs::remove_all(model_);
    fs::create_directories(model_);
    for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) {
      fs::copy_file(TestStories() + "/" + name, model_ + "/" + name);
    }
    std::string config = ReadFile(TestStories() + "/config.json", 1 << 20);
    const std::string none = "\"num_nextn_predict_layers\": 0";
    config.replace(config.find(none), none.size(), "\"num_nextn_predict_layers\": 1");
    std::ofstream(model_ + "/config.json") << config;

    const auto source = OpenSafetensors(TestStories());
    const std::string last = Layer(kLayers - 1), mtp = Layer(kLayers);
    std::vector<std::pair<std::string, std::string>> copies;  // name, what it is a copy of
    for (const std::string& name : source->Names()) {
      copies.emplace_back(name, name);
      if (name.starts_with(last)) copies.emplace_back(mtp + name.substr(last.size()), name);
    }
    for (const char* name : {"enorm.weight", "hnorm.weight", "shared_head.norm.weight"}) {
      copies.emplace_back(mtp + name, last + "input_layernorm.weight");
    }
    std::vector<TensorSpec> specs;
    for (const auto& [name, from] : copies) {
      const TensorView& view = *source->Find(from);
      specs.push_back({name, view.dtype, view.shape});
    }
    const size_t hidden = source->Find(last + "input_layernorm.weight")->shape[0];
    std::vector<float> doorway(hidden * 2 * hidden);
    for (size_t i = 0; i < hidden; ++i) {
      doorway[i * 2 * hidden + i] = doorway[i * 2 * hidden + hidden + i] = 1;
    }
    specs.push_back({mtp + "eh_proj.weight", DType::kF32, {hidden, 2 * hidden}});
    SafetensorsWriter writer(model_ + "/model.safetensors", std::move(specs));
    for (const auto& [name, from] : copies) {
      const TensorView& view = *source->Find(from);
      writer.Write(name, {view.data, view.size_bytes()});
    }
    writer.Write(mtp + "eh_proj.weight", std::as_bytes(std::span(doorway)));
    writer.Finish();
  }
  void TearDown() override {
    QuantizeTest::TearDown();
    fs::remove_all(model_);
  }

  static constexpr size_t kMtpWindow = kSanitized ? 128 : 512;
  static constexpr size_t kMtpTokens = 8 * kMtpWindow;  // to calibrate with

  // What the module makes of a text that it is calibrated with, its hidden states being those of
  // the model as stored.
  std::vector<float> MtpHidden(const std::string& directory) {
    Checkpoint stored = OpenCheckpoint(model_), checkpoint = OpenCheckpoint(directory);
    const CalibrationText shipped = {"shipped", std::string(ShippedCalibrationText())};
    const std::vector<int32_t> ids =
        MakeCalibrationWindows(shipped, stored.text, kMtpWindow, kMtpTokens, kMtpWindow)
            .training[0];
    const size_t rows = ids.size() - 1;
    const Model model(stored.config.model, std::move(stored.weights));
    const Model other(checkpoint.config.model, std::move(checkpoint.weights));
    ThreadPool pool(1);
    kernels::KernelContext ctx{.table = kernels::SelectKernels(), .pool = pool};
    CacheLayout cache = MakeCacheLayout(model.config(), DType::kF32, ids.size());
    ++cache.num_layers;
    std::vector<std::byte> block(cache.block_bytes());
    std::byte* blocks[] = {block.data()};
    const SequenceSlice slice = {.num_rows = rows, .form = MlaForm::kDirect, .blocks = blocks};
    std::vector<int32_t> every_row(rows);
    for (size_t r = 0; r < rows; ++r) every_row[r] = static_cast<int32_t>(r);
    std::vector<float> hidden(rows * model.config().hidden_size), result(hidden.size());
    model.Forward(
        {.token_ids = std::span(ids).first(rows), .slices = {&slice, 1}, .output_rows = every_row},
        cache, hidden.data(), ctx);
    other.Mtp(0, {.token_ids = std::span(ids).subspan(1), .slices = {&slice, 1}, .output_rows = {}},
              cache, hidden.data(), result.data(), ctx);
    return result;
  }

  std::string model_;
};

TEST_F(QuantizeMtpTest, CalibratesTheModuleWithItsOwnInputs) {
  const std::vector<float> wanted = MtpHidden(model_);
  QuantizeOptions options = Few();
  options.window_tokens = kMtpWindow;
  options.max_tokens = kMtpTokens;
  double errors[2] = {};
  for (const QuantizeMethod method : {QuantizeMethod::kGptq, QuantizeMethod::kRtn}) {
    options.rounding.method = method;
    const QuantizeReport report = Quantize(model_, destination_, options);
    EXPECT_EQ(report.tensors.size(), kLayers + 1 + 3 + (kMoeLayers + 1) * kExpertMatrices);
    uint64_t tokens = 0, of_model = 0;
    for (const TensorReport& tensor : report.tensors) {
      if (!tensor.name.ends_with(".gate_proj")) continue;
      if (tensor.name.starts_with(Layer(kLayers) + "mlp.experts.")) tokens += tensor.tokens;
      if (tensor.name.starts_with(Layer(kLayers - 1) + "mlp.experts.")) of_model += tensor.tokens;
    }
    // Each token goes to two experts; the last of each window does not enter.
    if (method == QuantizeMethod::kGptq) {
      EXPECT_EQ(of_model, 2 * report.calibration_tokens);
      EXPECT_EQ(tokens, 2 * (report.calibration_tokens - report.calibration_tokens / kMtpWindow));
    }
    const std::vector<float> got = MtpHidden(destination_);
    double error = 0, norm = 0;
    for (size_t i = 0; i < got.size(); ++i) {
      error += std::pow(static_cast<double>(got[i]) - wanted[i], 2);
      norm += std::pow(static_cast<double>(wanted[i]), 2);
    }
    errors[method == QuantizeMethod::kRtn] = std::sqrt(error / norm);
    QuantizeTest::TearDown();
  }
  EXPECT_GT(errors[0], 0);
  EXPECT_LT(errors[0], errors[1]) << "GPTQ must beat rounding to nearest";
  EXPECT_LT(errors[1], 0.2);
}

TEST_F(QuantizeMtpTest, GoesOnAtTheModule) {
  Quantize(model_, destination_, Few());
  const std::string whole = HashOf(destination_);
  QuantizeTest::TearDown();
  QuantizeOptions options = Few();
  uint64_t done = 0, total = 0;
  options.on_progress = [&](uint64_t now, uint64_t all) { done = now, total = all; };
  options.cancelled = [&] { return total > 0 && done + 100'000 > total; };
  EXPECT_THROW(Quantize(model_, destination_, options), Error);
  options.cancelled = {};
  EXPECT_EQ(Quantize(model_, destination_, options).resumed_layers, kLayers);
  EXPECT_EQ(HashOf(destination_), whole);
}

TEST_F(QuantizeTest, LeavesOtherWorkAlone) {
  fs::create_directories(destination_);
  EXPECT_THROW(Quantize(TestStories(), destination_, Few()), Error);
  fs::remove_all(destination_);
  fs::create_directories(destination_ + ".partial");
  std::ofstream(destination_ + ".partial/mine") << "text";
  EXPECT_THROW(Quantize(TestStories(), destination_, Few()), Error);
  EXPECT_TRUE(fs::exists(destination_ + ".partial/mine"));
}

TEST_F(QuantizeTest, RefusesWhatIsQuantizedAlready) {
  QuantizeOptions options = Few();
  options.rounding.method = QuantizeMethod::kRtn;
  Quantize(TestStories(), destination_, options);
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
    Quantize(TestStories(), destination_, options);
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
