// cli/train.cc: `baleen train`: makes a model from text, or goes on with one.
#include <fmt/format.h>

#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/json.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/verbs.h"
#include "training/trainer.h"

namespace baleen {

namespace {

constexpr size_t kMaxConfigBytes = size_t{16} << 20;

struct TrainFlags {
  std::optional<std::string> config_file;
  // One for each of TrainKeys, and the names under which the command line has them.
  std::deque<std::optional<std::string>> values;
  std::deque<std::string> names;
  size_t num_threads = 0;
  std::string isa;
  bool json = false;
};

std::string Duration(double seconds) {
  const auto minutes = static_cast<uint64_t>(seconds / 60);
  return minutes >= 60 ? fmt::format("{} h {} min", minutes / 60, minutes % 60)
                       : fmt::format("{} min {} s", minutes, static_cast<uint64_t>(seconds) % 60);
}

// One line on a terminal, rewritten in place; elsewhere a line every ten steps.
void Show(const StepReport& r) {
  const bool terminal = StderrIsTerminal();
  const bool validated = r.validation_loss >= 0;
  if (!terminal && !validated && r.step % 10 != 0 && r.step != r.total_steps) return;
  const double left = static_cast<double>(r.total_steps - r.step) *
                      (static_cast<double>(r.tokens) / static_cast<double>(r.step)) /
                      r.tokens_per_s;
  std::string line = fmt::format(
      "step {}/{}  loss {:.4f}  {:.0f} tokens/s, {:.0f} % of peak  MaxVio {:.2f}  {} left", r.step,
      r.total_steps, r.loss, r.tokens_per_s, r.peak_share * 100, r.max_vio, Duration(left));
  if (validated) line += fmt::format("  validation {:.4f}", r.validation_loss);
  if (terminal) {
    fmt::print(stderr, "\r\x1b[K{}{}", line, validated || r.step == r.total_steps ? "\n" : "");
  } else {
    Note(line);
  }
}

int RunTraining(const TrainFlags& flags) {
  TrainConfig config;
  if (flags.config_file) {
    config = ParseTrainConfig(ReadFile(*flags.config_file, kMaxConfigBytes), *flags.config_file);
  }
  for (size_t i = 0; i < flags.values.size(); ++i) {
    if (flags.values[i]) SetTrainKey(TrainKeys()[i], *flags.values[i], config);
  }
  HandleTerminations();
  const InterruptScope scope;
  const TrainResult result = Train(config, {.num_threads = flags.num_threads,
                                            .isa = flags.isa,
                                            .version = BALEEN_VERSION,
                                            .measure_peak = true,
                                            .on_step = Show,
                                            .on_note = [](const std::string& line) { Note(line); },
                                            .stop = [&] { return scope.interrupted(); }});
  if (result.interrupted) {
    Note(fmt::format("interrupted after step {}; the same command goes on from there",
                     result.steps));
    return static_cast<int>(ErrorCode::kCancelled);
  }
  if (flags.json) {
    Json json = {{"loss", result.loss},
                 {"validation_loss", nullptr},
                 {"tokens", result.tokens},
                 {"seconds", result.seconds},
                 {"estimated_bytes", result.estimated_bytes},
                 {"peak_bytes", result.peak_bytes}};
    if (result.validation_loss >= 0) {
      json["validation_loss"] = result.validation_loss;
      json["validation_max_vio"] = result.validation_max_vio;
      json["validation_dead_experts"] = result.validation_dead_experts;
    }
    PrintJson(json);
  } else {
    const std::string validation = result.validation_loss >= 0
                                       ? fmt::format(", validation {:.4f}", result.validation_loss)
                                       : std::string();
    Print(fmt::format("{}: {} tokens in {}, loss {:.4f}{}\n", config.output, result.tokens,
                      Duration(result.seconds), result.loss, validation));
  }
  return 0;
}

}  // namespace

void AddTrain(CommandLine& program) {
  Verb verb = program.AddVerb("train", "Train a model on text, or go on with one");
  const auto flags = std::make_shared<TrainFlags>();
  verb.Add("CONFIG", flags->config_file, "JSON file; every key is also a flag, which wins")
      .Type("FILE");
  for (const TrainKey& key : TrainKeys()) {
    std::string& name = flags->names.emplace_back(std::string("--") + key.name);
    for (char& c : name) c = c == '_' ? '-' : c;
    verb.Add(name.c_str(), flags->values.emplace_back(), key.help).Type("VALUE");
  }
  verb.Add("--threads", flags->num_threads, "Compute threads; default: one for each core")
      .Type("N");
  verb.Add("--isa", flags->isa, "Instruction set, as `baleen doctor` lists them").Type("NAME");
  verb.AddSwitch("--json", flags->json, "Print a JSON object at the end");
  verb.SetExamples(
      {"baleen train run.json --output my-model", "train as run.json says"},
      {"baleen train run.json --output my-model --steps 20000", "go on with it, to 20,000 steps"});
  verb.SetAction([flags] { return RunTraining(*flags); });
}

}  // namespace baleen
