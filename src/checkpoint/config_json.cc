#include "checkpoint/config_json.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <set>

#include "base/error.h"
#include "base/json.h"

namespace baleen {

namespace {

using simdjson::dom::element;
using simdjson::dom::object;

// Bounds on sizes in a config: far above any model, low enough that products of a few fit 64 bits.
constexpr uint64_t kMaxWidth = uint64_t{1} << 24;
constexpr uint64_t kMaxLayers = 4096;
constexpr uint64_t kMaxExperts = 65536;
constexpr uint64_t kMaxPositions = uint64_t{1} << 31;

// Reads keys of one object and remembers which were asked for.
class Reader {
 public:
  Reader(object object, std::string source, std::string prefix = "")
      : object_(object), source_(std::move(source)), prefix_(std::move(prefix)) {}

  // The value; nullopt when the key is absent or null.
  std::optional<element> Find(std::string_view key) {
    seen_.insert(std::string(key));
    element value;
    if (object_.at_key(key).get(value) || value.is_null()) return std::nullopt;
    return value;
  }

  std::optional<uint64_t> FindSize(std::string_view key, uint64_t max) {
    const auto value = Find(key);
    if (!value) return std::nullopt;
    uint64_t number;
    if (value->get_uint64().get(number) || number > max) {
      Throw(ErrorCode::kCorruption, "{}: {}{} must be a whole number from 0 to {}, found {}",
            source_, prefix_, key, max, simdjson::minify(*value));
    }
    return number;
  }

  size_t Size(std::string_view key, uint64_t max = kMaxWidth) {
    const auto value = FindSize(key, max);
    if (!value) Throw(ErrorCode::kCorruption, "{}: {}{} is missing", source_, prefix_, key);
    return *value;
  }

  size_t PositiveSize(std::string_view key, uint64_t max = kMaxWidth) {
    const size_t value = Size(key, max);
    if (value == 0) Throw(ErrorCode::kCorruption, "{}: {}{} must not be 0", source_, prefix_, key);
    return value;
  }

  std::optional<double> FindNumber(std::string_view key) {
    const auto value = Find(key);
    if (!value) return std::nullopt;
    double number;
    if (value->get_double().get(number) || !std::isfinite(number)) {
      Throw(ErrorCode::kCorruption, "{}: {}{} must be a number, found {}", source_, prefix_, key,
            simdjson::minify(*value));
    }
    return number;
  }

  bool Bool(std::string_view key, bool fallback) {
    const auto value = Find(key);
    if (!value) return fallback;
    bool flag;
    if (value->get_bool().get(flag)) {
      Throw(ErrorCode::kCorruption, "{}: {}{} must be true or false, found {}", source_, prefix_,
            key, simdjson::minify(*value));
    }
    return flag;
  }

  std::optional<std::string> FindString(std::string_view key) {
    const auto value = Find(key);
    if (!value) return std::nullopt;
    std::string_view text;
    if (value->get_string().get(text)) {
      Throw(ErrorCode::kCorruption, "{}: {}{} must be a string, found {}", source_, prefix_, key,
            simdjson::minify(*value));
    }
    return std::string(text);
  }

  // A token id or a list of them.
  std::vector<int32_t> TokenIds(std::string_view key) {
    const auto value = Find(key);
    std::vector<int32_t> ids;
    if (!value) return ids;
    const auto add = [&](element item) {
      uint64_t id;
      if (item.get_uint64().get(id) || id >= kMaxWidth) {
        Throw(ErrorCode::kCorruption, "{}: {}{} must be a token id or a list of them, found {}",
              source_, prefix_, key, simdjson::minify(*value));
      }
      ids.push_back(static_cast<int32_t>(id));
    };
    simdjson::dom::array list;
    if (value->get_array().get(list)) {
      add(*value);
    } else {
      for (element item : list) add(item);
    }
    return ids;
  }

  std::optional<Reader> FindObject(std::string_view key) {
    const auto value = Find(key);
    if (!value) return std::nullopt;
    object inner;
    if (value->get_object().get(inner)) {
      Throw(ErrorCode::kCorruption, "{}: {}{} must be an object, found {}", source_, prefix_, key,
            simdjson::minify(*value));
    }
    return Reader(inner, source_, prefix_ + std::string(key) + ".");
  }

  // Keys that nobody asked for; throws on a key that comes twice.
  std::vector<std::string> Unread() const {
    std::vector<std::string> unread;
    std::set<std::string_view> names;
    for (auto [key, value] : object_) {
      if (!names.insert(key).second) {
        Throw(ErrorCode::kCorruption, "{}: the key {}{} comes twice", source_, prefix_, key);
      }
      if (!seen_.contains(std::string(key))) unread.push_back(prefix_ + std::string(key));
    }
    return unread;
  }

  const std::string& source() const { return source_; }

 private:
  object object_;
  std::string source_;
  std::string prefix_;
  std::set<std::string> seen_;
};

struct Neighbour {
  std::string_view model_type;  // a trailing '*' matches any ending
  std::string_view advice;
};

// Models that people will try because a name or a field looks like ours.
constexpr std::array<Neighbour, 14> kNeighbours = {{
    {"deepseek_v32",
     "DeepSeek-V3.2 attends sparsely through an indexer, which this build does not "
     "compute; DeepSeek-V3.1 runs"},
    {"deepseek_v4*",
     "DeepSeek-V4 has another attention and residual path; V2, V3, R1 and V3.1 run"},
    {"deepseek", "DeepSeekMoE-16B (the first) has ordinary attention; DeepSeek-V2-Lite runs"},
    {"deepseek_vl*", "a vision model; the language models V2 and V3 run"},
    {"deepseek_ocr*", "a vision model; the language models V2 and V3 run"},
    {"kimi_k25", "Kimi-K2.5 is a vision model; Kimi-K2-Instruct runs"},
    {"kimi_vl", "a vision model; Moonlight-16B-A3B runs"},
    {"kimi_linear", "linear attention; Moonlight and Kimi-K2 run"},
    {"glm*", "a GLM model; DeepSeek-V2, V3, Moonlight and Kimi-K2 run"},
    {"qwen*", "a Qwen model (also the R1 distills of that name); DeepSeek-R1 itself runs"},
    {"llama*", "a Llama model (also the R1 distills of that name); DeepSeek-R1 itself runs"},
    {"mistral*", "a Mistral model; DeepSeek-V2, V3, Moonlight and Kimi-K2 run"},
    {"gpt*", "a GPT model; DeepSeek-V2, V3, Moonlight and Kimi-K2 run"},
    {"gemma*", "a Gemma model; DeepSeek-V2, V3, Moonlight and Kimi-K2 run"},
}};

void RefuseNeighbours(const std::string& model_type, const std::string& source) {
  for (const Neighbour& neighbour : kNeighbours) {
    std::string_view pattern = neighbour.model_type;
    const bool prefix = pattern.ends_with('*');
    if (prefix) pattern.remove_suffix(1);
    if (prefix ? model_type.starts_with(pattern) : model_type == pattern) {
      Throw(ErrorCode::kUnimplemented, "{}: model_type {} is not supported: {}", source, model_type,
            neighbour.advice);
    }
  }
}

// Keys whose presence means arithmetic that this build does not have, whatever the model_type.
void RefuseForeignKeys(Reader& reader) {
  static constexpr std::array<std::string_view, 12> kForeign = {"index_topk",
                                                                "index_n_heads",
                                                                "index_head_dim",
                                                                "hc_mult",
                                                                "compress_ratios",
                                                                "num_hash_layers",
                                                                "sliding_window",
                                                                "attn_logit_softcapping",
                                                                "final_logit_softcapping",
                                                                "linear_attn_config",
                                                                "vision_config",
                                                                "swiglu_limit"};
  for (std::string_view key : kForeign) {
    const auto value = reader.Find(key);
    if (value) {
      Throw(ErrorCode::kUnimplemented, "{}: {} is set to {}, which this build does not compute",
            reader.source(), key, simdjson::minify(*value));
    }
  }
}

ScoringFunc ParseScoring(const std::string& name, const std::string& source) {
  if (name == "softmax") return ScoringFunc::kSoftmax;
  if (name == "sigmoid") return ScoringFunc::kSigmoid;
  Throw(ErrorCode::kUnimplemented, "{}: scoring_func {} is not supported (softmax, sigmoid are)",
        source, name);
}

TopkMethod ParseTopk(const std::string& name, const std::string& source) {
  // The misspelling is the default of V2's own configuration class.
  if (name == "greedy" || name == "gready") return TopkMethod::kGreedy;
  if (name == "group_limited_greedy") return TopkMethod::kGroupLimitedGreedy;
  if (name == "noaux_tc") return TopkMethod::kNoauxTc;
  Throw(ErrorCode::kUnimplemented,
        "{}: topk_method {} is not supported (greedy, group_limited_greedy, noaux_tc are)", source,
        name);
}

std::optional<YarnConfig> ParseYarn(Reader& reader, const std::string& source) {
  const std::string type =
      reader.FindString("rope_type").value_or(reader.FindString("type").value_or("default"));
  reader.Find("type");
  if (type == "default") return std::nullopt;
  if (type != "yarn") {
    Throw(ErrorCode::kUnimplemented, "{}: rope scaling of type {} is not supported (yarn is)",
          source, type);
  }
  YarnConfig yarn;
  const auto factor = reader.FindNumber("factor");
  if (!factor || *factor <= 0) {
    Throw(ErrorCode::kCorruption, "{}: YaRN needs a factor above 0", source);
  }
  yarn.factor = *factor;
  yarn.beta_fast = reader.FindNumber("beta_fast").value_or(32);
  yarn.beta_slow = reader.FindNumber("beta_slow").value_or(1);
  yarn.original_max_position_embeddings =
      reader.FindNumber("original_max_position_embeddings").value_or(4096);
  yarn.mscale = reader.FindNumber("mscale").value_or(1);
  yarn.mscale_all_dim = reader.FindNumber("mscale_all_dim").value_or(0);
  if (yarn.beta_fast <= 0 || yarn.beta_slow <= 0 || yarn.original_max_position_embeddings <= 0) {
    Throw(ErrorCode::kCorruption,
          "{}: YaRN needs beta_fast, beta_slow and original_max_position_embeddings above 0",
          source);
  }
  if (reader.Find("attention_factor")) {
    Throw(ErrorCode::kUnimplemented, "{}: YaRN's attention_factor is not supported", source);
  }
  return yarn;
}

void ParseRope(Reader& reader, ModelConfig& config) {
  const std::string& source = reader.source();
  auto parameters = reader.FindObject("rope_parameters");
  auto scaling = reader.FindObject("rope_scaling");
  config.rope_theta = reader.FindNumber("rope_theta").value_or(10000);
  if (parameters) {
    config.rope_theta = parameters->FindNumber("rope_theta").value_or(config.rope_theta);
  }
  if (config.rope_theta <= 1) {
    Throw(ErrorCode::kCorruption, "{}: rope_theta must be above 1", source);
  }
  if (parameters || scaling) {
    Reader& block = parameters ? *parameters : *scaling;
    config.yarn = ParseYarn(block, source);
    block.Find("partial_rotary_factor");  // written by transformers; the widths say the same
    if (config.yarn) {
      for (const std::string& key : block.Unread()) {
        Throw(ErrorCode::kUnimplemented, "{}: {} is not known", source, key);
      }
    }
  }
  if (!reader.Bool("rope_interleave", true)) {
    Throw(ErrorCode::kUnimplemented, "{}: rope_interleave false is not supported", source);
  }
}

void ParseExperts(Reader& reader, bool v3_defaults, ModelConfig& config) {
  const std::string& source = reader.source();
  config.n_routed_experts = reader.FindSize("n_routed_experts", kMaxExperts).value_or(0);
  if (config.n_routed_experts == 0) {
    for (std::string_view key :
         {"n_shared_experts", "num_experts_per_tok", "moe_intermediate_size",
          "first_k_dense_replace", "moe_layer_freq", "scoring_func", "topk_method", "n_group",
          "topk_group", "norm_topk_prob", "routed_scaling_factor"}) {
      reader.Find(key);
    }
    return;
  }
  config.n_shared_experts = reader.FindSize("n_shared_experts", 1024).value_or(0);
  config.num_experts_per_tok = reader.PositiveSize("num_experts_per_tok");
  config.moe_intermediate_size = reader.PositiveSize("moe_intermediate_size");
  config.first_k_dense_replace =
      reader.FindSize("first_k_dense_replace", kMaxLayers).value_or(v3_defaults ? 3 : 0);
  config.moe_layer_freq = reader.FindSize("moe_layer_freq", kMaxLayers).value_or(1);
  // The port in transformers drops scoring_func and topk_method: the model_type implies them.
  config.scoring_func = ParseScoring(
      reader.FindString("scoring_func").value_or(v3_defaults ? "sigmoid" : "softmax"), source);
  config.topk_method = ParseTopk(
      reader.FindString("topk_method").value_or(v3_defaults ? "noaux_tc" : "greedy"), source);
  const bool grouped = config.topk_method != TopkMethod::kGreedy;
  config.n_group = reader.FindSize("n_group", kMaxWidth).value_or(v3_defaults ? 8 : 1);
  config.topk_group =
      reader.FindSize("topk_group", kMaxWidth).value_or(v3_defaults ? 4 : config.n_group);
  if (config.n_group == 0) config.n_group = 1;
  config.norm_topk_prob = reader.Bool("norm_topk_prob", v3_defaults);
  config.routed_scaling_factor =
      reader.FindNumber("routed_scaling_factor").value_or(v3_defaults ? 2.5 : 1.0);

  if (config.moe_layer_freq == 0) {
    Throw(ErrorCode::kCorruption, "{}: moe_layer_freq must not be 0", source);
  }
  if (config.num_experts_per_tok > config.n_routed_experts) {
    Throw(ErrorCode::kCorruption, "{}: num_experts_per_tok {} is more than n_routed_experts {}",
          source, config.num_experts_per_tok, config.n_routed_experts);
  }
  if (grouped && config.n_group > 1) {
    if (config.n_routed_experts % config.n_group != 0) {
      Throw(ErrorCode::kCorruption, "{}: n_routed_experts {} is not a multiple of n_group {}",
            source, config.n_routed_experts, config.n_group);
    }
    if (config.topk_group == 0 || config.topk_group > config.n_group) {
      Throw(ErrorCode::kCorruption, "{}: topk_group {} must be from 1 to n_group {}", source,
            config.topk_group, config.n_group);
    }
    const size_t reachable = config.n_routed_experts / config.n_group * config.topk_group;
    if (config.num_experts_per_tok > reachable) {
      Throw(ErrorCode::kCorruption,
            "{}: num_experts_per_tok {} is more than the {} experts of topk_group groups", source,
            config.num_experts_per_tok, reachable);
    }
  }
}

WeightQuantization ParseQuantization(Reader& reader, GptqConfig& gptq) {
  auto block = reader.FindObject("quantization_config");
  if (!block) return WeightQuantization::kNone;
  const std::string& source = reader.source();
  const auto older = block->FindString("quant_method"), newer = block->FindString("method");
  const std::string method = older ? *older : newer.value_or("unnamed");
  if (method == "gptq") {
    gptq = ParseGptqConfig(simdjson::minify(*reader.Find("quantization_config")), source);
    return WeightQuantization::kGptq;
  }
  if (method != "fp8") {
    Throw(ErrorCode::kUnimplemented,
          "{}: weights quantized with {} are not supported; GPTQ, block-scaled FP8, BF16, F16 and "
          "F32 are",
          source, method);
  }
  const std::string format = block->FindString("fmt").value_or("e4m3");
  std::vector<uint64_t> blocks;
  if (const auto list = block->Find("weight_block_size")) {
    simdjson::dom::array array;
    if (!list->get_array().get(array)) {
      for (element item : array) blocks.push_back(item.is_uint64() ? uint64_t(item) : 0);
    }
  }
  if (format != "e4m3" || blocks != std::vector<uint64_t>{128, 128}) {
    Throw(ErrorCode::kUnimplemented,
          "{}: FP8 weights must be e4m3 with weight_block_size [128, 128]", source);
  }
  return WeightQuantization::kFp8Block;
}

// Keys that say nothing about numbers, so that `ignored_keys` lists only what is surprising.
constexpr std::array<std::string_view, 32> kHarmless = {"_name_or_path",
                                                        "architectures",
                                                        "attention_dropout",
                                                        "auto_map",
                                                        "aux_loss_alpha",
                                                        "dtype",
                                                        "ep_size",
                                                        "head_dim",
                                                        "initializer_range",
                                                        "pad_token_id",
                                                        "pretraining_tp",
                                                        "qk_head_dim",
                                                        "return_dict",
                                                        "seq_aux",
                                                        "torch_dtype",
                                                        "transformers_version",
                                                        "use_cache",
                                                        "output_router_logits",
                                                        "router_aux_loss_coef",
                                                        "id2label",
                                                        "label2id",
                                                        "problem_type",
                                                        "unk_token_id",
                                                        "output_attentions",
                                                        "output_hidden_states",
                                                        "chunk_size_feed_forward",
                                                        "is_encoder_decoder",
                                                        "is_decoder",
                                                        "task_specific_params",
                                                        "use_bfloat16",
                                                        "torchscript",
                                                        "num_key_value_heads"};

}  // namespace

ParsedConfig ParseConfig(std::string_view json, const std::string& source) {
  const JsonDocument document = JsonDocument::Parse(json, source);
  Reader reader(document.object(), source);
  ParsedConfig parsed;
  ModelConfig& config = parsed.model;

  const auto model_type = reader.FindString("model_type");
  if (!model_type) {
    Throw(ErrorCode::kCorruption, "{}: model_type is missing; is this a model's config.json?",
          source);
  }
  config.model_type = *model_type;
  RefuseNeighbours(config.model_type, source);
  RefuseForeignKeys(reader);
  const bool v2 = config.model_type == "deepseek_v2";
  const bool v3 = config.model_type == "deepseek_v3" || config.model_type == "kimi_k2";
  if (!v2 && !v3) {
    for (std::string_view key :
         {"kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "scoring_func",
          "topk_method", "n_group", "topk_group", "norm_topk_prob", "routed_scaling_factor",
          "first_k_dense_replace"}) {
      if (reader.Find(key)) continue;
      Throw(ErrorCode::kUnimplemented,
            "{}: model_type {} is not supported (deepseek_v2, deepseek_v3, kimi_k2 are), and it "
            "cannot be read as one of them because {} is not stated",
            source, config.model_type, key);
    }
  }

  config.vocab_size = reader.PositiveSize("vocab_size");
  config.hidden_size = reader.PositiveSize("hidden_size");
  config.intermediate_size = reader.PositiveSize("intermediate_size");
  config.num_hidden_layers = reader.PositiveSize("num_hidden_layers", kMaxLayers);
  config.num_attention_heads = reader.PositiveSize("num_attention_heads", 65536);
  config.max_position_embeddings = reader.PositiveSize("max_position_embeddings", kMaxPositions);
  config.rms_norm_eps = reader.FindNumber("rms_norm_eps").value_or(1e-6);
  config.q_lora_rank = reader.FindSize("q_lora_rank", kMaxWidth).value_or(0);
  config.kv_lora_rank = reader.PositiveSize("kv_lora_rank");
  config.qk_nope_head_dim = reader.PositiveSize("qk_nope_head_dim");
  config.qk_rope_head_dim = reader.PositiveSize("qk_rope_head_dim");
  config.v_head_dim = reader.PositiveSize("v_head_dim");
  config.num_nextn_predict_layers = reader.FindSize("num_nextn_predict_layers", 64).value_or(0);
  if (config.qk_rope_head_dim % 2 != 0) {
    Throw(ErrorCode::kCorruption, "{}: qk_rope_head_dim {} must be even", source,
          config.qk_rope_head_dim);
  }
  const auto kv_heads = reader.FindSize("num_key_value_heads", 65536);
  if (kv_heads && *kv_heads != config.num_attention_heads) {
    Throw(ErrorCode::kUnimplemented,
          "{}: num_key_value_heads {} differs from num_attention_heads {}; latent attention has "
          "one key for each head",
          source, *kv_heads, config.num_attention_heads);
  }
  ParseRope(reader, config);
  ParseExperts(reader, v3, config);
  parsed.quantization = ParseQuantization(reader, parsed.gptq);

  const std::string activation = reader.FindString("hidden_act").value_or("silu");
  if (activation != "silu") {
    Throw(ErrorCode::kUnimplemented, "{}: hidden_act {} is not supported (silu is)", source,
          activation);
  }
  for (std::string_view key : {"attention_bias", "mlp_bias"}) {
    if (reader.Bool(key, false)) {
      Throw(ErrorCode::kUnimplemented, "{}: {} true is not supported", source, key);
    }
  }
  parsed.tie_word_embeddings = reader.Bool("tie_word_embeddings", false);
  parsed.bos_token_ids = reader.TokenIds("bos_token_id");
  parsed.eos_token_ids = reader.TokenIds("eos_token_id");
  for (const std::string& key : reader.Unread()) {
    if (std::ranges::find(kHarmless, key) == kHarmless.end()) parsed.ignored_keys.push_back(key);
  }
  return parsed;
}

}  // namespace baleen
