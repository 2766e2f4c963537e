// The whole model's way back against PyTorch (tools/golden/training.py), and what must not change
// its results.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "base/json.h"
#include "base/random.h"
#include "checkpoint/checkpoint.h"
#include "formats/safetensors.h"
#include "kernels/registry.h"
#include "training/initial_weights.h"
#include "training/optimizer.h"
#include "training/pass.h"
#include "training/router_gradient.h"

namespace baleen {
namespace {

const std::string kGolden = BALEEN_SOURCE_DIR "/tests/golden/";

double Number(simdjson::dom::element root, const char* key) {
  double value = 0;
  if (root.at_key(key).get_double().get(value)) return 0;
  return value;
}

// A tiny checkpoint, the tokens to learn, and one micro-batch of both.
class Case {
 public:
  explicit Case(const std::string& name, Products products = Products::kF32, bool recompute = false,
                size_t num_threads = 2,
                const kernels::KernelTable& table = kernels::SelectKernels())
      : name_(name),
        json_(JsonDocument::Parse(ReadFile(kGolden + "training/" + name + ".json", 1 << 24), name)),
        checkpoint_(OpenCheckpoint(kGolden + "checkpoints/" + name)),
        parameters_(checkpoint_.config.model, false, products),
        pool_(num_threads),
        ctx_{.table = table, .pool = pool_, .chained_f32_products = true} {
    for (auto id : json_.root()["tokens"].get_array()) {
      tokens_.push_back(static_cast<int32_t>(int64_t(id)));
    }
    CopyWeights(checkpoint_, parameters_, ctx_);
    parameters_.Publish(ctx_);
    const auto length = static_cast<size_t>(Number(json_.root(), "sequence_length"));
    options_ = {.num_sequences = tokens_.size() / (length + 1),
                .sequence_length = length,
                .recompute = recompute,
                .mtp_weight = Number(json_.root(), "mtp_weight")};
    BalanceOptions& balance = options_.balance;
    balance.sequence_alpha = Number(json_.root(), "sequence_alpha");
    balance.expert_alpha = Number(json_.root(), "expert_alpha");
    balance.device_alpha = Number(json_.root(), "device_alpha");
    balance.communication_alpha = Number(json_.root(), "communication_alpha");
    if (balance.sequence_alpha > 0) balance.method = Balance::kBias;
    if (balance.expert_alpha > 0) balance.method = Balance::kAux;
  }

  size_t num_sequences() const { return options_.num_sequences; }
  size_t num_targets() const { return options_.num_sequences * options_.sequence_length; }
  simdjson::dom::element json() const { return json_.root(); }
  Parameters& parameters() { return parameters_; }
  kernels::KernelContext& ctx() { return ctx_; }

  // Gradients of all sequences, `at_once` of them in a pass.
  PassResult Run(size_t at_once = SIZE_MAX) {
    PassOptions options = options_;
    options.num_sequences = std::min(at_once, num_sequences());
    TrainingPass pass(checkpoint_.config.model, parameters_, options);
    load_ = pass.EmptyLoad();
    parameters_.ClearGradients();
    PassResult total;
    const size_t stride = options.num_sequences * (options.sequence_length + 1);
    for (size_t first = 0; first < tokens_.size(); first += stride) {
      const PassResult part = pass.Run(std::span(tokens_).subspan(first, stride), num_targets(),
                                       num_sequences(), ctx_, load_);
      total.loss += part.loss;
      total.mtp_loss += part.mtp_loss;
      total.balance_loss += part.balance_loss;
      total.num_targets += part.num_targets;
    }
    return total;
  }
  const ExpertLoad& load() const { return load_; }

  std::vector<float> Gradients() const {
    std::vector<float> all;
    for (const Parameter& p : parameters_.list()) {
      all.insert(all.end(), p.grad.begin(), p.grad.end());
    }
    return all;
  }

 private:
  std::string name_;
  JsonDocument json_;
  Checkpoint checkpoint_;
  Parameters parameters_;
  ThreadPool pool_;
  kernels::KernelContext ctx_;
  std::vector<int32_t> tokens_;
  PassOptions options_;
  ExpertLoad load_;
};

double Norm(std::span<const float> x) {
  double sum = 0;
  for (const float v : x) sum += static_cast<double>(v) * v;
  return std::sqrt(sum);
}

double NormError(std::span<const float> got, std::span<const float> wanted) {
  std::vector<float> difference(got.begin(), got.end());
  for (size_t i = 0; i < difference.size(); ++i) difference[i] -= wanted[i];
  return Norm(difference) / (Norm(wanted) + 1e-6);
}

class PlainGoldenTest : public testing::TestWithParam<const char*> {};

// Balance losses and MTP, which transformers lacks: all gradients.
TEST_P(PlainGoldenTest, GradientsAreAutograds) {
  for (const kernels::KernelChoice& choice : kernels::KernelChoices()) {
    if (!choice.declined.empty()) continue;
    Case c(GetParam(), Products::kF32, false, 2, *choice.table);
    const PassResult result = c.Run();
    const auto targets = static_cast<double>(c.num_targets());
    EXPECT_NEAR(result.loss / targets, Number(c.json(), "loss"), 1e-5);
    EXPECT_NEAR(result.mtp_loss / targets, Number(c.json(), "mtp_loss"), 1e-5);
    EXPECT_NEAR(result.balance_loss / static_cast<double>(c.num_sequences()),
                Number(c.json(), "balance_loss"), 1e-5);
    const SafetensorsFile golden(kGolden + "training/" + GetParam() + ".safetensors");
    size_t compared = 0;
    for (const Parameter& p : c.parameters().list()) {
      const TensorView* view = golden.Find(p.name);
      if (view == nullptr) {
        EXPECT_EQ(Norm(p.grad), 0) << p.name;  // an expert that nobody chose
        continue;
      }
      EXPECT_LE(NormError(p.grad, ToF32(*view)), 1e-4) << p.name << " " << choice.name;
      ++compared;
    }
    EXPECT_GT(compared, 50u);
  }
}

INSTANTIATE_TEST_SUITE_P(Plain, PlainGoldenTest, testing::Values("v2_group", "v3_mtp"));

class TransformersGoldenTest : public testing::TestWithParam<const char*> {};

TEST_P(TransformersGoldenTest, GradientNormsAreAutograds) {
  Case c(GetParam());
  const PassResult result = c.Run();
  EXPECT_NEAR(result.loss / static_cast<double>(c.num_targets()), Number(c.json(), "loss"), 1e-5);
  std::map<std::string, double> norms;
  for (const Parameter& p : c.parameters().list()) norms[p.name] = Norm(p.grad);
  for (auto [key, value] : simdjson::dom::object(c.json()["grad_norms"])) {
    const double wanted = double(value);
    EXPECT_NEAR(norms.at(std::string(key)), wanted, 1e-4 * wanted + 1e-7) << key;
  }
}

TEST_P(TransformersGoldenTest, TenStepsOfAdamW) {
  Case c(GetParam());
  Optimizer optimizer(c.parameters(), {});
  uint64_t step = 0;
  for (auto wanted : c.json()["losses"].get_array()) {
    const double loss = c.Run().loss / static_cast<double>(c.num_targets());
    EXPECT_NEAR(loss, double(wanted), 1e-4) << step;
    const double norm = GradientNorm(c.parameters(), c.ctx());
    optimizer.Step(++step, 1e-3, std::min(1.0, 1.0 / (norm + 1e-6)), c.ctx());
    c.parameters().Publish(c.ctx());
  }
  EXPECT_EQ(step, 10u);
}

INSTANTIATE_TEST_SUITE_P(Transformers, TransformersGoldenTest, testing::Values("v2_lite", "v3"));

TEST(GradientTest, RecomputedLayersGiveTheSameBits) {
  for (const char* name : {"v2_group", "v3_mtp"}) {
    Case kept(name), recomputed(name, Products::kF32, true);
    kept.Run();
    recomputed.Run();
    EXPECT_EQ(kept.Gradients(), recomputed.Gradients()) << name;
    EXPECT_EQ(kept.load(), recomputed.load()) << name;
  }
}

TEST(GradientTest, ThreadsDoNotChangeBits) {
  Case one("v3_mtp", Products::kF32, false, 1), three("v3_mtp", Products::kF32, false, 3);
  one.Run();
  three.Run();
  EXPECT_EQ(one.Gradients(), three.Gradients());
}

// Sequences one by one add up to what they give together.
TEST(GradientTest, MicroBatchesAddUp) {
  Case together("v3_mtp"), apart("v3_mtp");
  const PassResult a = together.Run(), b = apart.Run(1);
  EXPECT_NEAR(a.loss, b.loss, 1e-3);
  EXPECT_NEAR(a.balance_loss, b.balance_loss, 1e-6);
  EXPECT_LE(NormError(apart.Gradients(), together.Gradients()), 1e-5);
  EXPECT_EQ(together.load(), apart.load());
}

TEST(GradientTest, Bf16ProductsComeNear) {
  if (!kernels::SelectKernels().bf16_products) GTEST_SKIP() << "this machine has no BF16 products";
  for (const char* name : {"v2_group", "v3_mtp"}) {
    Case wide(name), rounded(name, Products::kBF16);
    const PassResult a = wide.Run(), b = rounded.Run();
    EXPECT_NEAR(b.loss / a.loss, 1, 5e-3);
    const double error = NormError(rounded.Gradients(), wide.Gradients());
    EXPECT_LE(error, 0.1) << name;
    EXPECT_GT(error, 1e-5) << "nothing was rounded";
  }
}

TEST(GradientTest, LoadCountsEveryChoice) {
  Case c("v3_mtp");
  c.Run();
  ASSERT_EQ(c.load().size(), 2u);  // one MoE layer and the MTP module
  for (const auto& layer : c.load()) {
    uint64_t total = 0;
    for (const uint64_t count : layer) total += count;
    EXPECT_EQ(total, c.num_targets() * 3);
  }
}

// The router's way back in double against central differences, for each kind of router.
TEST(RouterGradientTest, EqualsDifferences) {
  ModelConfig config;
  config.n_routed_experts = 6;
  config.num_experts_per_tok = 3;
  config.routed_scaling_factor = 2.5;
  const std::vector<int32_t> experts = {4, 0, 3};
  Random random(7);
  for (const ScoringFunc scoring : {ScoringFunc::kSoftmax, ScoringFunc::kSigmoid}) {
    for (const bool normalise : {false, true}) {
      for (const TopkMethod method : {TopkMethod::kGreedy, TopkMethod::kNoauxTc}) {
        config.scoring_func = scoring;
        config.norm_topk_prob = normalise;
        config.topk_method = method;
        std::vector<double> logits(6), slopes(6), e(3), scores(6), weights(3);
        for (auto* list : {&logits, &slopes, &e}) {
          for (double& value : *list) value = 2 * random.UniformDouble() - 1;
        }
        const auto loss = [&] {
          double all = 0, chosen = 1e-20, result = 0;
          for (size_t i = 0; i < 6; ++i) {
            scores[i] = scoring == ScoringFunc::kSigmoid ? 1 / (1 + std::exp(-logits[i]))
                                                         : std::exp(logits[i]);
            all += scores[i];
          }
          if (scoring == ScoringFunc::kSoftmax) {
            for (double& score : scores) score /= all;
            all = 1;
          }
          for (const int32_t i : experts) chosen += scores[static_cast<size_t>(i)];
          for (size_t i = 0; i < 3; ++i) {
            weights[i] = scores[static_cast<size_t>(experts[i])];
            if (normalise) weights[i] /= chosen;
            if (!normalise || method == TopkMethod::kNoauxTc) weights[i] *= 2.5;
            result += e[i] * weights[i];
          }
          for (size_t i = 0; i < 6; ++i) result += slopes[i] * scores[i] / all;
          return result;
        };
        loss();
        std::vector<double> grad(6);
        RouterGradient<double>(config,
                               {.scores = scores.data(),
                                .experts = experts.data(),
                                .weights = weights.data(),
                                .grad_weights = e.data(),
                                .grad_shares = slopes.data()},
                               grad.data());
        for (size_t i = 0; i < 6; ++i) {
          const double value = logits[i], step = 1e-5;
          logits[i] = value + step;
          const double above = loss();
          logits[i] = value - step;
          const double below = loss();
          logits[i] = value;
          EXPECT_NEAR(grad[i], (above - below) / (2 * step), 1e-7);
        }
      }
    }
  }
}

TEST(BalanceTest, TheBiasMovesTowardsTheMean) {
  const std::vector<uint64_t> load = {5, 3, 1, 3};
  std::vector<float> bias(4, 0.5f);
  UpdateBias(load, 0.25, bias);
  EXPECT_EQ(bias, (std::vector<float>{0.25f, 0.5f, 0.75f, 0.5f}));
}

TEST(BalanceTest, TheBiasComesToRest) {
  EXPECT_EQ(BiasSpeed(0.5, 0, 1, 8), 0.5);
  EXPECT_EQ(BiasSpeed(0.5, 0, 8, 8), 0.5);
  // The last half of eight steps: full, then three quarters, a half, a quarter.
  EXPECT_EQ(BiasSpeed(0.5, 0.5, 4, 8), 0.5);
  EXPECT_EQ(BiasSpeed(0.5, 0.5, 5, 8), 0.5);
  EXPECT_EQ(BiasSpeed(0.5, 0.5, 6, 8), 0.375);
  EXPECT_EQ(BiasSpeed(0.5, 0.5, 8, 8), 0.125);
  EXPECT_EQ(BiasSpeed(0.5, 0.5, 9, 8), 0);  // a run that goes on
  EXPECT_EQ(BiasSpeed(0.5, 1, 1, 8), 0.5);
}

TEST(BalanceTest, LoadIsSummarized) {
  const std::vector<uint64_t> even = {4, 4, 4, 4}, one = {16, 0, 0, 0};
  EXPECT_EQ(Summarize(even).max_vio, 0);
  EXPECT_NEAR(Summarize(even).entropy, 1, 1e-12);
  EXPECT_EQ(Summarize(even).dead_experts, 0u);
  EXPECT_EQ(Summarize(one).max_vio, 3);
  EXPECT_EQ(Summarize(one).entropy, 0);
  EXPECT_EQ(Summarize(one).dead_experts, 3u);
  // A layer without tokens has no say.
  const LoadStatistics all = Summarize({even, one, {0, 0, 0, 0}});
  EXPECT_EQ(all.max_vio, 1.5);
  EXPECT_NEAR(all.entropy, 0.5, 1e-12);
  EXPECT_EQ(all.dead_experts, 3u);
}

// Perfect balance gives alpha in each of V2's losses (spec: f = P E = 1).
TEST(BalanceTest, PerfectBalanceGivesAlpha) {
  ModelConfig config;
  config.n_routed_experts = 4;
  config.num_experts_per_tok = 2;
  config.n_group = 2;
  config.topk_group = 1;
  const std::vector<float> scores(16, 0.25f);
  const std::vector<int32_t> experts = {0, 1, 2, 3, 0, 1, 2, 3};
  std::vector<float> slopes(4);
  BalanceOptions options = {.method = Balance::kAux, .expert_alpha = 0.5};
  const auto loss = [&] {
    return SequenceBalanceLoss(config, options, scores.data(), experts.data(), 4, slopes.data());
  };
  EXPECT_NEAR(loss(), 0.5, 1e-6);
  options = {.method = Balance::kAux, .expert_alpha = 0, .device_alpha = 0.25};
  EXPECT_NEAR(loss(), 0.25, 1e-6);
  options = {.method = Balance::kAux, .expert_alpha = 0, .communication_alpha = 0.125};
  EXPECT_NEAR(loss(), 0.125, 1e-6);
}

TEST(ScheduleTest, WarmsUpAndFalls) {
  ScheduleOptions options = {.kind = Schedule::kCosine,
                             .lr = 1,
                             .min_lr_ratio = 0.1,
                             .warmup_steps = 4,
                             .total_steps = 104};
  EXPECT_DOUBLE_EQ(LearningRate(options, 0), 0.25);
  EXPECT_DOUBLE_EQ(LearningRate(options, 3), 1);
  EXPECT_DOUBLE_EQ(LearningRate(options, 4), 1);
  EXPECT_NEAR(LearningRate(options, 54), 0.55, 1e-12);
  EXPECT_NEAR(LearningRate(options, 104), 0.1, 1e-12);
  options.kind = Schedule::kStep;
  EXPECT_DOUBLE_EQ(LearningRate(options, 61), 1);
  EXPECT_DOUBLE_EQ(LearningRate(options, 63), 0.316);
  EXPECT_NEAR(LearningRate(options, 94), 0.316 * 0.316, 1e-12);
  options.kind = Schedule::kConstant;
  EXPECT_DOUBLE_EQ(LearningRate(options, 1000), 1);
}

// Muon's step on a matrix is nearly orthogonal, whatever the gradient's scale: its singular values,
// here those of a diagonal, come to about 0.2 sqrt(3) lr.
TEST(MuonTest, StepsAreOrthogonal) {
  ModelConfig config;
  config.vocab_size = 5;
  config.hidden_size = 3;
  config.intermediate_size = 3;
  config.num_hidden_layers = 1;
  config.num_attention_heads = 1;
  config.kv_lora_rank = config.qk_nope_head_dim = config.qk_rope_head_dim = config.v_head_dim = 2;
  Parameters parameters(config, false, Products::kF32);
  Optimizer optimizer(parameters, {.muon = true, .weight_decay = 0});
  ThreadPool pool(1);
  kernels::KernelContext ctx{.table = kernels::SelectKernels(), .pool = pool};
  for (const Parameter& p : parameters.list()) {
    if (p.name != "model.layers.0.mlp.gate_proj.weight") continue;
    p.grad[0] = 100;
    p.grad[4] = 30;
    p.grad[8] = 60;
    optimizer.Step(1, 1.0, 1.0, ctx);
    for (size_t i = 0; i < 9; ++i) {
      const double wanted = i % 4 == 0 ? -0.2 * std::sqrt(3.0) : 0;
      EXPECT_NEAR(p.value[i], wanted, i % 4 == 0 ? 0.12 : 1e-6) << i;
    }
    return;
  }
  FAIL() << "the matrix is not there";
}

}  // namespace
}  // namespace baleen
