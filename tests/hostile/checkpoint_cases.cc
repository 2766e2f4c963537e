// Directories whose config or tokenizer is wrong, opened as a model.
#include <fmt/format.h>

#include "checkpoint/checkpoint.h"
#include "hostile/hostile.h"

namespace baleen::hostile {

namespace {

// A config that is whole; `from` is replaced by `to`.
std::string Config(const std::string& from = "", const std::string& to = "") {
  std::string text = R"({"model_type": "deepseek_v3", "vocab_size": 300, "hidden_size": 8,
    "intermediate_size": 8, "moe_intermediate_size": 8, "num_hidden_layers": 2,
    "num_attention_heads": 2, "n_shared_experts": 1, "n_routed_experts": 4, "kv_lora_rank": 8,
    "q_lora_rank": null, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 4,
    "n_group": 1, "topk_group": 1, "num_experts_per_tok": 2, "first_k_dense_replace": 1,
    "max_position_embeddings": 64, "eos_token_id": 1})";
  const size_t place = from.empty() ? std::string::npos : text.find(from);
  if (place != std::string::npos) text.replace(place, from.size(), to);
  return text;
}

// One tensor, of one byte.
std::string TinyWeights() {
  const std::string header = R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
  std::string bytes(8, '\0');
  bytes[0] = static_cast<char>(header.size());
  return bytes + header + "d";
}

HostileCase Model(const std::string& name, std::map<std::string, std::string> files,
                  std::vector<std::string> fragments, ErrorCode code, CheckpointPart part) {
  return {.name = name,
          .files = std::move(files),
          .open = [part](const std::string& directory) { OpenCheckpoint(directory, part); },
          .code = code,
          .fragments = std::move(fragments)};
}

HostileCase BadConfig(const std::string& name, const std::string& config,
                      std::vector<std::string> fragments, ErrorCode code = ErrorCode::kCorruption) {
  fragments.push_back("config.json: ");
  return Model(name, {{"config.json", config}}, std::move(fragments), code,
               CheckpointPart::kTextOnly);
}

std::vector<HostileCase> ConfigCases() {
  std::string deep = R"({"model_type": )";
  for (int i = 0; i < 100'000; ++i) deep += "[";
  return {
      BadConfig("ConfigEmpty", "", {"not valid JSON"}),
      BadConfig("ConfigTruncated", Config().substr(0, 100), {"not valid JSON"}),
      BadConfig("ConfigNoObject", "[1, 2]", {"object"}),
      BadConfig("ConfigDeep", deep, {"not valid JSON"}),
      BadConfig("ConfigNotUtf8", "{\"model_type\": \"\xff\xfe\"}", {"not valid JSON"}),
      BadConfig("ConfigOfAnotherModel", R"({"model_type": "llama"})", {"llama"},
                ErrorCode::kUnimplemented),
      BadConfig("ConfigNegativeWidth", Config("\"hidden_size\": 8", "\"hidden_size\": -8"),
                {"hidden_size", "-8"}),
      BadConfig("ConfigHugeWidth", Config("\"hidden_size\": 8", "\"hidden_size\": 9999999999"),
                {"hidden_size", "9999999999"}),
      BadConfig("ConfigWidthIsText", Config("\"hidden_size\": 8", "\"hidden_size\": \"8\""),
                {"hidden_size"}),
      BadConfig("ConfigNoLayers", Config("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 0"),
                {"num_hidden_layers"}),
      BadConfig("ConfigMoreChosenThanThere",
                Config("\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 5"),
                {"num_experts_per_tok 5", "n_routed_experts 4"}),
      BadConfig("ConfigGroupsDoNotDivide", Config("\"n_group\": 1", "\"n_group\": 3"),
                {"n_routed_experts 4", "n_group 3"}),
      BadConfig("ConfigAsksForSparseAttention",
                Config("\"eos_token_id\"", "\"index_topk\": 2048, \"eos_token_id\""),
                {"index_topk"}, ErrorCode::kUnimplemented),
      BadConfig("ConfigAsksForPickledCode",
                Config("\"eos_token_id\": 1", "\"eos_token_id\": \"os.system\""), {"eos_token_id"}),
      Model("ConfigMissing", {{"model.safetensors", TinyWeights()}}, {"config.json"},
            ErrorCode::kNotFound, CheckpointPart::kAll),
      // As many tensors as the limits allow must not make us list them all.
      Model("ConfigAsksForMillionsOfTensors",
            {{"config.json",
              [] {
                std::string config =
                    Config("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 4096");
                const std::string experts = "\"n_routed_experts\": 4";
                return config.replace(config.find(experts), experts.size(),
                                      "\"n_routed_experts\": 65536");
              }()},
             {"model.safetensors", TinyWeights()}},
            {"lack tensors", "model.embed_tokens.weight", "more"}, ErrorCode::kCorruption,
            CheckpointPart::kAll),
      Model("WeightsOfAnotherModel",
            {{"config.json", Config()}, {"model.safetensors", TinyWeights()}},
            {"lack tensors", "model.embed_tokens.weight"}, ErrorCode::kCorruption,
            CheckpointPart::kAll),
  };
}

// A tokenizer.json with this model and these added tokens.
std::string TokenizerJson(const std::string& model, const std::string& added = "[]",
                          const std::string& pre = "") {
  const std::string v3 =
      R"({"type":"Sequence","pretokenizers":[
        {"type":"Split","pattern":{"Regex":"\\p{N}{1,3}"},"behavior":"Isolated","invert":false},
        {"type":"Split","pattern":{"Regex":"[一-龥぀-ゟ゠-ヿ]+"},"behavior":"Isolated","invert":false},
        {"type":"Split","pattern":{"Regex":"[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"},"behavior":"Isolated","invert":false},
        {"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false}]})";
  return fmt::format(
      R"({{"version":"1.0","truncation":null,"padding":null,"added_tokens":{},"normalizer":null,
          "pre_tokenizer":{},"post_processor":null,"decoder":{{"type":"ByteLevel",
          "add_prefix_space":true,"trim_offsets":true,"use_regex":true}},"model":{}}})",
      added, pre.empty() ? v3 : pre, model);
}

std::string Bpe(const std::string& vocab, const std::string& merges) {
  return fmt::format(R"({{"type":"BPE","vocab":{},"merges":{}}})", vocab, merges);
}

HostileCase BadTokenizer(const std::string& name, const std::string& json,
                         std::vector<std::string> fragments,
                         ErrorCode code = ErrorCode::kCorruption) {
  fragments.push_back("tokenizer.json: ");
  return Model(name, {{"config.json", Config()}, {"tokenizer.json", json}}, std::move(fragments),
               code, CheckpointPart::kTextOnly);
}

HostileCase BadTiktoken(const std::string& name, const std::string& file,
                        std::vector<std::string> fragments) {
  fragments.push_back("tiktoken.model: ");
  return Model(name, {{"config.json", Config()}, {"tiktoken.model", file}}, std::move(fragments),
               ErrorCode::kCorruption, CheckpointPart::kTextOnly);
}

std::vector<HostileCase> TokenizerCases() {
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += "[";
  return {
      BadTokenizer("TokenizerEmpty", "", {"not valid JSON"}),
      BadTokenizer("TokenizerTruncated", TokenizerJson(Bpe(R"({"a":0})", "[]")).substr(0, 200),
                   {"not valid JSON"}),
      BadTokenizer("TokenizerDeep", deep, {"not valid JSON"}),
      BadTokenizer("TokenizerWithoutModel", "{}", {}),
      BadTokenizer("TokenizerOfAnotherKind",
                   TokenizerJson(R"({"type":"WordPiece","vocab":{"a":0}})"), {"WordPiece"},
                   ErrorCode::kUnimplemented),
      BadTokenizer("TokenizerSplitsOtherwise",
                   TokenizerJson(Bpe(R"({"a":0})", "[]"), "[]", R"({"type":"Whitespace"})"), {},
                   ErrorCode::kUnimplemented),
      BadTokenizer("TokenizerMergesUnknownTokens",
                   TokenizerJson(Bpe(R"({"a":0,"b":1})", R"(["a c"])")), {"merge"}),
      BadTokenizer("TokenizerIdTwice", TokenizerJson(Bpe(R"({"a":0,"b":0})", "[]")), {"id 0"}),
      BadTokenizer("TokenizerIdHuge", TokenizerJson(Bpe(R"({"a":4294967295})", "[]")), {}),
      BadTokenizer("TokenizerIdNegative", TokenizerJson(Bpe(R"({"a":-1})", "[]")), {}),
      BadTokenizer("TokenizerMergesNoList", TokenizerJson(Bpe(R"({"a":0})", "7")), {"merges"}),
      BadTiktoken("TiktokenEmpty", "", {}),
      BadTiktoken("TiktokenNoBase64", "!!!! 0\n", {}),
      BadTiktoken("TiktokenNoRank", "IQ==\n", {}),
      BadTiktoken("TiktokenRankTwice", "IQ== 0\nIg== 0\n", {}),
      BadTiktoken("TiktokenTokenTwice", "IQ== 0\nIQ== 1\n", {}),
      BadTiktoken("TiktokenHugeRank", "IQ== 99999999999999999999\n", {}),
      BadTiktoken("TiktokenBytesMissing", "IQ== 0\n", {}),
  };
}

}  // namespace

std::vector<HostileCase> CheckpointCases() {
  std::vector<HostileCase> cases = ConfigCases();
  for (HostileCase& hostile : TokenizerCases()) cases.push_back(std::move(hostile));
  return cases;
}

}  // namespace baleen::hostile
