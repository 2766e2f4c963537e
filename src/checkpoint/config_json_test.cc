#include "checkpoint/config_json.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace baleen {
namespace {

// A small V3 config; `change` replaces one piece of its text.
std::string Config(const std::string& from = "", const std::string& to = "") {
  std::string text = R"({
    "model_type": "deepseek_v3", "vocab_size": 128, "hidden_size": 64, "intermediate_size": 96,
    "moe_intermediate_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 4, "n_shared_experts": 1, "n_routed_experts": 16,
    "routed_scaling_factor": 2.5, "kv_lora_rank": 32, "q_lora_rank": null, "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16, "v_head_dim": 24, "n_group": 4, "topk_group": 2,
    "num_experts_per_tok": 2, "first_k_dense_replace": 1, "moe_layer_freq": 1,
    "norm_topk_prob": true, "scoring_func": "sigmoid", "topk_method": "noaux_tc",
    "hidden_act": "silu", "max_position_embeddings": 512, "rms_norm_eps": 1e-06,
    "rope_theta": 10000.0, "rope_scaling": null, "attention_bias": false, "bos_token_id": 0,
    "eos_token_id": 1, "tie_word_embeddings": false, "torch_dtype": "bfloat16"})";
  if (!from.empty()) {
    const size_t place = text.find(from);
    EXPECT_NE(place, std::string::npos) << from;
    text.replace(place, from.size(), to);
  }
  return text;
}

ParsedConfig Parse(const std::string& text) { return ParseConfig(text, "config.json"); }

void ExpectRefused(const std::string& text, ErrorCode code, const std::string& reason) {
  try {
    Parse(text);
    FAIL() << "accepted, but expected: " << reason;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_NE(std::string(error.what()).find(reason), std::string::npos) << error.what();
    EXPECT_EQ(std::string(error.what()).find("config.json"), 0u) << error.what();
  }
}

TEST(ParseConfigTest, ReadsAV3) {
  const ParsedConfig parsed = Parse(Config());
  EXPECT_EQ(parsed.model.hidden_size, 64u);
  EXPECT_EQ(parsed.model.q_lora_rank, 0u);
  EXPECT_EQ(parsed.model.v_head_dim, 24u);
  EXPECT_EQ(parsed.model.topk_method, TopkMethod::kNoauxTc);
  EXPECT_FALSE(parsed.model.yarn);
  EXPECT_EQ(parsed.eos_token_ids, std::vector<int32_t>{1});
  EXPECT_TRUE(parsed.ignored_keys.empty());
}

TEST(ParseConfigTest, AllSpellingsOfRopeMeanTheSame) {
  const std::string old_style =
      R"("rope_scaling": {"type": "yarn", "factor": 40, "mscale": 0.707, "mscale_all_dim": 0.707,
         "beta_fast": 32, "beta_slow": 1, "original_max_position_embeddings": 4096})";
  std::string renamed = old_style;
  renamed.replace(renamed.find("\"type\""), 6, "\"rope_type\"");
  std::string version5 = renamed;
  version5.replace(0, 14, "\"rope_parameters\"");
  version5.insert(version5.find('{') + 1, "\"rope_theta\": 50000,");
  for (const std::string& spelling : {old_style, renamed, version5}) {
    const ParsedConfig parsed = Parse(Config("\"rope_scaling\": null", spelling));
    ASSERT_TRUE(parsed.model.yarn) << spelling;
    EXPECT_EQ(parsed.model.yarn->factor, 40);
    EXPECT_EQ(parsed.model.yarn->mscale_all_dim, 0.707);
    EXPECT_EQ(parsed.model.rope_theta, spelling == version5 ? 50000 : 10000);
  }
}

TEST(ParseConfigTest, DefaultsFollowTheModelType) {
  std::string v3 = Config("\"scoring_func\": \"sigmoid\", \"topk_method\": \"noaux_tc\",", "");
  EXPECT_EQ(Parse(v3).model.topk_method, TopkMethod::kNoauxTc);
  v3.replace(v3.find("deepseek_v3"), 11, "deepseek_v2");
  const ModelConfig v2 = Parse(v3).model;
  EXPECT_EQ(v2.topk_method, TopkMethod::kGreedy);
  EXPECT_EQ(v2.scoring_func, ScoringFunc::kSoftmax);
  EXPECT_EQ(Parse(Config("noaux_tc", "gready")).model.topk_method, TopkMethod::kGreedy);
}

TEST(ParseConfigTest, RunsUnderAnotherNameWhenNothingIsLeftToGuess) {
  EXPECT_EQ(Parse(Config("deepseek_v3", "my_own_model")).model.hidden_size, 64u);
  std::string vague = Config("deepseek_v3", "my_own_model");
  vague.replace(vague.find("\"scoring_func\": \"sigmoid\","), 26, "");
  ExpectRefused(vague, ErrorCode::kUnimplemented, "scoring_func is not stated");
}

TEST(ParseConfigTest, NeighboursAreRefusedByName) {
  for (const char* name : {"deepseek_v32", "deepseek_v4", "deepseek_v41", "glm4_moe_lite", "qwen2",
                           "llama", "deepseek", "kimi_k25", "deepseek_vl_v2"}) {
    ExpectRefused(Config("deepseek_v3", name), ErrorCode::kUnimplemented, name);
  }
}

TEST(ParseConfigTest, WhatChangesNumbersIsUsedOrRefused) {
  const auto add = [](const std::string& more) {
    return Config("\"hidden_act\"", more + ", \"hidden_act\"");
  };
  const ErrorCode unimplemented = ErrorCode::kUnimplemented;
  ExpectRefused(add("\"index_topk\": 2048"), unimplemented, "index_topk");
  ExpectRefused(Config("\"attention_bias\": false", "\"attention_bias\": true"), unimplemented,
                "attention_bias");
  ExpectRefused(Config("\"silu\"", "\"gelu\""), unimplemented, "hidden_act gelu");
  ExpectRefused(Config("\"sigmoid\"", "\"sqrtsoftplus\""), unimplemented, "sqrtsoftplus");
  ExpectRefused(Config("\"noaux_tc\"", "\"best\""), unimplemented, "topk_method best");
  ExpectRefused(Config("\"rope_scaling\": null", "\"rope_scaling\": {\"type\": \"linear\"}"),
                unimplemented, "linear");
  ExpectRefused(Config("\"rope_scaling\": null",
                       "\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 2, \"new_knob\": 1}"),
                unimplemented, "new_knob");
  ExpectRefused(add(R"("quantization_config": {"quant_method": "awq", "bits": 4})"), unimplemented,
                "awq");
  ExpectRefused(
      add(R"("quantization_config": {"quant_method": "fp8", "weight_block_size": [64, 64]})"),
      unimplemented, "weight_block_size");
  EXPECT_EQ(Parse(add(R"("quantization_config": {"quant_method": "fp8", "fmt": "e4m3",
                         "activation_scheme": "dynamic", "weight_block_size": [128, 128]})"))
                .quantization,
            WeightQuantization::kFp8Block);
  EXPECT_EQ(Parse(add("\"surprise\": 1")).ignored_keys, std::vector<std::string>{"surprise"});
}

TEST(ParseConfigTest, ContradictionsAreNamed) {
  const ErrorCode corruption = ErrorCode::kCorruption;
  ExpectRefused("{", corruption, "not valid JSON");
  ExpectRefused("[]", corruption, "object");
  ExpectRefused("{}", corruption, "model_type is missing");
  ExpectRefused(Config("\"hidden_size\": 64", "\"hidden_size\": -1"), corruption, "hidden_size");
  ExpectRefused(Config("\"hidden_size\": 64", "\"hidden_size\": 1e3"), corruption, "hidden_size");
  ExpectRefused(Config("\"hidden_size\": 64", "\"hidden_size\": 0"), corruption, "hidden_size");
  ExpectRefused(Config("\"hidden_size\": 64,", ""), corruption, "hidden_size is missing");
  ExpectRefused(Config("\"hidden_size\": 64", "\"hidden_size\": 99999999999999999999"), corruption,
                "");
  ExpectRefused(Config("\"kv_lora_rank\": 32", "\"kv_lora_rank\": \"32\""), corruption,
                "kv_lora_rank");
  ExpectRefused(Config("\"n_group\": 4", "\"n_group\": 5"), corruption, "multiple of n_group");
  ExpectRefused(Config("\"topk_group\": 2", "\"topk_group\": 5"), corruption, "topk_group 5");
  ExpectRefused(Config("\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 17"), corruption,
                "num_experts_per_tok 17");
  ExpectRefused(Config("\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 9"), corruption,
                "more than the 8 experts");
  ExpectRefused(Config("\"qk_rope_head_dim\": 8", "\"qk_rope_head_dim\": 7"), corruption, "even");
  ExpectRefused(Config("\"moe_layer_freq\": 1", "\"moe_layer_freq\": 0"), corruption,
                "moe_layer_freq");
  ExpectRefused(Config("\"rope_theta\": 10000.0", "\"rope_theta\": 0"), corruption, "rope_theta");
  ExpectRefused(Config("\"hidden_size\": 64", "\"hidden_size\": 64, \"hidden_size\": 32"),
                corruption, "hidden_size comes twice");
  ExpectRefused(Config("\"num_key_value_heads\": 4", "\"num_key_value_heads\": 2"),
                ErrorCode::kUnimplemented, "num_key_value_heads 2");
}

}  // namespace
}  // namespace baleen
