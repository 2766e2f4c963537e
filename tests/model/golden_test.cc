// The forward pass against other people's: every case of tests/golden/checkpoints, on every target
// that this machine can run, in both forms of attention. tools/golden/README.md says who the
// authority is for each case.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/json.h"
#include "base/sanitized_testing.h"
#include "formats/safetensors.h"
#include "kernels/registry.h"
#include "model_runner.h"

namespace baleen {
namespace {

namespace fs = std::filesystem;

const std::string kCases = BALEEN_SOURCE_DIR "/tests/golden/checkpoints";

std::vector<std::string> CaseNames() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(kCases)) {
    if (entry.is_directory()) names.push_back(entry.path().filename().string());
  }
  std::ranges::sort(names);
  return names;
}

std::vector<std::string> TableNames() {
  std::vector<std::string> names;
  for (const auto& choice : kernels::KernelChoices()) {
    if (choice.declined.empty()) names.push_back(choice.name);
  }
  return names;
}

// The worst excess of |a - b| over 1e-5 * max|b| + 1e-5, as a factor; above 1 fails.
double Deviation(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double max = 0, worst = 0;
  for (float x : b) max = std::max(max, std::fabs(static_cast<double>(x)));
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::fabs(static_cast<double>(a[i]) - b[i]);
    if (std::isnan(difference)) return std::numeric_limits<double>::infinity();
    worst = std::max(worst, difference);
  }
  return worst / (1e-5 * max + 1e-5);
}

double RelativeNorm(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    difference += std::pow(static_cast<double>(a[i]) - b[i], 2);
    norm += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(difference / norm);
}

class Expected {
 public:
  explicit Expected(const std::string& name, const std::string& cases = kCases)
      : file_(cases + "/" + name + "/expected.safetensors") {}

  bool Has(const std::string& name) const { return file_.Find(name) != nullptr; }
  std::vector<float> Floats(const std::string& name) const { return ToF32(Get(name)); }
  std::vector<int32_t> Ints(const std::string& name) const {
    const TensorView& view = Get(name);
    std::vector<int32_t> values(view.num_elements());
    std::memcpy(values.data(), view.data, view.size_bytes());
    return values;
  }

 private:
  const TensorView& Get(const std::string& name) const {
    const TensorView* view = file_.Find(name);
    if (view == nullptr) throw std::runtime_error("expected.safetensors lacks " + name);
    return *view;
  }
  SafetensorsFile file_;
};

struct Prompt {
  std::string prefix;
  std::vector<int32_t> ids;
};

std::vector<Prompt> Prompts(const Expected& expected) {
  std::vector<Prompt> prompts;
  for (int i = 0; expected.Has(fmt::format("prompt.{}.ids", i)); ++i) {
    const std::string prefix = fmt::format("prompt.{}.", i);
    prompts.push_back({prefix, expected.Ints(prefix + "ids")});
  }
  return prompts;
}

// What `baleen train` wrote, as transformers loads it: tools/golden/trained.py makes the directory.
TEST(TrainedCheckpointTest, IsWhatTransformersMakesOfIt) {
  const char* cases = std::getenv("BALEEN_TRAINED_CHECKPOINTS");
  if (cases == nullptr) GTEST_SKIP() << "./test makes these checkpoints, with transformers";
  for (const std::string name : {"v2", "v3"}) {
    SCOPED_TRACE(name);
    const ModelRunner runner(std::string(cases) + "/" + name);
    const Expected expected(name, cases);
    const std::vector<int32_t> ids = expected.Ints("prompt.0.ids");
    std::vector<float> wanted = expected.Floats("prompt.0.logits");
    const std::vector<float> got =
        runner.Run(ids, {.table = &kernels::SelectKernels(), .form = MlaForm::kDirect}).logits;
    EXPECT_LE(Deviation(got, wanted), 1);
    wanted[wanted.size() / 2] += 1e-2f;  // the comparison sees one wrong logit
    EXPECT_GT(Deviation(got, wanted), 1);
  }
}

class GoldenTest : public testing::TestWithParam<std::tuple<std::string, std::string>> {
 protected:
  const std::string name_ = std::get<0>(GetParam());
  const kernels::KernelTable& table_ = kernels::SelectKernels(std::get<1>(GetParam()));
  const Expected expected_{name_};
  const ModelRunner runner_{kCases + "/" + name_};
};

TEST_P(GoldenTest, F32MatchesTheReference) {
  for (const Prompt& prompt : Prompts(expected_)) {
    for (MlaForm form : {MlaForm::kDirect, MlaForm::kAbsorbed}) {
      SCOPED_TRACE(prompt.prefix + (form == MlaForm::kDirect ? "direct" : "absorbed"));
      const RunOptions options = {.table = &table_, .form = form};
      const RunResult run = runner_.Run(prompt.ids, options);
      EXPECT_LE(Deviation(run.logits, expected_.Floats(prompt.prefix + "logits")), 1);

      const std::vector<float> hidden = expected_.Floats(prompt.prefix + "hidden");
      const size_t stage_size = prompt.ids.size() * runner_.config().hidden_size;
      for (size_t stage = 0; stage < run.hidden.size(); ++stage) {
        const auto begin = hidden.begin() + static_cast<ptrdiff_t>(stage * stage_size);
        const std::vector<float> wanted(begin, begin + static_cast<ptrdiff_t>(stage_size));
        EXPECT_LE(Deviation(run.hidden[stage], wanted), 1) << "stage " << stage;
      }
      for (const RunResult::Routing& routing : run.routing) {
        const std::string layer = fmt::format("{}layer.{}.", prompt.prefix, routing.layer);
        EXPECT_EQ(routing.experts, expected_.Ints(layer + "experts"));
        EXPECT_LE(Deviation(routing.weights, expected_.Floats(layer + "weights")), 1);
      }
      const std::vector<int32_t> greedy = expected_.Ints(prompt.prefix + "greedy");
      EXPECT_EQ(runner_.Greedy(prompt.ids, greedy.size(), options), greedy);
    }
  }
}

// The latent cache in 8 bits: close, and the same bits whatever the company.
TEST_P(GoldenTest, Int8CacheStaysClose) {
  const auto prompts = Prompts(expected_);
  const std::vector<int32_t>& ids = prompts[0].ids;
  for (MlaForm form : {MlaForm::kDirect, MlaForm::kAbsorbed}) {
    RunOptions options = {.table = &table_, .form = form, .cache_dtype = DType::kI8};
    const std::vector<float> alone = runner_.Run(ids, options).logits;
    EXPECT_LE(RelativeNorm(alone, expected_.Floats(prompts[0].prefix + "logits")), 2e-2);
    options.num_threads = 2;
    options.chunk = 7;
    options.company = prompts[1].ids;
    EXPECT_EQ(runner_.Run(ids, options).logits, alone);
  }
}

TEST_P(GoldenTest, Bf16StaysClose) {
  for (const Prompt& prompt : Prompts(expected_)) {
    for (MlaForm form : {MlaForm::kDirect, MlaForm::kAbsorbed}) {
      const RunResult run = runner_.Run(
          prompt.ids,
          {.table = &table_, .form = form, .bf16_products = true, .cache_dtype = DType::kBF16});
      for (const RunResult::Routing& routing : run.routing) {
        const std::string layer = fmt::format("{}layer.{}.", prompt.prefix, routing.layer);
        ASSERT_EQ(routing.experts, expected_.Ints(layer + "experts"))
            << "the routing margins of the case should be wider than BF16's error";
      }
      EXPECT_LE(RelativeNorm(run.logits, expected_.Floats(prompt.prefix + "logits")), 2e-2);
    }
  }
}

// Bit for bit: threads, chunks and company change nothing.
TEST_P(GoldenTest, SameAnswerWhateverTheCompany) {
  const std::vector<Prompt> prompts = Prompts(expected_);
  const std::vector<int32_t>& ids = prompts[0].ids;
  for (MlaForm form : {MlaForm::kDirect, MlaForm::kAbsorbed}) {
    for (bool bf16 : {false, true}) {
      RunOptions options = {.table = &table_,
                            .form = form,
                            .bf16_products = bf16,
                            .cache_dtype = bf16 ? DType::kBF16 : DType::kF32};
      const std::vector<float> alone = runner_.Run(ids, options).logits;
      for (size_t threads : {1, 2}) {
        for (size_t chunk : {1, 7, 512}) {
          for (bool company : {false, true}) {
            // No combination touches memory that this one does not.
            if (kSanitized && !(threads == 2 && company)) continue;
            options.num_threads = threads;
            options.chunk = chunk;
            options.company = company ? prompts[1].ids : std::vector<int32_t>{};
            EXPECT_EQ(runner_.Run(ids, options).logits, alone)
                << threads << " threads, chunks of " << chunk << (company ? ", in company" : "");
          }
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, GoldenTest,
                         testing::Combine(testing::ValuesIn(CaseNames()),
                                          testing::ValuesIn(TableNames())),
                         [](const auto& info) {
                           return std::get<0>(info.param) + "_" + std::get<1>(info.param);
                         });

// The judge itself: one logit that is off by a thousandth is caught, and so is a NaN.
TEST(GoldenJudgeTest, SeesAPlantedFault) {
  const std::vector<float> right = {1.0f, -8.0f, 3.0f};
  EXPECT_LE(Deviation(right, right), 1);
  EXPECT_GT(Deviation({1.0f, -8.0f, 3.001f}, right), 1);
  EXPECT_GT(Deviation({1.0f, std::nanf(""), 3.0f}, right), 1);
  EXPECT_GT(Deviation({1.0f, -8.0f}, right), 1);
}

// And the whole chain: a model with one weight changed does not pass for the reference.
TEST(GoldenJudgeTest, SeesAChangedWeight) {
  const fs::path copy = fs::path(testing::TempDir()) / "changed_weight";
  fs::remove_all(copy);
  fs::copy(kCases + "/v3", copy);
  {
    const SafetensorsFile original(kCases + "/v3/model.safetensors");
    const TensorView* gate = original.Find("model.layers.1.mlp.shared_experts.gate_proj.weight");
    ASSERT_NE(gate, nullptr);
    const std::string bytes = ReadFile((copy / "model.safetensors").string(), size_t{1} << 24);
    const size_t place =
        bytes.find(std::string(reinterpret_cast<const char*>(gate->data), gate->size_bytes()));
    ASSERT_NE(place, std::string::npos);
    std::string changed = bytes;
    changed[place + 1] ^= 0x01;  // the exponent of one BF16 weight
    std::ofstream(copy / "model.safetensors", std::ios::binary) << changed;
  }
  const Expected expected("v3");
  const RunResult run =
      ModelRunner(copy.string())
          .Run(expected.Ints("prompt.0.ids"), {.table = &kernels::SelectKernels("scalar")});
  EXPECT_GT(Deviation(run.logits, expected.Floats("prompt.0.logits")), 1);
}

// The same checkpoints in GGUF files, by the `gguf` package (tools/golden/gguf_model.py).
class GgufTest : public testing::TestWithParam<std::string> {
 protected:
  static std::string File(const std::string& name) {
    return BALEEN_SOURCE_DIR "/tests/golden/gguf/" + name + ".gguf";
  }
  const kernels::KernelTable& table_ = kernels::SelectKernels(GetParam());
};

TEST_P(GgufTest, AnswersLikeTheDirectory) {
  for (const std::string name : {"v2_lite", "v3"}) {
    const Expected expected(name);
    const ModelRunner runner(File(name));
    for (const Prompt& prompt : Prompts(expected)) {
      for (MlaForm form : {MlaForm::kDirect, MlaForm::kAbsorbed}) {
        const RunResult run = runner.Run(prompt.ids, {.table = &table_, .form = form});
        EXPECT_LE(Deviation(run.logits, expected.Floats(prompt.prefix + "logits")), 1) << name;
      }
    }
  }
}

TEST_P(GgufTest, BlocksAnswerLikeTheirValues) {
  const ModelRunner blocks(File("q8_0")), values(File("q8_0_values-00001-of-00002"));
  const std::vector<int32_t> ids = {3, 1, 4, 15, 9, 2, 6, 53, 5, 8, 9, 7, 9, 32, 38, 46, 26, 43};
  for (MlaForm form : {MlaForm::kDirect, MlaForm::kAbsorbed}) {
    RunOptions options = {.table = &table_, .form = form};
    const std::vector<float> wanted = values.Run(ids, options).logits;
    const std::vector<float> logits = blocks.Run(ids, options).logits;
    EXPECT_LE(Deviation(logits, wanted), 1);
    for (size_t threads : {1, 2}) {
      for (size_t chunk : {1, 7}) {
        options.num_threads = threads;
        options.chunk = chunk;
        options.company = {7, 7, 1};
        EXPECT_EQ(blocks.Run(ids, options).logits, logits) << threads << " threads, " << chunk;
      }
    }
  }
}

// The same file repacked into tiles: with floats the same numbers, with whole numbers nearly.
TEST_P(GgufTest, TilesAnswerLikeTheirValues) {
  const ModelRunner tiles(File("q8_0"), /*repack=*/true);
  const ModelRunner values(File("q8_0_values-00001-of-00002"));
  const std::vector<int32_t> ids = {3, 1, 4, 15, 9, 2, 6, 53, 5, 8, 9, 7, 9, 32, 38, 46, 26, 43};
  for (MlaForm form : {MlaForm::kDirect, MlaForm::kAbsorbed}) {
    RunOptions options = {.table = &table_, .form = form};
    const std::vector<float> wanted = values.Run(ids, options).logits;
    EXPECT_LE(Deviation(tiles.Run(ids, options).logits, wanted), 1);
    options.i8_products = true;
    const std::vector<float> logits = tiles.Run(ids, options).logits;
    // Rounding to 8 bits: a few parts in a hundred of the largest logit, and not nothing.
    float largest = 0, error = 0;
    for (size_t i = 0; i < wanted.size(); ++i) {
      largest = std::max(largest, std::abs(wanted[i]));
      error = std::max(error, std::abs(wanted[i] - logits[i]));
    }
    EXPECT_LE(error, 0.05f * largest);
    EXPECT_GT(error, 0);
    for (size_t threads : {1, 2}) {
      for (size_t chunk : {1, 7}) {
        options.num_threads = threads;
        options.chunk = chunk;
        options.company = {7, 7, 1};
        EXPECT_EQ(tiles.Run(ids, options).logits, logits) << threads << " " << chunk;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tables, GgufTest, testing::ValuesIn(TableNames()));

}  // namespace
}  // namespace baleen
