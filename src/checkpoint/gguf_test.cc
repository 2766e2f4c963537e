// GGUF files as models: config and text against the directory that they were made from. Weights and
// logits are compared in tests/model.
#include <gtest/gtest.h>

#include "base/error.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf_checkpoint.h"

namespace baleen {
namespace {

const std::string kStories = BALEEN_SOURCE_DIR "/models/baleen-stories-mini";
const std::string kGolden = BALEEN_SOURCE_DIR "/tests/golden/gguf/";
const std::string kText = kGolden + "stories_text.gguf";

TEST(GgufCheckpointTest, TextEncodesAsInTheDirectory) {
  const TextSide directory = OpenCheckpoint(kStories, CheckpointPart::kTextOnly).text;
  const TextSide file = OpenCheckpoint(kText, CheckpointPart::kTextOnly).text;
  ASSERT_NE(file.tokenizer, nullptr) << file.tokenizer_problem;
  EXPECT_EQ(file.tokenizer->vocab_size(), directory.tokenizer->vocab_size());
  for (const char* text :
       {"Once upon a time, there was a fox.", "12345 + 678", "naïve café 中文", "don't\n\n  stop",
        "<｜begin▁of▁sentence｜>x<｜end▁of▁sentence｜>", ""}) {
    for (bool special : {false, true}) {
      const auto ids = file.tokenizer->Encode(text, special);
      EXPECT_EQ(ids, directory.tokenizer->Encode(text, special)) << text;
      EXPECT_EQ(file.tokenizer->Decode(ids, true), directory.tokenizer->Decode(ids, true));
    }
  }
  EXPECT_EQ(file.stop_token_ids, std::vector<int32_t>{1});
  EXPECT_EQ(file.bos_token_id, 0);
  EXPECT_TRUE(file.chat_template.has_value()) << file.chat_template_problem;
}

TEST(GgufCheckpointTest, KeysGiveTheConfigOfTheDirectory) {
  const ModelConfig a = OpenCheckpoint(kStories, CheckpointPart::kTextOnly).config.model;
  const ModelConfig b = OpenCheckpoint(kText, CheckpointPart::kTextOnly).config.model;
  EXPECT_EQ(b.vocab_size, a.vocab_size);
  EXPECT_EQ(b.hidden_size, a.hidden_size);
  EXPECT_EQ(b.intermediate_size, a.intermediate_size);
  EXPECT_EQ(b.num_hidden_layers, a.num_hidden_layers);
  EXPECT_EQ(b.num_attention_heads, a.num_attention_heads);
  EXPECT_EQ(b.max_position_embeddings, a.max_position_embeddings);
  EXPECT_FLOAT_EQ(static_cast<float>(b.rms_norm_eps), static_cast<float>(a.rms_norm_eps));
  EXPECT_EQ(b.q_lora_rank, a.q_lora_rank);
  EXPECT_EQ(b.kv_lora_rank, a.kv_lora_rank);
  EXPECT_EQ(b.qk_nope_head_dim, a.qk_nope_head_dim);
  EXPECT_EQ(b.qk_rope_head_dim, a.qk_rope_head_dim);
  EXPECT_EQ(b.v_head_dim, a.v_head_dim);
  EXPECT_EQ(b.rope_theta, a.rope_theta);
  EXPECT_FALSE(b.yarn.has_value());
  EXPECT_EQ(b.n_routed_experts, a.n_routed_experts);
  EXPECT_EQ(b.n_shared_experts, a.n_shared_experts);
  EXPECT_EQ(b.num_experts_per_tok, a.num_experts_per_tok);
  EXPECT_EQ(b.moe_intermediate_size, a.moe_intermediate_size);
  EXPECT_EQ(b.first_k_dense_replace, a.first_k_dense_replace);
  EXPECT_EQ(b.scoring_func, a.scoring_func);
  EXPECT_EQ(b.n_group, a.n_group);
  EXPECT_EQ(b.topk_group, a.topk_group);
  EXPECT_EQ(b.norm_topk_prob, a.norm_topk_prob);
  EXPECT_EQ(b.routed_scaling_factor, a.routed_scaling_factor);
}

// V2-Lite as converters of 2024 wrote it: no gating, no normalisation, no groups.
TEST(GgufCheckpointTest, WhatOldFilesLeaveOutHasItsDefault) {
  const ModelConfig config = OpenCheckpoint(kGolden + "v2_lite.gguf").config.model;
  EXPECT_EQ(config.scoring_func, ScoringFunc::kSoftmax);
  EXPECT_EQ(config.topk_method, TopkMethod::kGreedy);
  EXPECT_FALSE(config.norm_topk_prob);
  EXPECT_EQ(config.n_group, 1u);
  ASSERT_TRUE(config.yarn.has_value());
  EXPECT_NEAR(config.yarn->mscale_all_dim, 0.707, 1e-7);
  EXPECT_NEAR(config.yarn->mscale, 0.707, 1e-7);
  EXPECT_EQ(config.yarn->beta_fast, 32);
  EXPECT_EQ(config.yarn->beta_slow, 1);
}

TEST(GgufCheckpointTest, BiasAndGroupsMakeItV3) {
  const ModelConfig config = OpenCheckpoint(kGolden + "v3.gguf").config.model;
  EXPECT_EQ(config.scoring_func, ScoringFunc::kSigmoid);
  EXPECT_EQ(config.topk_method, TopkMethod::kNoauxTc);
  EXPECT_EQ(config.n_group, 4u);
  EXPECT_EQ(config.topk_group, 2u);
  EXPECT_TRUE(config.norm_topk_prob);
}

TEST(GgufCheckpointTest, CountsNameTheTypeOfMostWeights) {
  const Checkpoint checkpoint = OpenCheckpoint(kGolden + "q8_0.gguf");
  EXPECT_EQ(checkpoint.path.name, "q8_0.gguf");
  EXPECT_EQ(CountParameters(checkpoint.config.model, checkpoint.weights).main_dtype, "Q8_0");
  EXPECT_NE(checkpoint.text.tokenizer_problem.find("no vocabulary"), std::string::npos);
}

}  // namespace
}  // namespace baleen
