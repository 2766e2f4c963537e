#include "checkpoint/checkpoint.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>

#include "base/error.h"
#include "base/json.h"
#include "checkpoint/gguf_checkpoint.h"
#include "checkpoint/load_weights.h"
#include "formats/safetensors.h"

namespace baleen {

namespace {

namespace fs = std::filesystem;
using simdjson::dom::element;

constexpr size_t kMaxConfigBytes = size_t{16} << 20;

bool Exists(const std::string& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

// A token is named by a string, or by an object with "content".
std::optional<std::string> TokenName(element root, std::string_view key) {
  element value;
  std::string_view name;
  if (root.at_key(key).get(value)) return std::nullopt;
  if (!value.get_string().get(name)) return std::string(name);
  if (!value.at_key("content").get_string().get(name)) return std::string(name);
  return std::nullopt;
}

// tokenizer_config.json's template: one, or a list of named ones of which "default" counts.
std::optional<std::string> TemplateIn(element root) {
  element value;
  std::string_view text;
  if (root.at_key("chat_template").get(value)) return std::nullopt;
  if (!value.get_string().get(text)) return std::string(text);
  simdjson::dom::array list;
  if (value.get_array().get(list)) return std::nullopt;
  for (element item : list) {
    std::string_view name;
    if (item.at_key("name").get_string().get(name) || name != "default") continue;
    if (!item.at_key("template").get_string().get(text)) return std::string(text);
  }
  return std::nullopt;
}

void AddStop(std::optional<int32_t> id, std::vector<int32_t>& stops) {
  if (id && std::ranges::find(stops, *id) == stops.end()) stops.push_back(*id);
}

// generation_config.json: more stop tokens, and how the model's makers sample.
void ReadGenerationConfig(const std::string& path, TextSide& text) {
  if (!Exists(path)) return;
  const JsonDocument document = JsonDocument::Parse(ReadFile(path, kMaxConfigBytes), path);
  const element root = document.root();
  element eos;
  if (!root.at_key("eos_token_id").get(eos)) {
    simdjson::dom::array list;
    int64_t id;
    if (!eos.get_int64().get(id)) AddStop(static_cast<int32_t>(id), text.stop_token_ids);
    if (!eos.get_array().get(list)) {
      for (element item : list) {
        if (!item.get_int64().get(id)) AddStop(static_cast<int32_t>(id), text.stop_token_ids);
      }
    }
  }
  const auto number = [&](std::string_view key) -> std::optional<double> {
    double value;
    if (root.at_key(key).get_double().get(value)) return std::nullopt;
    return value;
  };
  bool do_sample = false;
  SamplingParams& sampling = text.default_sampling;
  if (root.at_key("do_sample").get_bool().get(do_sample) || !do_sample) return;
  sampling.temperature = static_cast<float>(number("temperature").value_or(1));
  sampling.top_p = static_cast<float>(number("top_p").value_or(1));
  sampling.top_k = static_cast<int32_t>(number("top_k").value_or(0));
  sampling.min_p = static_cast<float>(number("min_p").value_or(0));
  sampling.repetition_penalty = static_cast<float>(number("repetition_penalty").value_or(1));
}

void ReadTokenizer(const std::string& directory, const std::string& config_text, TextSide& text) {
  const std::string json = directory + "/tokenizer.json";
  const std::string tiktoken = directory + "/tiktoken.model";
  if (Exists(json)) {
    text.tokenizer = Tokenizer::FromJson(ReadFile(json, Tokenizer::kMaxFileBytes), json);
  } else if (Exists(tiktoken)) {
    text.tokenizer = Tokenizer::FromTiktoken(ReadFile(tiktoken, Tokenizer::kMaxFileBytes),
                                             config_text, tiktoken);
  } else {
    text.tokenizer_problem =
        fmt::format("{}: there is no tokenizer.json and no tiktoken.model", directory);
  }
}

void ReadChatTemplate(const std::string& directory, const std::optional<std::string>& in_config,
                      TextSide& text) {
  const std::string file = directory + "/chat_template.jinja";
  std::optional<std::string> jinja = in_config;
  if (Exists(file)) jinja = ReadFile(file, kMaxConfigBytes);
  if (!jinja) return;
  text.chat_template_jinja = *jinja;
  try {
    text.chat_template = ChatTemplate::Recognize(*jinja);
  } catch (const Error& error) {
    text.chat_template_problem = error.what();
  }
}

TextSide ReadTextSide(const std::string& directory, const ParsedConfig& config) {
  TextSide text;
  for (int32_t id : config.eos_token_ids) AddStop(id, text.stop_token_ids);
  if (!config.eos_token_ids.empty()) text.eos_token_id = config.eos_token_ids[0];
  ReadGenerationConfig(directory + "/generation_config.json", text);

  const std::string path = directory + "/tokenizer_config.json";
  const std::string config_text = Exists(path) ? ReadFile(path, kMaxConfigBytes) : "{}";
  const JsonDocument document = JsonDocument::Parse(config_text, path);
  if (document.root().at_key("fill_in_the_middle").get_bool().get(text.knows_fim)) {
    text.knows_fim = false;
  }
  ReadTokenizer(directory, config_text, text);
  ReadChatTemplate(directory, TemplateIn(document.root()), text);
  if (!text.tokenizer) return text;

  const Tokenizer& tokenizer = *text.tokenizer;
  // The tokenizer's word goes before the config's: Kimi's turns end with another token there.
  if (const auto eos = TokenName(document.root(), "eos_token")) {
    const auto id = tokenizer.TokenId(*eos);
    AddStop(id, text.stop_token_ids);
    text.eos_token_id = id.value_or(text.eos_token_id);
  }
  if (text.chat_template) {
    for (const std::string& name : text.chat_template->stop_tokens()) {
      AddStop(tokenizer.TokenId(name), text.stop_token_ids);
    }
  }
  std::ranges::sort(text.stop_token_ids);

  // Whether a text begins with BOS is the tokenizer's class's default unless the file says so.
  bool add_bos = false;
  std::string_view tokenizer_class;
  if (document.root().at_key("add_bos_token").get_bool().get(add_bos)) {
    add_bos = !document.root().at_key("tokenizer_class").get_string().get(tokenizer_class) &&
              tokenizer_class.starts_with("LlamaTokenizer");
  }
  if (add_bos) {
    const auto bos = TokenName(document.root(), "bos_token");
    const auto id = bos ? tokenizer.TokenId(*bos) : std::nullopt;
    if (id) {
      text.bos_token_id = *id;
    } else if (!config.bos_token_ids.empty()) {
      text.bos_token_id = config.bos_token_ids[0];
    }
  }
  return text;
}

}  // namespace

namespace {

void CheckVocabulary(const Checkpoint& checkpoint) {
  const size_t vocab = checkpoint.config.model.vocab_size;
  const Tokenizer* tokenizer = checkpoint.text.tokenizer.get();
  if (tokenizer == nullptr || static_cast<size_t>(tokenizer->vocab_size()) <= vocab) return;
  Throw(ErrorCode::kCorruption,
        "{}: the tokenizer has {} tokens, but the model's vocab_size is {}; do they belong "
        "together?",
        checkpoint.path.directory, tokenizer->vocab_size(), vocab);
}

void OpenGguf(CheckpointPart part, Checkpoint& checkpoint) {
  const auto model = std::make_shared<const GgufModel>(checkpoint.path.weights);
  checkpoint.config_json = GgufConfigJson(*model);
  checkpoint.config = ParseConfig(checkpoint.config_json, checkpoint.path.weights);
  checkpoint.text = GgufText(*model);
  CheckVocabulary(checkpoint);
  if (part == CheckpointPart::kTextOnly) return;
  checkpoint.source = GgufWeights(model, checkpoint.config.model);
}

void OpenDirectory(CheckpointPart part, Checkpoint& checkpoint) {
  const std::string& directory = checkpoint.path.directory;
  const std::string config_path = directory + "/config.json";
  checkpoint.config_json = ReadFile(config_path, kMaxConfigBytes);
  checkpoint.config = ParseConfig(checkpoint.config_json, config_path);
  // Older tools wrote this file alone; where both are, other engines read config.json.
  const std::string gptq_path = directory + "/quantize_config.json";
  if (checkpoint.config.quantization == WeightQuantization::kNone && Exists(gptq_path)) {
    checkpoint.config.quantization = WeightQuantization::kGptq;
    checkpoint.config.gptq = ParseGptqConfig(ReadFile(gptq_path, kMaxConfigBytes), gptq_path);
  }
  checkpoint.text = ReadTextSide(directory, checkpoint.config);
  CheckVocabulary(checkpoint);
  if (part == CheckpointPart::kTextOnly) return;
  checkpoint.source = OpenSafetensors(checkpoint.path.weights);
}

}  // namespace

Checkpoint OpenCheckpoint(const std::string& model, CheckpointPart part) {
  Checkpoint checkpoint;
  checkpoint.path = ResolveModel(model);
  if (checkpoint.path.is_gguf) {
    OpenGguf(part, checkpoint);
  } else {
    OpenDirectory(part, checkpoint);
  }
  if (part == CheckpointPart::kTextOnly) return checkpoint;
  checkpoint.weights =
      LoadWeights(checkpoint.config, checkpoint.source,
                  part == CheckpointPart::kForRepack ? &checkpoint.packed : nullptr);
  return checkpoint;
}

namespace {

// Of what weights are stored in: codes of 4 and 8 bits share one type in the files of GPTQ.
std::string NameOf(const Matrix& matrix) {
  if (matrix.is_tiled() && matrix.dtype == DType::kI32) {
    return fmt::format("GPTQ{}", matrix.tiles.bits);
  }
  return DTypeName(matrix.dtype);
}

class Counter {
 public:
  // `share` is the part of the parameters that works on one token.
  void Add(const Matrix& matrix, double share) {
    const uint64_t count = uint64_t{matrix.rows} * matrix.cols;
    Add(count, share);
    result_.total_bytes += matrix.size_bytes();
    by_dtype_[NameOf(matrix)] += count;
  }
  void Add(const MlpWeights& mlp, double share) {
    for (const Matrix* matrix : {&mlp.gate_proj, &mlp.up_proj, &mlp.down_proj}) {
      Add(*matrix, share);
    }
  }
  void Add(uint64_t count, double share) {
    result_.total += count;
    active_ += static_cast<double>(count) * share;
  }
  uint64_t bytes() const { return result_.total_bytes; }

  ParameterCount Finish(uint64_t expert_bytes) {
    result_.active = static_cast<uint64_t>(active_ + 0.5);
    result_.resident_bytes = result_.total_bytes - expert_bytes;
    uint64_t most = 0;
    for (const auto& [name, count] : by_dtype_) {
      if (count > most) {
        most = count;
        result_.main_dtype = name;
      }
    }
    return result_;
  }

 private:
  ParameterCount result_;
  double active_ = 0;
  std::map<std::string, uint64_t> by_dtype_;
};

}  // namespace

ParameterCount CountParameters(const ModelConfig& config, const ModelWeights& weights) {
  Counter counter;
  uint64_t expert_bytes = 0;
  const double expert_share = config.n_routed_experts == 0
                                  ? 0
                                  : static_cast<double>(config.num_experts_per_tok) /
                                        static_cast<double>(config.n_routed_experts);
  counter.Add(weights.embed_tokens, 1);
  if (weights.lm_head.data != weights.embed_tokens.data) counter.Add(weights.lm_head, 1);
  counter.Add(config.hidden_size, 1);
  for (const LayerWeights& layer : weights.layers) {
    const AttentionWeights& a = layer.attention;
    for (const Matrix* matrix : {&a.q_proj, &a.q_a_proj, &a.q_b_proj, &a.kv_a_proj_with_mqa,
                                 &a.kv_b_proj, &a.k_b_proj, &a.v_b_proj, &a.o_proj}) {
      counter.Add(*matrix, 1);
    }
    counter.Add(2 * config.hidden_size + config.kv_lora_rank + config.q_lora_rank, 1);
    counter.Add(layer.mlp, 1);
    counter.Add(layer.moe.router, 1);
    if (layer.moe.e_score_correction_bias != nullptr) counter.Add(config.n_routed_experts, 1);
    counter.Add(layer.moe.shared, 1);
    const uint64_t before = counter.bytes();
    for (const MlpWeights& expert : layer.moe.experts) counter.Add(expert, expert_share);
    expert_bytes += counter.bytes() - before;
  }
  return counter.Finish(expert_bytes);
}

}  // namespace baleen
