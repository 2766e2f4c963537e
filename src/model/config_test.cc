#include "model/config.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/json.h"

namespace baleen {
namespace {

// Frequencies and softmax scales of the published configs, as transformers computes them.
TEST(YarnTest, MatchesTransformers) {
  const std::string path = BALEEN_SOURCE_DIR "/tests/golden/yarn.json";
  const JsonDocument document = JsonDocument::Parse(ReadFile(path, 1 << 24), path);
  size_t cases = 0;
  for (auto item : document.root()["cases"].get_array()) {
    SCOPED_TRACE(std::string_view(item["name"]));
    ModelConfig config;
    config.rope_theta = double(item["rope_theta"]);
    config.qk_nope_head_dim = uint64_t(item["qk_nope_head_dim"]);
    config.qk_rope_head_dim = uint64_t(item["qk_rope_head_dim"]);
    const auto scaling = item["rope_scaling"];
    if (!scaling.is_null()) {
      const auto number = [&](const char* key, double fallback) {
        double value;
        return scaling[key].get_double().get(value) ? fallback : value;
      };
      config.yarn = {
          .factor = number("factor", 1),
          .beta_fast = number("beta_fast", 32),
          .beta_slow = number("beta_slow", 1),
          .original_max_position_embeddings = number("original_max_position_embeddings", 4096),
          .mscale = number("mscale", 1),
          .mscale_all_dim = number("mscale_all_dim", 0)};
    }
    const RopeFrequencies rope = MakeRopeFrequencies(config);
    size_t i = 0;
    for (auto frequency : item["frequencies"].get_array()) {
      const double wanted = double(frequency);
      ASSERT_LT(i, rope.inv_freq.size());
      EXPECT_NEAR(rope.inv_freq[i], wanted, 1e-6 * wanted) << i;
      ++i;
    }
    EXPECT_EQ(i, config.qk_rope_head_dim / 2);
    EXPECT_NEAR(rope.magnitude, double(item["rope_magnitude"]), 1e-6);
    const double scale = double(item["softmax_scale"]);
    EXPECT_NEAR(SoftmaxScale(config), scale, 1e-6 * scale);
    ++cases;
  }
  EXPECT_GE(cases, 5u);
}

TEST(ModelConfigTest, WhichLayersHaveExperts) {
  ModelConfig config;
  config.n_routed_experts = 8;
  config.first_k_dense_replace = 3;
  config.moe_layer_freq = 2;
  std::vector<size_t> moe;
  for (size_t l = 0; l < 9; ++l) {
    if (config.IsMoe(l)) moe.push_back(l);
  }
  EXPECT_EQ(moe, (std::vector<size_t>{4, 6, 8}));
  config.n_routed_experts = 0;
  EXPECT_FALSE(config.IsMoe(4));
}

}  // namespace
}  // namespace baleen
