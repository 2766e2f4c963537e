// checkpoint/checkpoint.h: opens MODEL. The only place that knows both files and models.
//
// Reads config.json, generation_config.json, tokenizer.json (or tiktoken.model),
// tokenizer_config.json, chat_template.jinja, and maps the weights; or has all of it from one GGUF
// file.
#ifndef BALEEN_CHECKPOINT_CHECKPOINT_H_
#define BALEEN_CHECKPOINT_CHECKPOINT_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "baleen/request.h"
#include "checkpoint/config_json.h"
#include "checkpoint/load_weights.h"
#include "checkpoint/model_path.h"
#include "model/weights.h"
#include "tensor/weight_source.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/tokenizer.h"

namespace baleen {

// The model's side of text: what is needed to turn a conversation into ids and back.
struct TextSide {
  std::unique_ptr<Tokenizer> tokenizer;  // null: the model has none
  std::string tokenizer_problem;         // why it is null
  int32_t bos_token_id = -1;             // put before a text; -1: nothing is
  int32_t eos_token_id = -1;             // the tokenizer's, else the config's first; -1: none
  std::vector<int32_t> stop_token_ids;   // union of what all files say, ascending
  std::optional<ChatTemplate> chat_template;
  std::string chat_template_jinja;    // as the files have it, known or not
  std::string chat_template_problem;  // why it is unknown; empty: the model has none
  SamplingParams default_sampling;    // generation_config.json
  bool knows_fim = false;             // a key says that the model was trained to fill in the middle
};

struct Checkpoint {
  ModelPath path;
  ParsedConfig config;
  std::string config_json;  // what `config` was read from; of a GGUF file, what its keys stand for
  TextSide text;
  std::shared_ptr<const WeightSource> source;  // null when opened for text only
  ModelWeights weights;
  std::shared_ptr<const MappedFile> tile_file;  // of RepackWeights, if it made tiles in a file
  // With kForRepack: the matrices of a GPTQ directory, whose data is their first tensor in the file
  // until RepackWeights makes tiles of them.
  PackedMatrices packed;
};

// kForRepack: as kAll, for one who calls RepackWeights next; else matrices of GPTQ directories are
// decoded into F32 in memory.
enum class CheckpointPart { kAll, kForRepack, kTextOnly };

// Errors: as Engine::Open. A missing tokenizer or an unknown chat template is noted in the result,
// not thrown: the rest still works.
Checkpoint OpenCheckpoint(const std::string& model, CheckpointPart part = CheckpointPart::kAll);

// Counts for `inspect` and the roofline; the MTP layers are left out, as in published counts.
struct ParameterCount {
  uint64_t total = 0;
  uint64_t active = 0;          // that work on one token, embedding and head included
  uint64_t total_bytes = 0;     // as stored
  uint64_t resident_bytes = 0;  // without routed experts
  std::string main_dtype;       // of most parameters
};
ParameterCount CountParameters(const ModelConfig& config, const ModelWeights& weights);

}  // namespace baleen

#endif  // BALEEN_CHECKPOINT_CHECKPOINT_H_
