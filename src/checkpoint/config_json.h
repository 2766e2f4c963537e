// checkpoint/config_json.h: config.json of the DeepSeek family, read strictly.
#ifndef BALEEN_CHECKPOINT_CONFIG_JSON_H_
#define BALEEN_CHECKPOINT_CONFIG_JSON_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "formats/gptq.h"
#include "model/config.h"

namespace baleen {

// How the file says its weights are stored.
enum class WeightQuantization {
  kNone,
  kFp8Block,  // F8_E4M3 with an F32 scale for each block of 128 x 128
  kGptq,      // formats/gptq.h
};

struct ParsedConfig {
  ModelConfig model;
  WeightQuantization quantization = WeightQuantization::kNone;
  GptqConfig gptq;  // with kGptq
  bool tie_word_embeddings = false;
  std::vector<int32_t> bos_token_ids;  // none or one
  std::vector<int32_t> eos_token_ids;
  std::vector<std::string> ignored_keys;  // read by nobody here; they change no number
};

// Every key that can change a number is used or refused. Accepts the spellings of the published
// files and of transformers up to version 5 (rope_theta + rope_scaling, or rope_parameters; type or
// rope_type). A model_type that is not ours runs when the file states everything that V3 would
// assume; neighbours that look alike and compute otherwise are refused by name.
// `source` names the file in errors. Errors: kCorruption, kUnimplemented.
ParsedConfig ParseConfig(std::string_view json, const std::string& source);

}  // namespace baleen

#endif  // BALEEN_CHECKPOINT_CONFIG_JSON_H_
