// cli/inspect.cc: `baleen inspect`: what a checkpoint holds, without running it.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/machine.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/repack.h"
#include "cli/flags.h"
#include "cli/output.h"
#include "cli/predict_speed.h"
#include "cli/progress.h"
#include "cli/verbs.h"
#include "runtime/plan_memory.h"
#include "tensor/dtype.h"

namespace baleen {

namespace {

struct InspectFlags {
  EngineFlags engine;
  bool json = false;
  bool tensors = false;
};

// What this machine could run of it.
struct Fit {
  uint64_t available_bytes = 0;
  uint64_t weight_bytes = 0;
  uint64_t resident_bytes = 0;  // weights that every token needs
  bool all_weights = false;     // and not only the resident ones
  uint64_t cache_tokens = 0;    // beside these weights; 0: not even they fit
};

Fit FitOf(const ParameterCount& count, uint64_t cache_bytes_per_token, uint64_t memory_limit) {
  Fit fit;
  fit.available_bytes = memory_limit > 0 ? memory_limit : AvailableMemoryBytes();
  fit.weight_bytes = count.total_bytes;
  fit.resident_bytes = count.resident_bytes;
  fit.all_weights = count.total_bytes < fit.available_bytes;
  const uint64_t weights = fit.all_weights ? count.total_bytes : count.resident_bytes;
  if (weights < fit.available_bytes) {
    fit.cache_tokens = (fit.available_bytes - weights) / cache_bytes_per_token;
  }
  return fit;
}

const char* NameOf(ScoringFunc function) {
  return function == ScoringFunc::kSoftmax ? "softmax" : "sigmoid";
}

const char* NameOf(TopkMethod method) {
  switch (method) {
    case TopkMethod::kGreedy:
      return "greedy";
    case TopkMethod::kGroupLimitedGreedy:
      return "group_limited_greedy";
    case TopkMethod::kNoauxTc:
      return "noaux_tc";
  }
  return "";
}

// Names as in config.json; what the model lacks is left out.
Json ConfigJson(const ModelConfig& config) {
  Json json = {{"vocab_size", config.vocab_size},
               {"hidden_size", config.hidden_size},
               {"intermediate_size", config.intermediate_size},
               {"num_hidden_layers", config.num_hidden_layers},
               {"num_attention_heads", config.num_attention_heads},
               {"max_position_embeddings", config.max_position_embeddings},
               {"rms_norm_eps", config.rms_norm_eps},
               {"kv_lora_rank", config.kv_lora_rank},
               {"qk_nope_head_dim", config.qk_nope_head_dim},
               {"qk_rope_head_dim", config.qk_rope_head_dim},
               {"v_head_dim", config.v_head_dim},
               {"rope_theta", config.rope_theta}};
  if (config.q_lora_rank > 0) json["q_lora_rank"] = config.q_lora_rank;
  if (config.yarn) {
    json["rope_scaling"] = {
        {"type", "yarn"},
        {"factor", config.yarn->factor},
        {"beta_fast", config.yarn->beta_fast},
        {"beta_slow", config.yarn->beta_slow},
        {"original_max_position_embeddings", config.yarn->original_max_position_embeddings},
        {"mscale", config.yarn->mscale},
        {"mscale_all_dim", config.yarn->mscale_all_dim}};
  }
  if (config.n_routed_experts > 0) {
    json["n_routed_experts"] = config.n_routed_experts;
    json["n_shared_experts"] = config.n_shared_experts;
    json["num_experts_per_tok"] = config.num_experts_per_tok;
    json["moe_intermediate_size"] = config.moe_intermediate_size;
    json["first_k_dense_replace"] = config.first_k_dense_replace;
    json["moe_layer_freq"] = config.moe_layer_freq;
    json["scoring_func"] = NameOf(config.scoring_func);
    json["topk_method"] = NameOf(config.topk_method);
    json["n_group"] = config.n_group;
    json["topk_group"] = config.topk_group;
    json["norm_topk_prob"] = config.norm_topk_prob;
    json["routed_scaling_factor"] = config.routed_scaling_factor;
  }
  if (config.num_nextn_predict_layers > 0) {
    json["num_nextn_predict_layers"] = config.num_nextn_predict_layers;
  }
  return json;
}

Json SamplingJson(const SamplingParams& sampling) {
  // Shortest texts that read back as the same F32.
  const auto number = [](float value) { return Json::parse(fmt::format("{}", value)); };
  return {{"temperature", number(sampling.temperature)},
          {"top_k", sampling.top_k},
          {"top_p", number(sampling.top_p)},
          {"min_p", number(sampling.min_p)},
          {"repetition_penalty", number(sampling.repetition_penalty)}};
}

Json StopTokensJson(const TextSide& text) {
  Json stops = Json::array();
  for (const int32_t id : text.stop_token_ids) {
    Json stop = {{"id", id}};
    if (text.tokenizer && id < text.tokenizer->vocab_size()) {
      stop["text"] = text.tokenizer->TokenBytes(id);
    }
    stops.push_back(std::move(stop));
  }
  return stops;
}

// Null: the model has none.
Json ChatTemplateJson(const TextSide& text) {
  if (text.chat_template) {
    return {{"name", text.chat_template->name()}, {"can_reason", text.chat_template->can_reason()}};
  }
  if (!text.chat_template_problem.empty()) return {{"problem", text.chat_template_problem}};
  return nullptr;
}

Json TensorsJson(const WeightSource& source) {
  Json tensors = Json::array();
  for (const std::string& name : source.Names()) {
    const TensorView& tensor = *source.Find(name);
    tensors.push_back({{"name", name},
                       {"dtype", DTypeName(tensor.dtype)},
                       {"shape", tensor.shape},
                       {"bytes", tensor.size_bytes()}});
  }
  return tensors;
}

// All that is told of a checkpoint.
struct Report {
  const Checkpoint& checkpoint;
  ParameterCount count;
  uint64_t cache_bytes_per_token;
  Fit fit;
  // With a memory limit: what to expect, or why the model cannot be opened.
  std::optional<SpeedPrediction> speed = {};
  std::string speed_problem = {};
};

Report MakeReport(const Checkpoint& checkpoint, const EngineOptions& options) {
  const ModelConfig& config = checkpoint.config.model;
  const ParameterCount count = CountParameters(config, checkpoint.weights);
  const CacheLayout cache = CacheLayoutFor(config, options);
  const uint64_t cache_bytes_per_token = uint64_t{cache.row_bytes} * cache.num_layers;
  return {checkpoint, count, cache_bytes_per_token,
          FitOf(count, cache_bytes_per_token, options.memory_limit_bytes)};
}

Json ToJson(const SpeedPrediction& speed) {
  return {{"tokens_per_s", speed.tokens_per_s},
          {"experts", speed.num_experts},
          {"expert_slots", speed.num_expert_slots},
          {"hit_rate", speed.hit_rate},
          {"disk_bytes_per_token", speed.disk_bytes_per_token},
          {"memory_bytes_per_token", speed.memory_bytes_per_token},
          {"disk_gb_per_s", speed.disk_gb_per_s},
          {"read_gb_per_s", speed.read_gb_per_s}};
}

Json ReportJson(const Report& report) {
  const auto& [checkpoint, count, cache_bytes_per_token, fit, speed, problem] = report;
  return {{"path", checkpoint.path.directory},
          {"architecture", checkpoint.config.model.model_type},
          {"quantization", count.main_dtype},
          {"parameters", count.total},
          {"active_parameters", count.active},
          {"cache_bytes_per_token", cache_bytes_per_token},
          {"memory",
           {{"available_bytes", fit.available_bytes},
            {"weight_bytes", fit.weight_bytes},
            {"resident_weight_bytes", fit.resident_bytes},
            {"all_weights_fit", fit.all_weights},
            {"cache_tokens", fit.cache_tokens}}},
          {"prediction", speed             ? ToJson(*speed)
                         : problem.empty() ? Json()
                                           : Json{{"problem", problem}}},
          {"config", ConfigJson(checkpoint.config.model)},
          {"ignored_config_keys", checkpoint.config.ignored_keys},
          {"chat_template", ChatTemplateJson(checkpoint.text)},
          {"default_sampling", SamplingJson(checkpoint.text.default_sampling)},
          {"bos_token_id",
           checkpoint.text.bos_token_id >= 0 ? Json(checkpoint.text.bos_token_id) : Json()},
          {"stop_tokens", StopTokensJson(checkpoint.text)},
          {"tensors", TensorsJson(*checkpoint.source)}};
}

// "model.layers.3.mlp.experts.17.up_proj.weight" -> "model.layers.*.mlp.experts.*.up_proj.weight"
std::string PatternOf(const std::string& name) {
  std::string pattern;
  size_t begin = 0;
  while (begin <= name.size()) {
    const size_t dot = std::min(name.find('.', begin), name.size());
    const std::string part = name.substr(begin, dot - begin);
    const bool number = !part.empty() && part.find_first_not_of("0123456789") == std::string::npos;
    if (begin > 0) pattern += '.';
    pattern += number ? "*" : part;
    begin = dot + 1;
  }
  return pattern;
}

// Tensors that differ by the number of their layer or expert only are one line.
void PrintTensors(const WeightSource& source, bool each) {
  struct Group {
    size_t count = 0;
    uint64_t bytes = 0;
  };
  std::map<std::string, Group> groups;
  for (const std::string& name : source.Names()) {
    const TensorView& tensor = *source.Find(name);
    const std::string line =
        fmt::format("{:<60} {:<8} {}", ForTerminal(each ? name : PatternOf(name)),
                    DTypeName(tensor.dtype), ShapeToString(tensor.shape));
    Group& group = groups[line];
    ++group.count;
    group.bytes += tensor.size_bytes();
  }
  for (const auto& [line, group] : groups) {
    const std::string times = group.count > 1 ? fmt::format(" x {}", group.count) : "";
    Print(fmt::format("  {}{}  {}\n", line, times, HumanBytes(group.bytes)));
  }
}

std::string DescribeFit(const Fit& fit) {
  if (fit.cache_tokens == 0) {
    return fmt::format("does not fit: {} free, {} needed for weights that every token reads",
                       HumanBytes(fit.available_bytes), HumanBytes(fit.resident_bytes));
  }
  if (!fit.all_weights) {
    return fmt::format(
        "{} free: weights without routed experts ({}) and a cache of {} tokens; experts are read "
        "from disk as tokens need them",
        HumanBytes(fit.available_bytes), HumanBytes(fit.resident_bytes), fit.cache_tokens);
  }
  return fmt::format("{} free: all weights ({}) and a cache of {} tokens",
                     HumanBytes(fit.available_bytes), HumanBytes(fit.weight_bytes),
                     fit.cache_tokens);
}

std::string DescribeChatTemplate(const TextSide& text) {
  if (text.chat_template) return std::string(text.chat_template->name());
  if (text.chat_template_problem.empty()) return "none: run works as with --raw";
  return "unknown: " + text.chat_template_problem;
}

std::string DescribeSpeed(const SpeedPrediction& speed) {
  std::string text = fmt::format("about {:.3g} tokens/s: ", speed.tokens_per_s);
  if (speed.num_expert_slots < speed.num_experts) {
    text += fmt::format(
        "{} of {} experts in memory (a hit rate of {:.0f} %, if all are chosen alike), {} a token "
        "from disk at {:.2f} GB/s, then ",
        speed.num_expert_slots, speed.num_experts, speed.hit_rate * 100,
        HumanBytes(speed.disk_bytes_per_token), speed.disk_gb_per_s);
  }
  return text + fmt::format("{} a token from memory at {:.1f} GB/s",
                            HumanBytes(speed.memory_bytes_per_token), speed.read_gb_per_s);
}

void PrintReport(const Report& report, bool each_tensor) {
  const auto& [checkpoint, count, cache_bytes_per_token, fit, speed, problem] = report;
  const auto line = [](const char* name, const std::string& value) {
    Print(fmt::format("{:<16}{}\n", name, ForTerminal(value)));
  };
  const TextSide& text = checkpoint.text;
  line("model", checkpoint.path.name);
  line("architecture", checkpoint.config.model.model_type);
  line("weights", fmt::format("{}, {}", count.main_dtype, HumanBytes(count.total_bytes)));
  line("parameters", fmt::format("{} ({}), {} active", HumanCount(count.total), count.total,
                                 HumanCount(count.active)));
  line("cache", fmt::format("{} bytes a token", cache_bytes_per_token));
  line("memory", DescribeFit(fit));
  if (speed) line("prediction", DescribeSpeed(*speed));
  if (!problem.empty()) line("prediction", problem);
  line("chat template", DescribeChatTemplate(text));
  if (!text.tokenizer) line("tokenizer", text.tokenizer_problem);
  line("sampling", SamplingJson(text.default_sampling).dump());
  std::vector<std::string> stops;
  for (const Json& stop : StopTokensJson(text)) {
    stops.push_back(fmt::format("{} {}", stop["id"].get<int32_t>(), stop.value("text", "")));
  }
  line("stop tokens", Join(stops, ", "));
  if (!checkpoint.config.ignored_keys.empty()) {
    line("ignored keys", Join(checkpoint.config.ignored_keys, ", "));
  }
  Print("\nConfig\n");
  const Json config = ConfigJson(checkpoint.config.model);
  for (const auto& [key, value] : config.items()) {
    Print(fmt::format("  {:<28}{}\n", key, value.dump()));
  }
  Print("\nTensors\n");
  PrintTensors(*checkpoint.source, each_tensor);
}

int Inspect(const InspectFlags& flags) {
  const EngineOptions options = flags.engine.ToOptions();
  const Checkpoint checkpoint = [&] {
    const Progress progress("opening " + flags.engine.model());
    Checkpoint opened = OpenCheckpoint(flags.engine.model(), CheckpointPart::kForRepack);
    LayOutAsTiles(opened);
    return opened;
  }();
  Report report = MakeReport(checkpoint, options);
  if (options.memory_limit_bytes > 0) {
    const Progress progress("measuring disk and memory");
    try {
      report.speed = PredictSpeed(checkpoint, report.count, options);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kResourceExhausted) throw;
      report.speed_problem = error.what();
    }
  }
  if (flags.json) {
    PrintJson(ReportJson(report));
  } else {
    PrintReport(report, flags.tensors);
  }
  return 0;
}

}  // namespace

void AddInspect(CommandLine& program) {
  Verb verb = program.AddVerb("inspect", "Show what a model holds and what it needs");
  const auto flags = std::make_shared<InspectFlags>();
  flags->engine.AddTo(verb);
  verb.AddSwitch("--tensors", flags->tensors, "A line for each tensor, not for each kind");
  verb.AddSwitch("--json", flags->json, "Print a JSON object, with every tensor");
  verb.SetExamples({"baleen inspect models/baleen-stories-mini", "size, memory, settings, tensors"},
                   {"baleen inspect MODEL --memory-limit 8G",
                    "what fits into so much memory, and the speed to expect"});
  verb.SetAction([flags] { return Inspect(*flags); });
}

}  // namespace baleen
