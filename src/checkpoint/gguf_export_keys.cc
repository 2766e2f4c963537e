// GgufExportKeys: the way back of gguf_config.cc and gguf_text.cc. Names and values as
// ggml-org/llama.cpp, conversion/base.py and conversion/deepseek.py write them.
#include <algorithm>
#include <array>
#include <limits>

#include "base/check.h"
#include "base/error.h"
#include "checkpoint/gguf_export.h"

namespace baleen {

namespace {

// general.file_type: LlamaFileType of the `gguf` package.
uint32_t FileType(DType type) {
  switch (type) {
    case DType::kQ4_0:
      return 2;
    case DType::kQ8_0:
      return 7;
    case DType::kBF16:
      return 32;
    default:
      BALEEN_CHECK(!"a type that is not exported");
  }
}

class KeyWriter {
 public:
  KeyWriter(const Checkpoint& checkpoint, DType type)
      : checkpoint_(checkpoint), config_(checkpoint.config.model), type_(type) {}

  GgufKeys Write() {
    keys_.AddString("general.architecture", "deepseek2");
    keys_.AddString("general.type", "model");
    keys_.AddString("general.name", checkpoint_.path.name);
    keys_.AddUint("general.file_type", FileType(type_));
    keys_.AddUint("general.quantization_version", 2);
    WriteSizes();
    WriteAttention();
    WriteRope();
    WriteExperts();
    WriteText();
    return std::move(keys_);
  }

 private:
  static std::string Key(std::string_view name) { return fmt::format("deepseek2.{}", name); }

  void Add(std::string_view name, size_t value) {
    BALEEN_CHECK(value <= std::numeric_limits<uint32_t>::max());  // ParseConfig's limits
    keys_.AddUint(Key(name), static_cast<uint32_t>(value));
  }
  void Add(std::string_view name, double value) {
    keys_.AddFloat(Key(name), static_cast<float>(value));
  }

  template <typename... Args>
  [[noreturn]] void Refuse(fmt::format_string<Args...> format, Args&&... args) const {
    Throw(ErrorCode::kUnimplemented, "{}: cannot be a GGUF file: {}", checkpoint_.path.name,
          fmt::format(format, std::forward<Args>(args)...));
  }

  void WriteSizes() {
    Add("vocab_size", config_.vocab_size);
    Add("context_length", config_.max_position_embeddings);
    Add("embedding_length", config_.hidden_size);
    Add("block_count", config_.num_hidden_layers);
    Add("feed_forward_length", config_.intermediate_size);
    Add("attention.layer_norm_rms_epsilon", config_.rms_norm_eps);
  }

  // One latent key and value for all heads; the _mla widths are those of each head.
  void WriteAttention() {
    Add("attention.head_count", config_.num_attention_heads);
    Add("attention.head_count_kv", size_t{1});
    if (config_.q_lora_rank > 0) Add("attention.q_lora_rank", config_.q_lora_rank);
    Add("attention.kv_lora_rank", config_.kv_lora_rank);
    Add("attention.key_length", config_.latent_dim());
    Add("attention.value_length", config_.kv_lora_rank);
    Add("attention.key_length_mla", config_.qk_head_dim());
    Add("attention.value_length_mla", config_.v_head_dim);
  }

  void WriteRope() {
    Add("rope.dimension_count", config_.qk_rope_head_dim);
    Add("rope.freq_base", config_.rope_theta);
    if (!config_.yarn) return;
    const YarnConfig& yarn = *config_.yarn;
    if (yarn.mscale != yarn.mscale_all_dim || yarn.mscale == 0) {
      Refuse("YaRN's mscale is {} and mscale_all_dim {}; there is one key for both", yarn.mscale,
             yarn.mscale_all_dim);
    }
    keys_.AddString(Key("rope.scaling.type"), "yarn");
    Add("rope.scaling.factor", yarn.factor);
    Add("rope.scaling.original_context_length",
        static_cast<size_t>(yarn.original_max_position_embeddings));
    Add("rope.scaling.yarn_beta_fast", yarn.beta_fast);
    Add("rope.scaling.yarn_beta_slow", yarn.beta_slow);
    Add("rope.scaling.yarn_log_multiplier", 0.1 * yarn.mscale_all_dim);
  }

  void WriteExperts() {
    if (config_.n_routed_experts == 0) {
      Add("leading_dense_block_count", config_.num_hidden_layers);
      Add("expert_feed_forward_length", config_.intermediate_size);
      Add("expert_shared_count", size_t{0});
      return;
    }
    if (config_.moe_layer_freq != 1) {
      Refuse("moe_layer_freq is {}; there is no key for it", config_.moe_layer_freq);
    }
    Add("leading_dense_block_count", config_.first_k_dense_replace);
    Add("expert_feed_forward_length", config_.moe_intermediate_size);
    Add("expert_count", config_.n_routed_experts);
    Add("expert_used_count", config_.num_experts_per_tok);
    Add("expert_shared_count", config_.n_shared_experts);
    // Readers limit the choice to groups whenever there is more than one.
    const bool grouped = config_.topk_method != TopkMethod::kGreedy;
    Add("expert_group_count", grouped ? config_.n_group : 1);
    Add("expert_group_used_count", grouped ? config_.topk_group : 1);
    Add("expert_gating_func", size_t{config_.scoring_func == ScoringFunc::kSigmoid ? 2u : 1u});
    Add("expert_weights_scale", config_.routed_scaling_factor);
    if (config_.norm_topk_prob) keys_.AddBool(Key("expert_weights_norm"), true);
  }

  void WriteText() {
    const TextSide& text = checkpoint_.text;
    if (!text.chat_template_jinja.empty()) {
      keys_.AddString("tokenizer.chat_template", text.chat_template_jinja);
    }
    if (!text.tokenizer) return keys_.AddString("tokenizer.ggml.model", "no_vocab");
    const TokenizerListing listing = text.tokenizer->List(config_.vocab_size);
    keys_.AddString("tokenizer.ggml.model", "gpt2");
    keys_.AddString("tokenizer.ggml.pre", listing.pre_tokenizer);
    keys_.AddStrings("tokenizer.ggml.tokens", listing.tokens);
    keys_.AddInts("tokenizer.ggml.token_type", listing.token_types);
    keys_.AddStrings("tokenizer.ggml.merges", listing.merges);
    WriteSpecialIds(text);
  }

  void WriteSpecialIds(const TextSide& text) {
    if (text.bos_token_id >= 0) AddId("bos_token_id", text.bos_token_id);
    keys_.AddBool("tokenizer.ggml.add_bos_token", text.bos_token_id >= 0);
    // There are three keys for tokens that end a turn. What the chat template adds is found again.
    std::vector<int32_t> stops;
    if (text.eos_token_id >= 0) stops.push_back(text.eos_token_id);
    for (const int32_t id : text.stop_token_ids) {
      if (id != text.eos_token_id && !EndsTurn(text, id)) stops.push_back(id);
    }
    constexpr std::array kNames = {"eos_token_id", "eot_token_id", "eom_token_id"};
    if (stops.size() > kNames.size()) {
      Refuse("{} tokens stop the text; there are {} keys for them", stops.size(), kNames.size());
    }
    for (size_t i = 0; i < stops.size(); ++i) AddId(kNames[i], stops[i]);
    if (text.knows_fim) WriteFimIds(*text.tokenizer);
  }

  // llama.cpp names them by what follows: prefix, suffix, middle.
  void WriteFimIds(const Tokenizer& tokenizer) {
    const auto begin = tokenizer.TokenId("<｜fim▁begin｜>");
    const auto hole = tokenizer.TokenId("<｜fim▁hole｜>");
    const auto end = tokenizer.TokenId("<｜fim▁end｜>");
    if (!begin || !hole || !end) return;
    AddId("fim_pre_token_id", *begin);
    AddId("fim_suf_token_id", *hole);
    AddId("fim_mid_token_id", *end);
  }

  static bool EndsTurn(const TextSide& text, int32_t id) {
    if (!text.chat_template) return false;
    return std::ranges::any_of(text.chat_template->stop_tokens(), [&](const std::string& name) {
      return text.tokenizer->TokenId(name) == id;
    });
  }

  void AddId(std::string_view name, int32_t id) {
    keys_.AddUint(fmt::format("tokenizer.ggml.{}", name), static_cast<uint32_t>(id));
  }

  const Checkpoint& checkpoint_;
  const ModelConfig& config_;
  const DType type_;
  GgufKeys keys_;
};

}  // namespace

GgufKeys GgufExportKeys(const Checkpoint& checkpoint, DType type) {
  return KeyWriter(checkpoint, type).Write();
}

}  // namespace baleen
