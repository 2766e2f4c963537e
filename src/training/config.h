// training/config.h: everything that a training run is told. One table of keys serves the file, the
// flags of the command line and the fingerprint of a run.
#ifndef BALEEN_TRAINING_CONFIG_H_
#define BALEEN_TRAINING_CONFIG_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace baleen {

struct TrainConfig {
  std::string model;      // a config.json; in the file also the object itself
  std::string init;       // a checkpoint to go on from, instead of random weights
  std::string tokenizer;  // a directory or tokenizer.json; default: that of init
  std::string output = "trained";
  std::vector<std::string> data;
  double held_out_share = 0.01;
  double fim_rate = 0;
  double fim_line_share = 0;
  std::string text_field = "text";
  std::string separator;
  uint64_t max_document_bytes = 0;
  bool drop_near_duplicates = true;
  double synthetic_share = 0;  // of the text, as its collector knows it; for the provenance
  uint64_t seed = 1;

  uint64_t steps = 1000;
  uint64_t sequence_length = 512;
  uint64_t batch_size = 16;       // sequences of a step
  uint64_t micro_batch_size = 8;  // sequences that are computed at once
  bool recompute = false;
  std::string products = "auto";  // f32, bf16; auto: bf16 where the machine has the instructions

  std::string optimizer = "adamw";  // muon
  double lr = 1e-3;
  double min_lr_ratio = 0.1;
  std::string schedule = "cosine";  // constant, step
  uint64_t warmup_steps = 100;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;
  double max_grad_norm = 1;

  std::string balance = "bias";  // aux, none
  double bias_update_speed = 1e-3;
  double bias_decay_share = 0;
  double sequence_alpha = 1e-4;
  double expert_alpha = 1e-3;
  double device_alpha = 0;
  double communication_alpha = 0;
  double mtp_weight = 0.3;

  uint64_t checkpoint_every = 200;  // steps
  uint64_t validate_every = 200;
  uint64_t validation_tokens = 65536;
};

// A key: the member it sets, and what it is for.
struct TrainKey {
  using Member = std::variant<std::string TrainConfig::*, std::vector<std::string> TrainConfig::*,
                              double TrainConfig::*, uint64_t TrainConfig::*, bool TrainConfig::*>;
  const char* name;
  Member member;
  const char* help;
  bool changes_results;  // whether a run with another value is another run
};
const std::vector<TrainKey>& TrainKeys();

// `source` names the file in errors. Errors: kInvalidArgument, an unknown key or a wrong value.
TrainConfig ParseTrainConfig(std::string_view json, const std::string& source);

// Sets one key from text, as a flag gives it; lists are separated by commas.
void SetTrainKey(const TrainKey& key, std::string_view text, TrainConfig& config);

// Refuses values that make no sense, alone or together. Error{kInvalidArgument}.
void CheckTrainConfig(const TrainConfig& config);

// One JSON object with the keys that decide what comes out.
std::string ResultKeysJson(const TrainConfig& config);

// Text as a JSON string, quotes included.
std::string JsonString(std::string_view text);

}  // namespace baleen

#endif  // BALEEN_TRAINING_CONFIG_H_
