// GPTQ directories whose tensors or configuration contradict themselves, opened as a model.
#include <fmt/format.h>

#include <cstring>

#include "checkpoint/checkpoint.h"
#include "hostile/hostile.h"

namespace baleen::hostile {

namespace {

// A model with hidden_size 8, whose first matrix, q_proj, has 16 rows and 8 columns.
std::string Config(const std::string& quantization) {
  return fmt::format(R"({{"model_type": "deepseek_v3", "vocab_size": 300, "hidden_size": 8,
    "intermediate_size": 8, "moe_intermediate_size": 8, "num_hidden_layers": 1,
    "num_attention_heads": 2, "n_shared_experts": 1, "n_routed_experts": 4, "kv_lora_rank": 8,
    "q_lora_rank": null, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 4,
    "n_group": 1, "topk_group": 1, "num_experts_per_tok": 2, "first_k_dense_replace": 1,
    "max_position_embeddings": 64, "eos_token_id": 1, "quantization_config": {}}})",
                     quantization);
}

constexpr const char* kGood =
    R"({"quant_method": "gptq", "bits": 4, "group_size": 4, "sym": true, "desc_act": false})";

struct Tensor {
  std::string part, dtype, shape;
  std::string bytes;
};

template <typename T>
std::string Repeat(T value, size_t count) {
  std::string bytes(count * sizeof(T), '\0');
  for (size_t i = 0; i < count; ++i) std::memcpy(&bytes[i * sizeof(T)], &value, sizeof(T));
  return bytes;
}

// q_proj as it should be: 4 bits, two groups of 4 columns.
std::vector<Tensor> Good() {
  return {{"qweight", "I32", "[1,16]", Repeat<uint32_t>(0x12345678, 16)},
          {"qzeros", "I32", "[2,2]", Repeat<uint32_t>(0x77777777, 4)},
          {"scales", "F16", "[2,16]", Repeat<uint16_t>(0x3c00, 32)},
          {"g_idx", "I32", "[8]", Repeat<int32_t>(0, 4) + Repeat<int32_t>(1, 4)}};
}

std::string File(const std::vector<Tensor>& tensors) {
  std::string header = "{", data;
  for (const Tensor& tensor : tensors) {
    header += fmt::format(
        R"({}"model.layers.0.self_attn.q_proj.{}":{{"dtype":"{}","shape":{},"data_offsets":[{},{}]}})",
        header.size() > 1 ? "," : "", tensor.part, tensor.dtype, tensor.shape, data.size(),
        data.size() + tensor.bytes.size());
    data += tensor.bytes;
  }
  header += "}";
  std::string bytes(8, '\0');
  const uint64_t size = header.size();
  std::memcpy(bytes.data(), &size, sizeof(size));
  return bytes + header + data;
}

HostileCase Bad(const std::string& name, const std::string& quantization,
                const std::vector<Tensor>& tensors, std::vector<std::string> fragments,
                ErrorCode code = ErrorCode::kCorruption) {
  return {.name = "Gptq" + name,
          .files = {{"config.json", Config(quantization)}, {"model.safetensors", File(tensors)}},
          .open = [](const std::string& directory) { OpenCheckpoint(directory); },
          .code = code,
          .fragments = std::move(fragments)};
}

HostileCase BadTensor(const std::string& name, size_t index, const Tensor& tensor,
                      std::vector<std::string> fragments, ErrorCode code = ErrorCode::kCorruption) {
  std::vector<Tensor> tensors = Good();
  tensors[index] = tensor;
  fragments.push_back("q_proj." + tensor.part);
  return Bad(name, kGood, tensors, std::move(fragments), code);
}

}  // namespace

std::vector<HostileCase> GptqCases() {
  std::vector<Tensor> no_zeros = Good(), no_scales = Good();
  no_zeros.erase(no_zeros.begin() + 1);
  no_scales.erase(no_scales.begin() + 2);
  const auto groups = [](int32_t last) { return Repeat<int32_t>(0, 7) + Repeat<int32_t>(last, 1); };
  return {
      // That the good one would be read: what stops it is that the rest of the model is missing.
      Bad("AllElseMissing", kGood, Good(), {"lack tensors", "model.embed_tokens.weight"}),
      Bad("NoZeros", kGood, no_zeros, {"q_proj.qzeros is missing"}),
      Bad("NoScales", kGood, no_scales, {"q_proj.scales is missing"}),
      BadTensor("WeightShape", 0, {"qweight", "I32", "[2,8]", Repeat<uint32_t>(0, 16)},
                {"[2, 8]", "[1, 16]"}),
      BadTensor("WeightHuge", 0, {"qweight", "I32", "[4294967296,0]", ""}, {"[4294967296, 0]"}),
      BadTensor("WeightRank", 0, {"qweight", "I32", "[16]", Repeat<uint32_t>(0, 16)}, {"[16]"}),
      BadTensor("WeightType", 0, {"qweight", "F32", "[1,16]", Repeat<uint32_t>(0, 16)}, {"F32"}),
      BadTensor("ZerosShape", 1, {"qzeros", "I32", "[1,4]", Repeat<uint32_t>(0, 4)}, {"[1, 4]"}),
      BadTensor("ScalesShape", 2, {"scales", "F16", "[0,16]", ""}, {"[0, 16]"}),
      BadTensor("ScalesType", 2, {"scales", "I32", "[2,16]", Repeat<uint32_t>(0, 32)}, {"I32"}),
      BadTensor("ScaleNan", 2, {"scales", "F16", "[2,16]", Repeat<uint16_t>(0x7e00, 32)},
                {"nan", "element 0"}),
      BadTensor("ScaleInfinite", 2, {"scales", "F16", "[2,16]", Repeat<uint16_t>(0xfc00, 32)},
                {"inf"}),
      BadTensor("ScaleBeyondF16", 2, {"scales", "BF16", "[2,16]", Repeat<uint16_t>(0x7f00, 32)},
                {"F16 does not have"}, ErrorCode::kUnimplemented),
      BadTensor("GroupTooHigh", 3, {"g_idx", "I32", "[8]", groups(2)},
                {"column 7", "group 2 of 2"}),
      BadTensor("GroupNegative", 3, {"g_idx", "I32", "[8]", groups(-3)}, {"column 7"}),
      BadTensor("GroupHuge", 3, {"g_idx", "I32", "[8]", groups(0x7fffffff)}, {"2147483647"}),
      BadTensor("GroupsUneven", 3, {"g_idx", "I32", "[8]", groups(1)}, {"7 columns"},
                ErrorCode::kUnimplemented),
      BadTensor("GroupsShape", 3, {"g_idx", "I32", "[7]", Repeat<int32_t>(0, 7)}, {"[7]"}),
      Bad("NoBits", R"({"quant_method": "gptq", "group_size": 4})", Good(),
          {"config.json", "bits"}),
      Bad("ThreeBits", R"({"quant_method": "gptq", "bits": 3, "group_size": 4})", Good(),
          {"config.json", "3 bits"}, ErrorCode::kUnimplemented),
      Bad("NegativeGroup", R"({"quant_method": "gptq", "bits": 4, "group_size": -5})", Good(),
          {"config.json", "-5"}),
      Bad("HugeGroup", R"({"quant_method": "gptq", "bits": 4, "group_size": 99999999999999})",
          Good(), {"config.json", "99999999999999"}),
      Bad("AnotherFormat",
          R"({"quant_method": "gptq", "bits": 4, "group_size": 4, "checkpoint_format": "marlin"})",
          Good(), {"config.json", "marlin"}, ErrorCode::kUnimplemented),
      Bad("OtherBits", R"({"quant_method": "gptq", "bits": 8, "group_size": 4})", Good(),
          {"q_proj.qweight", "[2, 16]"}),
  };
}

}  // namespace baleen::hostile
