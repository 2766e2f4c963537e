// The router by hand: small cases whose answer can be worked out on paper.
#include "model/moe.h"

#include <gtest/gtest.h>

#include <cmath>

namespace baleen {
namespace {

float Logit(float probability) { return std::log(probability / (1 - probability)); }

struct Routed {
  std::vector<int32_t> experts;
  std::vector<float> weights;
};

Routed RouteLogits(const ModelConfig& config, std::vector<float> logits,
                   const std::vector<float>& bias = {}) {
  Routed routed;
  routed.experts.resize(config.num_experts_per_tok);
  routed.weights.resize(config.num_experts_per_tok);
  Route(config, logits.data(), bias.empty() ? nullptr : bias.data(), routed.experts.data(),
        routed.weights.data());
  return routed;
}

ModelConfig V3(size_t experts, size_t k, size_t groups, size_t kept) {
  ModelConfig config;
  config.n_routed_experts = experts;
  config.num_experts_per_tok = k;
  config.n_group = groups;
  config.topk_group = kept;
  config.scoring_func = ScoringFunc::kSigmoid;
  config.topk_method = TopkMethod::kNoauxTc;
  config.norm_topk_prob = true;
  config.routed_scaling_factor = 2.5;
  return config;
}

TEST(RouteTest, GreedyTakesTheLargestSoftmaxScores) {
  ModelConfig config;
  config.n_routed_experts = 4;
  config.num_experts_per_tok = 2;
  // softmax of log(1), log(4), log(2), log(3) is 0.1, 0.4, 0.2, 0.3.
  const Routed routed = RouteLogits(config, {0, std::log(4.0f), std::log(2.0f), std::log(3.0f)});
  EXPECT_EQ(routed.experts, (std::vector<int32_t>{1, 3}));
  EXPECT_NEAR(routed.weights[0], 0.4, 1e-6);
  EXPECT_NEAR(routed.weights[1], 0.3, 1e-6);
}

TEST(RouteTest, TiesGoToTheLowerNumber) {
  ModelConfig config;
  config.n_routed_experts = 5;
  config.num_experts_per_tok = 2;
  EXPECT_EQ(RouteLogits(config, {1, 2, 2, 2, 0}).experts, (std::vector<int32_t>{1, 2}));
}

TEST(RouteTest, V2NormalisesOrScalesNeverBoth) {
  ModelConfig config;
  config.n_routed_experts = 4;
  config.num_experts_per_tok = 2;
  config.routed_scaling_factor = 16;
  const std::vector<float> logits = {0, std::log(4.0f), std::log(2.0f), std::log(3.0f)};
  EXPECT_NEAR(RouteLogits(config, logits).weights[0], 16 * 0.4, 1e-5);
  config.norm_topk_prob = true;
  EXPECT_NEAR(RouteLogits(config, logits).weights[0], 0.4 / 0.7, 1e-6);
}

TEST(RouteTest, V2KeepsTheGroupsWithTheBestExpert) {
  ModelConfig config;
  config.n_routed_experts = 6;
  config.num_experts_per_tok = 2;
  config.n_group = 3;
  config.topk_group = 1;
  config.topk_method = TopkMethod::kGroupLimitedGreedy;
  // Group 0 has the best expert; group 1 the larger sum of two (what V3 would keep).
  const std::vector<float> logits = {3.0f, -9.0f, 2.5f, 2.5f, 0.0f, 0.0f};
  EXPECT_EQ(RouteLogits(config, logits).experts, (std::vector<int32_t>{0, 1}));
}

TEST(RouteTest, V3KeepsTheGroupsWithTheBestPair) {
  const ModelConfig config = V3(6, 2, 3, 1);
  const std::vector<float> logits = {Logit(0.9f), Logit(0.1f), Logit(0.7f),
                                     Logit(0.6f), Logit(0.2f), Logit(0.2f)};
  const Routed routed = RouteLogits(config, logits, std::vector<float>(6, 0.0f));
  EXPECT_EQ(routed.experts, (std::vector<int32_t>{2, 3}));
  EXPECT_NEAR(routed.weights[0], 2.5 * 0.7 / 1.3, 1e-5);  // normalised, then scaled
  EXPECT_NEAR(routed.weights[0] + routed.weights[1], 2.5, 1e-5);
}

TEST(RouteTest, TheBiasSelectsButDoesNotWeigh) {
  const ModelConfig config = V3(4, 2, 1, 1);
  const std::vector<float> logits = {Logit(0.8f), Logit(0.6f), Logit(0.4f), Logit(0.2f)};
  const Routed routed = RouteLogits(config, logits, {0, -0.5f, 0, 0.5f});
  EXPECT_EQ(routed.experts, (std::vector<int32_t>{0, 3}));  // 0.8 and 0.7, biased
  EXPECT_NEAR(routed.weights[1], 2.5 * 0.2 / 1.0, 1e-5);
}

TEST(RouteTest, ExcludedGroupsStayOutThoughScoresAreNegative) {
  // With a fill of 0 for excluded groups (older ports) experts 4 and 5 would win.
  const ModelConfig config = V3(6, 2, 3, 1);
  const std::vector<float> logits(6, 0.0f);
  const Routed routed = RouteLogits(config, logits, {-2, -2, -1, -1, -3, -3});
  EXPECT_EQ(routed.experts, (std::vector<int32_t>{2, 3}));
}

TEST(RouteTest, OneExpertPerTokenIsNotNormalised) {
  const ModelConfig config = V3(2, 1, 1, 1);
  const Routed routed = RouteLogits(config, {Logit(0.8f), Logit(0.3f)}, {0, 0});
  EXPECT_NEAR(routed.weights[0], 2.5 * 0.8, 1e-5);
}

}  // namespace
}  // namespace baleen
