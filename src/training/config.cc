#include "training/config.h"

#include <charconv>
#include <cmath>

#include "base/error.h"
#include "base/json.h"
#include "base/quote.h"

namespace baleen {

namespace {

using simdjson::dom::element;

template <typename... Ts>
struct Overloaded : Ts... {
  using Ts::operator()...;
};
template <typename... Ts>
Overloaded(Ts...) -> Overloaded<Ts...>;

[[noreturn]] void Refuse(const char* key, const std::string& wanted, std::string_view found) {
  Throw(ErrorCode::kInvalidArgument, "{}: expected {}, found {}", key, wanted, Quote(found));
}

template <typename T>
T ParseNumber(const char* key, const std::string& wanted, std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) Refuse(key, wanted, text);
  return value;
}

std::vector<std::string> Split(std::string_view text) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t comma = std::min(text.find(',', begin), text.size());
    if (comma > begin) parts.emplace_back(text.substr(begin, comma - begin));
    begin = comma + 1;
  }
  return parts;
}

void SetFromJson(const TrainKey& key, element value, TrainConfig& config) {
  const std::string found = simdjson::minify(value);
  std::visit(Overloaded{
                 [&](std::string TrainConfig::*member) {
                   std::string_view text;
                   if (value.is_object()) {
                     config.*member = found;
                   } else if (value.get_string().get(text)) {
                     Refuse(key.name, "a string", found);
                   } else {
                     config.*member = text;
                   }
                 },
                 [&](std::vector<std::string> TrainConfig::*member) {
                   simdjson::dom::array list;
                   std::string_view text;
                   if (!value.get_string().get(text)) {
                     config.*member = {std::string(text)};
                     return;
                   }
                   if (value.get_array().get(list)) Refuse(key.name, "a list of strings", found);
                   (config.*member).clear();
                   for (element item : list) {
                     if (item.get_string().get(text)) Refuse(key.name, "strings", found);
                     (config.*member).emplace_back(text);
                   }
                 },
                 [&](double TrainConfig::*member) {
                   if (value.get_double().get(config.*member)) Refuse(key.name, "a number", found);
                 },
                 [&](uint64_t TrainConfig::*member) {
                   if (value.get_uint64().get(config.*member)) {
                     Refuse(key.name, "a whole number", found);
                   }
                 },
                 [&](bool TrainConfig::*member) {
                   if (value.get_bool().get(config.*member)) {
                     Refuse(key.name, "true or false", found);
                   }
                 },
             },
             key.member);
}

void Require(bool condition, const std::string& message) {
  if (!condition) throw Error(ErrorCode::kInvalidArgument, message);
}

void RequireOneOf(const char* key, const std::string& value,
                  std::initializer_list<std::string_view> allowed) {
  std::string list;
  for (const std::string_view name : allowed) {
    if (value == name) return;
    list += (list.empty() ? "" : ", ") + std::string(name);
  }
  Refuse(key, "one of " + list, value);
}

}  // namespace

const std::vector<TrainKey>& TrainKeys() {
  using C = TrainConfig;
  static const std::vector<TrainKey> keys = {
      {"model", &C::model, "config.json of the architecture", true},
      {"init", &C::init,
       "Checkpoint to go on from instead of random weights (any that Baleen opens)", true},
      {"tokenizer", &C::tokenizer, "Directory with tokenizer.json; default: that of --init", true},
      {"output", &C::output, "Directory for the model and the run's files", false},
      {"data", &C::data, "Files, directories and globs, separated by commas", false},
      {"held_out_share", &C::held_out_share, "Share of documents kept for validation", true},
      {"fim_rate", &C::fim_rate, "Share of documents made fill-in-the-middle", true},
      {"fim_line_share", &C::fim_line_share, "Share of these with one line as their middle", true},
      {"text_field", &C::text_field, "Field of JSON lines that holds the text", true},
      {"separator", &C::separator, "Text between documents of plain text files; default: none",
       true},
      {"max_document_bytes", &C::max_document_bytes, "Longer documents are cut; 0: they stay whole",
       true},
      {"drop_near_duplicates", &C::drop_near_duplicates,
       "Leave out documents that are almost another", true},
      {"synthetic_share", &C::synthetic_share, "Share of synthetic text, for the record", false},
      {"seed", &C::seed, "Of the weights and the order of the data", true},
      {"steps", &C::steps, "Optimizer steps", false},
      {"sequence_length", &C::sequence_length, "Tokens of a sequence", true},
      {"batch_size", &C::batch_size, "Sequences of a step", true},
      {"micro_batch_size", &C::micro_batch_size, "Sequences computed at once", true},
      {"recompute", &C::recompute, "Compute layers again on the way back: less memory", false},
      {"products", &C::products, "f32, bf16, auto: arithmetic of matrix products", true},
      {"optimizer", &C::optimizer, "adamw, muon", true},
      {"lr", &C::lr, "Largest learning rate", true},
      {"min_lr_ratio", &C::min_lr_ratio, "What cosine leaves of it at the end", true},
      {"schedule", &C::schedule, "cosine, constant, step", true},
      {"warmup_steps", &C::warmup_steps, "Steps of linear warm-up", true},
      {"beta1", &C::beta1, "Of AdamW", true},
      {"beta2", &C::beta2, "Of AdamW", true},
      {"eps", &C::eps, "Of AdamW", true},
      {"weight_decay", &C::weight_decay, "Of matrices", true},
      {"max_grad_norm", &C::max_grad_norm, "Gradients are shortened to this norm", true},
      {"balance", &C::balance, "bias, aux, none: what keeps experts busy", true},
      {"bias_update_speed", &C::bias_update_speed, "bias: its change a step", true},
      {"bias_decay_share", &C::bias_decay_share,
       "bias: share of the steps, at the end, in which its change falls to 0", true},
      {"sequence_alpha", &C::sequence_alpha, "bias: weight of the sequence-wise loss", true},
      {"expert_alpha", &C::expert_alpha, "aux: weight of the expert-level loss", true},
      {"device_alpha", &C::device_alpha, "aux: weight of the group-level loss", true},
      {"communication_alpha", &C::communication_alpha, "aux: weight of the third loss", true},
      {"mtp_weight", &C::mtp_weight, "Weight of the multi-token prediction loss; 0: left out",
       true},
      {"checkpoint_every", &C::checkpoint_every, "Steps between checkpoints", false},
      {"validate_every", &C::validate_every, "Steps between validations", false},
      {"validation_tokens", &C::validation_tokens, "Held-out tokens that are scored", false},
  };
  return keys;
}

TrainConfig ParseTrainConfig(std::string_view json, const std::string& source) {
  const JsonDocument document = JsonDocument::Parse(json, source);
  TrainConfig config;
  for (auto [name, value] : document.object()) {
    const TrainKey* found = nullptr;
    for (const TrainKey& key : TrainKeys()) {
      if (name == key.name) found = &key;
    }
    if (found == nullptr) {
      Throw(ErrorCode::kInvalidArgument, "{}: {} is no key of a training run; baleen train --help",
            source, Quote(name));
    }
    SetFromJson(*found, value, config);
  }
  return config;
}

void SetTrainKey(const TrainKey& key, std::string_view text, TrainConfig& config) {
  std::visit(
      Overloaded{
          [&](std::string TrainConfig::*member) { config.*member = text; },
          [&](std::vector<std::string> TrainConfig::*member) { config.*member = Split(text); },
          [&](double TrainConfig::*member) {
            config.*member = ParseNumber<double>(key.name, "a number", text);
          },
          [&](uint64_t TrainConfig::*member) {
            config.*member = ParseNumber<uint64_t>(key.name, "a whole number", text);
          },
          [&](bool TrainConfig::*member) {
            if (text != "true" && text != "false") Refuse(key.name, "true or false", text);
            config.*member = text == "true";
          },
      },
      key.member);
}

void CheckTrainConfig(const TrainConfig& c) {
  RequireOneOf("products", c.products, {"auto", "f32", "bf16"});
  RequireOneOf("optimizer", c.optimizer, {"adamw", "muon"});
  RequireOneOf("schedule", c.schedule, {"cosine", "constant", "step"});
  RequireOneOf("balance", c.balance, {"bias", "aux", "none"});
  Require(!c.model.empty() || !c.init.empty(), "neither model nor init is given");
  Require(!c.tokenizer.empty() || !c.init.empty(), "neither tokenizer nor init is given");
  Require(!c.data.empty(), "data names nothing to train on");
  Require(c.steps > 0, "steps must be at least 1");
  Require(c.sequence_length > 1 && c.sequence_length <= (1 << 20),
          "sequence_length must be from 2 to 1048576");
  Require(c.batch_size > 0 && c.batch_size <= (1 << 20), "batch_size must be from 1 to 1048576");
  Require(c.micro_batch_size > 0 && c.batch_size % c.micro_batch_size == 0,
          fmt::format("batch_size {} is not a multiple of micro_batch_size {}", c.batch_size,
                      c.micro_batch_size));
  Require(c.lr > 0 && std::isfinite(c.lr), "lr must be above 0");
  Require(c.min_lr_ratio >= 0 && c.min_lr_ratio <= 1, "min_lr_ratio must be from 0 to 1");
  Require(c.beta1 >= 0 && c.beta1 < 1 && c.beta2 >= 0 && c.beta2 < 1,
          "beta1 and beta2 must be from 0 to below 1");
  Require(c.bias_decay_share >= 0 && c.bias_decay_share <= 1,
          "bias_decay_share must be from 0 to 1");
  Require(c.max_grad_norm > 0, "max_grad_norm must be above 0");
  for (const double value : {c.weight_decay, c.eps, c.bias_update_speed, c.sequence_alpha,
                             c.expert_alpha, c.device_alpha, c.communication_alpha, c.mtp_weight}) {
    Require(value >= 0 && std::isfinite(value),
            "weights of losses and decays must not be negative");
  }
}

std::string JsonString(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      quoted += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

std::string ResultKeysJson(const TrainConfig& config) {
  std::string json;
  for (const TrainKey& key : TrainKeys()) {
    if (!key.changes_results) continue;
    // A younger key is told only where it says something: runs that began without it go on.
    if (key.name == std::string_view("bias_decay_share") && config.bias_decay_share == 0) continue;
    json += fmt::format("{}{}: ", json.empty() ? "{" : ", ", JsonString(key.name));
    std::visit(Overloaded{
                   [&](std::string TrainConfig::*m) { json += JsonString(config.*m); },
                   [&](std::vector<std::string> TrainConfig::*) {},
                   [&](double TrainConfig::*m) { json += fmt::format("{}", config.*m); },
                   [&](uint64_t TrainConfig::*m) { json += fmt::format("{}", config.*m); },
                   [&](bool TrainConfig::*m) { json += config.*m ? "true" : "false"; },
               },
               key.member);
  }
  return json + "}";
}

}  // namespace baleen
