// Whatever a checkpoint is stored in, training begins with the model that it is.
#include "training/initial_weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "base/error.h"
#include "base/json.h"
#include "checkpoint/gguf_export.h"
#include "formats/safetensors.h"
#include "kernels/registry.h"
#include "training/pass.h"

namespace baleen {
namespace {

const std::string kModels = BALEEN_SOURCE_DIR "/models/";
const std::string kCheckpoints = BALEEN_SOURCE_DIR "/tests/golden/checkpoints/";

// A checkpoint and what training makes of it.
struct Start {
  explicit Start(const std::string& model)
      : checkpoint(OpenCheckpoint(model)),
        parameters(checkpoint.config.model, checkpoint.config.tie_word_embeddings, Products::kF32),
        pool(2),
        ctx{.table = kernels::SelectKernels(), .pool = pool} {
    CopyWeights(checkpoint, parameters, ctx);
    parameters.Publish(ctx);
  }

  double Loss(std::vector<int32_t> ids) {
    const PassOptions options = {.num_sequences = 1, .sequence_length = ids.size() - 1};
    TrainingPass pass(checkpoint.config.model, parameters, options);
    ExpertLoad load = pass.EmptyLoad();
    return pass.Evaluate(ids, ctx, load).loss;
  }

  Checkpoint checkpoint;
  Parameters parameters;
  ThreadPool pool;
  kernels::KernelContext ctx;
};

// Of `ids`, by the logits [ids, vocab] after each.
double LossOf(const std::vector<int32_t>& ids, const std::vector<float>& logits) {
  const size_t vocab = logits.size() / ids.size();
  double loss = 0;
  for (size_t i = 0; i + 1 < ids.size(); ++i) {
    const float* row = logits.data() + i * vocab;
    double sum = 0;
    for (size_t v = 0; v < vocab; ++v) sum += std::exp(static_cast<double>(row[v]));
    loss += std::log(sum) - row[ids[i + 1]];
  }
  return loss;
}

class InitialLossTest : public testing::TestWithParam<const char*> {};

// The logits are those of transformers, which decodes by its own rules.
TEST_P(InitialLossTest, IsThatOfTheReference) {
  const std::string model = kCheckpoints + GetParam();
  const auto expected = OpenSafetensors(model + "/expected.safetensors");
  const TensorView& stored = *expected->Find("prompt.0.ids");
  std::vector<int32_t> ids(stored.num_elements());
  std::memcpy(ids.data(), stored.data, stored.size_bytes());
  const double wanted = LossOf(ids, ToF32(*expected->Find("prompt.0.logits")));
  Start start(model);
  EXPECT_NEAR(start.Loss(ids), wanted, 1e-4 * wanted);

  // A weight that was left at zero is seen.
  std::ranges::fill(start.parameters.list()[3].value, 0.0f);
  EXPECT_GT(std::abs(start.Loss(ids) - wanted), 1e-3 * wanted);
}

INSTANTIATE_TEST_SUITE_P(, InitialLossTest,
                         testing::Values("v3", "v3_fp8", "v3_fp8_ue8m0", "v3_packed", "v3_sharded",
                                         "v3_negative_bias", "kimi_k2", "v2_lite", "v2_group"),
                         [](const auto& info) { return std::string(info.param); });

// Codes and scales of a symmetric GPTQ matrix, by hand: eight codes of 4 bits in a word, the lowest
// first, one behind the other along the inputs; 8 is zero.
TEST(InitialWeights, DecodesGptq) {
  Start start(kModels + "baleen-stories-mini-gptq4");
  const auto source = OpenSafetensors(kModels + "baleen-stories-mini-gptq4");
  size_t num_decoded = 0;
  for (const Parameter& parameter : start.parameters.list()) {
    const std::string stem = parameter.name.substr(0, parameter.name.rfind('.'));
    const TensorView* words = source->Find(stem + ".qweight");
    if (words == nullptr) {
      const std::vector<float> stored = ToF32(*source->Find(parameter.name));
      EXPECT_TRUE(std::ranges::equal(stored, parameter.value)) << parameter.name;
      continue;
    }
    const std::vector<float> scales = ToF32(*source->Find(stem + ".scales"));
    const size_t rows = parameter.shape[0], cols = parameter.shape[1];
    const size_t group_cols = cols / (scales.size() / rows);
    size_t num_wrong = 0;
    for (size_t c = 0; c < cols; ++c) {
      for (size_t r = 0; r < rows; ++r) {
        uint32_t word = 0;
        std::memcpy(&word, words->data + (c / 8 * rows + r) * 4, 4);
        const int code = static_cast<int>(word >> (c % 8 * 4) & 15) - 8;
        const float value = static_cast<float>(code) * scales[c / group_cols * rows + r];
        num_wrong += value != parameter.value[r * cols + c];
      }
    }
    EXPECT_EQ(num_wrong, 0u) << parameter.name;
    ++num_decoded;
  }
  EXPECT_GT(num_decoded, 100u);
}

class GgufStartTest : public testing::Test {
 protected:
  // All parameters of the golden checkpoint, exported in a type.
  std::vector<float> Exported(const std::string& model, DType type) {
    ExportGguf(OpenCheckpoint(model), path_, {.type = type, .num_threads = 1, .sync = false});
    std::vector<float> values = Values(path_);
    std::filesystem::remove(path_);
    return values;
  }
  static std::vector<float> Values(const std::string& model) {
    const Start start(model);
    std::vector<float> all;
    for (const Parameter& p : start.parameters.list()) {
      all.insert(all.end(), p.value.begin(), p.value.end());
    }
    for (const auto& bias : start.parameters.router_biases()) {
      all.insert(all.end(), bias.begin(), bias.end());
    }
    return all;
  }

  const std::string path_ = testing::TempDir() + "/start.gguf";
};

TEST_F(GgufStartTest, IsTheModelThatItWasMadeFrom) {
  const std::string model = kModels + "baleen-stories-mini";
  const std::vector<float> wanted = Values(model);
  EXPECT_EQ(Exported(model, DType::kBF16), wanted);

  // 8 bits with a scale for 32 are within a hundredth.
  const std::vector<float> rounded = Exported(model, DType::kQ8_0);
  ASSERT_EQ(rounded.size(), wanted.size());
  double error = 0, norm = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    error += std::pow(static_cast<double>(rounded[i]) - wanted[i], 2);
    norm += std::pow(static_cast<double>(wanted[i]), 2);
  }
  EXPECT_GT(error, 0);
  EXPECT_LT(std::sqrt(error / norm), 0.01);
}

TEST(InitialWeights, NeedsTheMtpModuleThatTheConfigNames) {
  Checkpoint checkpoint = OpenCheckpoint(kCheckpoints + "v3_mtp");
  Parameters parameters(checkpoint.config.model, false, Products::kF32);
  ThreadPool pool(1);
  kernels::KernelContext ctx{.table = kernels::SelectKernels(), .pool = pool};
  CopyWeights(checkpoint, parameters, ctx);
  checkpoint.weights.mtp.clear();
  EXPECT_THROW(CopyWeights(checkpoint, parameters, ctx), Error);
}

TEST(InitialWeights, LeaveHowTheyWereStored) {
  const std::string plain = R"({"a": [1, 2], "b": {"quantization_config": 1}})";
  EXPECT_EQ(WithoutQuantization(plain), plain);
  const std::string kept = WithoutQuantization(
      R"({"a": [1, 2.5], "quantization_config": {"bits": 4}, "c\"d": "e\nf", "g": null})");
  const JsonDocument document = JsonDocument::Parse(kept, "config.json");
  EXPECT_EQ(document.object().size(), 3u);
  EXPECT_EQ(simdjson::minify(document.root()), R"({"a":[1,2.5],"c\"d":"e\nf","g":null})");
}

}  // namespace
}  // namespace baleen
