// GgufConfigJson: from keys of deepseek2.* to the fields of config.json.
#include <cmath>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/quote.h"
#include "checkpoint/gguf_checkpoint.h"

namespace baleen {

namespace {

constexpr std::string_view kArchitecture = "deepseek2";

// Collects the fields of a JSON object.
class Fields {
 public:
  void Add(std::string_view name, std::string json) {
    text_ += fmt::format("{}\"{}\": {}", text_.empty() ? "" : ", ", name, json);
  }
  void Add(std::string_view name, uint64_t value) { Add(name, std::to_string(value)); }
  void Add(std::string_view name, double value) { Add(name, fmt::format("{}", value)); }
  void Add(std::string_view name, bool value) { Add(name, std::string(value ? "true" : "false")); }
  std::string Object() const { return "{" + text_ + "}"; }

 private:
  std::string text_;
};

class ConfigWriter {
 public:
  explicit ConfigWriter(const GgufModel& model) : model_(model), keys_(model.metadata()) {}

  std::string Write() {
    CheckArchitecture();
    WriteSizes();
    WriteAttention();
    WriteRope();
    WriteExperts();
    fields_.Add("tie_word_embeddings", model_.Find("output.weight") == nullptr);
    WriteTokens();
    return fields_.Object();
  }

 private:
  static std::string Key(std::string_view name) {
    return fmt::format("{}.{}", kArchitecture, name);
  }

  template <typename... Args>
  [[noreturn]] void Fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) const {
    Throw(code, "{}: {}", keys_.path(), fmt::format(format, std::forward<Args>(args)...));
  }

  std::optional<uint64_t> FindUint(std::string_view name) const { return keys_.Uint(Key(name)); }
  uint64_t Uint(std::string_view name) const {
    const auto value = FindUint(name);
    if (!value) Fail(ErrorCode::kCorruption, "key {} is missing", Key(name));
    return *value;
  }
  // A number that JSON can hold.
  std::optional<double> FindNumber(std::string_view name) const {
    const auto value = keys_.Number(Key(name));
    if (value && !std::isfinite(*value)) {
      Fail(ErrorCode::kCorruption, "key {} is {}, expected a finite number", Key(name), *value);
    }
    return value;
  }

  void CheckArchitecture() const {
    const auto name = keys_.String("general.architecture");
    if (!name) Fail(ErrorCode::kCorruption, "key general.architecture is missing");
    if (*name != kArchitecture) {
      Fail(
          ErrorCode::kUnimplemented,
          "architecture {} is not supported; deepseek2 is, in which DeepSeek-V2, V3, R1, Moonlight "
          "and Kimi-K2 are written",
          Quote(*name));
    }
  }

  void WriteSizes() {
    fields_.Add("vocab_size", VocabSize());
    fields_.Add("hidden_size", Uint("embedding_length"));
    fields_.Add("intermediate_size", Uint("feed_forward_length"));
    fields_.Add("max_position_embeddings", Uint("context_length"));
    fields_.Add("rms_norm_eps", FindNumber("attention.layer_norm_rms_epsilon").value_or(1e-6));
    // block_count includes the MTP layers where the file has any.
    const uint64_t blocks = Uint("block_count");
    uint64_t mtp = FindUint("nextn_predict_layers").value_or(0);
    if (mtp >= blocks ||
        model_.Find(fmt::format("blk.{}.nextn.eh_proj.weight", blocks - mtp)) == nullptr) {
      mtp = 0;
    }
    fields_.Add("num_hidden_layers", blocks - mtp);
    fields_.Add("num_nextn_predict_layers", mtp);
  }

  // Old files do not say; the embedding does.
  uint64_t VocabSize() const {
    if (const auto size = FindUint("vocab_size")) return *size;
    const TensorView* embedding = model_.Find("token_embd.weight");
    if (embedding == nullptr) {
      Fail(ErrorCode::kCorruption, "key {} and tensor token_embd.weight are missing",
           Key("vocab_size"));
    }
    return embedding->shape[0];
  }

  void WriteAttention() {
    const uint64_t heads = Uint("attention.head_count");
    const uint64_t kv_heads = FindUint("attention.head_count_kv").value_or(heads);
    if (kv_heads != heads && kv_heads != 1) {
      Fail(ErrorCode::kUnimplemented,
           "key {} is {}, expected {} or 1: latent attention has one key for each head, or one "
           "latent for all",
           Key("attention.head_count_kv"), kv_heads, heads);
    }
    // Files with separate attn_k_b and attn_v_b give the widths of the latent form first.
    const auto key_mla = FindUint("attention.key_length_mla");
    const auto value_mla = FindUint("attention.value_length_mla");
    const uint64_t key = key_mla ? *key_mla : Uint("attention.key_length");
    const uint64_t value = value_mla ? *value_mla : Uint("attention.value_length");
    const uint64_t rope = Uint("rope.dimension_count");
    if (key <= rope) {
      Fail(ErrorCode::kCorruption, "key {} is {}, not more than {} {}",
           Key(key_mla ? "attention.key_length_mla" : "attention.key_length"), key,
           Key("rope.dimension_count"), rope);
    }
    fields_.Add("num_attention_heads", heads);
    fields_.Add("qk_nope_head_dim", key - rope);
    fields_.Add("qk_rope_head_dim", rope);
    fields_.Add("v_head_dim", value);
    fields_.Add("kv_lora_rank", Uint("attention.kv_lora_rank"));
    if (const auto rank = FindUint("attention.q_lora_rank")) fields_.Add("q_lora_rank", *rank);
  }

  void WriteRope() {
    fields_.Add("rope_theta", FindNumber("rope.freq_base").value_or(10000));
    const std::string_view type = keys_.String(Key("rope.scaling.type")).value_or("none");
    if (type == "none") return;
    if (type != "yarn") {
      Fail(ErrorCode::kUnimplemented, "key {} is {}; none and yarn are supported",
           Key("rope.scaling.type"), Quote(type));
    }
    const auto factor = FindNumber("rope.scaling.factor");
    const auto multiplier = FindNumber("rope.scaling.yarn_log_multiplier");
    if (!factor || !multiplier) {
      Fail(ErrorCode::kCorruption,
           "key {} is missing, without which YaRN's scale is unknown; convert the model again",
           Key(factor ? "rope.scaling.yarn_log_multiplier" : "rope.scaling.factor"));
    }
    // The key holds 0.1 mscale_all_dim; every published model has mscale equal to it.
    const double mscale = *multiplier * 10;
    Fields yarn;
    yarn.Add("type", std::string("\"yarn\""));
    yarn.Add("factor", *factor);
    yarn.Add("original_max_position_embeddings", Uint("rope.scaling.original_context_length"));
    yarn.Add("beta_fast", FindNumber("rope.scaling.yarn_beta_fast").value_or(32));
    yarn.Add("beta_slow", FindNumber("rope.scaling.yarn_beta_slow").value_or(1));
    yarn.Add("mscale", mscale);
    yarn.Add("mscale_all_dim", mscale);
    fields_.Add("rope_scaling", yarn.Object());
  }

  void WriteExperts() {
    const uint64_t experts = FindUint("expert_count").value_or(0);
    const uint64_t gating = FindUint("expert_gating_func").value_or(1);
    if (gating != 1 && gating != 2) {
      Fail(ErrorCode::kUnimplemented, "key {} is {}; 1 (softmax) and 2 (sigmoid) are supported",
           Key("expert_gating_func"), gating);
    }
    const uint64_t groups = std::max<uint64_t>(FindUint("expert_group_count").value_or(1), 1);
    const bool biased = HasBias();
    const char* method = biased ? "noaux_tc" : groups > 1 ? "group_limited_greedy" : "greedy";
    const std::string_view family = biased ? "3" : "2";
    fields_.Add("model_type", fmt::format("\"deepseek_v{}\"", family));
    fields_.Add("architectures", fmt::format("[\"DeepseekV{}ForCausalLM\"]", family));
    fields_.Add("scoring_func", std::string(gating == 2 ? "\"sigmoid\"" : "\"softmax\""));
    fields_.Add("topk_method", fmt::format("\"{}\"", method));
    fields_.Add("n_group", groups);
    fields_.Add("topk_group", FindUint("expert_group_used_count").value_or(groups));
    const double scale = FindNumber("expert_weights_scale").value_or(1);
    fields_.Add("routed_scaling_factor", scale == 0 ? 1 : scale);  // 0 stands for none
    fields_.Add("norm_topk_prob", keys_.Bool(Key("expert_weights_norm")).value_or(false));
    fields_.Add("first_k_dense_replace", FindUint("leading_dense_block_count").value_or(0));
    fields_.Add("moe_layer_freq", uint64_t{1});
    if (experts == 0) return;
    fields_.Add("n_routed_experts", experts);
    fields_.Add("n_shared_experts", FindUint("expert_shared_count").value_or(0));
    fields_.Add("num_experts_per_tok", Uint("expert_used_count"));
    fields_.Add("moe_intermediate_size", Uint("expert_feed_forward_length"));
  }

  // The first and the last token of a text, which training goes by; what an engine does with a
  // prompt is GgufText's business.
  void WriteTokens() {
    for (const char* name : {"bos_token_id", "eos_token_id"}) {
      const auto id = keys_.Uint(fmt::format("tokenizer.ggml.{}", name));
      if (id && *id < VocabSize()) fields_.Add(name, *id);
    }
  }

  bool HasBias() const {
    const auto dense = FindUint("leading_dense_block_count").value_or(0);
    return model_.Find(fmt::format("blk.{}.exp_probs_b.bias", dense)) != nullptr;
  }

  const GgufModel& model_;
  const GgufMetadata& keys_;
  Fields fields_;
};

}  // namespace

std::string GgufConfigJson(const GgufModel& model) { return ConfigWriter(model).Write(); }

}  // namespace baleen
