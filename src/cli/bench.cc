// cli/bench.cc: `baleen bench`: tokens per second, and the share of what the machine could do.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "baleen/engine.h"
#include "base/error.h"
#include "cli/flags.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/verbs.h"
#include "evaluation/throughput.h"

namespace baleen {

namespace {

constexpr size_t kAsPrompt = ~size_t{0};

struct BenchFlags {
  EngineFlags engine;
  ThroughputOptions run;
  size_t prompt_tokens = 0;  // 0: the default, or what the model's context has room for
  size_t context_tokens = kAsPrompt;
  bool json = false;
};

Spread SpreadOfRuns(const std::vector<ThroughputRun>& runs, double ThroughputRun::*figure) {
  std::vector<double> values;
  for (const ThroughputRun& run : runs) values.push_back(run.*figure);
  return SpreadOf(std::move(values));
}

Spread SharesOfRuns(const std::vector<ThroughputRun>& runs, const Roof& roof,
                    double (*share)(const ThroughputRun&, const Roof&)) {
  std::vector<double> values;
  for (const ThroughputRun& run : runs) values.push_back(share(run, roof));
  return SpreadOf(std::move(values));
}

void PrintTable(const ModelInfo& info, const ThroughputOptions& options, const Roof& roof,
                const Throughput& result) {
  Print(fmt::format("{}: {} parameters, {} active, {}; {}, {} threads\n", info.name,
                    HumanCount(info.parameters), HumanCount(info.active_parameters),
                    info.quantization, info.isa, info.num_threads));
  Print(fmt::format("roof: {:.1f} GB/s read, {:.0f} GFLOP/s f32, {:.0f} bf16, {:.0f} GOP/s i8\n\n",
                    roof.read_gb_per_s, roof.gflops_f32, roof.gflops_bf16, roof.gops_i8));
  Print(fmt::format("{:<28}{:>12}{:>12}{:>12}{:>14}{:>10}\n", "tokens/s", "median", "min", "max",
                    "bytes/token", "of roof"));
  const auto row = [](const std::string& name, const std::vector<ThroughputRun>& runs) {
    const Spread speed = SpreadOfRuns(runs, &ThroughputRun::tokens_per_s);
    const Spread bytes = SpreadOfRuns(runs, &ThroughputRun::bytes_per_token);
    const Spread share = SpreadOfRuns(runs, &ThroughputRun::roofline_share);
    Print(fmt::format("{:<28}{:>12.2f}{:>12.2f}{:>12.2f}{:>14}{:>8.1f} %\n", name, speed.median,
                      speed.min, speed.max, HumanBytes(static_cast<uint64_t>(bytes.median)),
                      share.median * 100));
  };
  const std::string batch =
      options.batch_size > 1 ? fmt::format(" x {}", options.batch_size) : std::string();
  row(fmt::format("prefill {}{}", options.prompt_tokens, batch), result.prefill);
  row(fmt::format("decode {} at {}{}", options.generate_tokens, options.context_tokens, batch),
      result.decode);
  if (options.assume_context && options.context_tokens > 0) {
    Print("The context was not read: its latent rows are random numbers.\n");
  }
}

// What the memory limit costs; nothing without one.
void PrintExperts(const ModelInfo& info, const Roof& roof, const Throughput& result) {
  if (info.num_expert_slots == 0) return;
  Print(fmt::format("\n{} experts in memory; {:.2f} GB/s from disk\n", info.num_expert_slots,
                    roof.disk_gb_per_s));
  Print(fmt::format("{:<28}{:>12}{:>12}{:>12}{:>14}\n", "experts", "hit rate", "read/token",
                    "of disk", "of prediction"));
  const auto row = [&](const char* name, const std::vector<ThroughputRun>& runs) {
    const Spread hits = SpreadOfRuns(runs, &ThroughputRun::expert_hit_rate);
    const Spread read = SpreadOfRuns(runs, &ThroughputRun::disk_bytes_per_token);
    Print(fmt::format("{:<28}{:>10.1f} %{:>12}{:>10.1f} %{:>12.1f} %\n", name, hits.median * 100,
                      HumanBytes(static_cast<uint64_t>(read.median)),
                      SharesOfRuns(runs, roof, DiskShare).median * 100,
                      SharesOfRuns(runs, roof, PredictedShare).median * 100));
  };
  row("prefill", result.prefill);
  row("decode", result.decode);
}

// Null: all weights are in memory.
Json ExpertsJson(const ModelInfo& info, const Roof& roof, const Throughput& result) {
  if (info.num_expert_slots == 0) return nullptr;
  const auto both = [&](const auto& spread_of) -> Json {
    return {{"prefill", ToJson(spread_of(result.prefill))},
            {"decode", ToJson(spread_of(result.decode))}};
  };
  using Runs = std::vector<ThroughputRun>;
  const auto figure = [&](double ThroughputRun::*member) {
    return both([=](const Runs& runs) { return SpreadOfRuns(runs, member); });
  };
  const auto share = [&](double (*of)(const ThroughputRun&, const Roof&)) {
    return both([&, of](const Runs& runs) { return SharesOfRuns(runs, roof, of); });
  };
  return {{"slots", info.num_expert_slots},
          {"hit_rate", figure(&ThroughputRun::expert_hit_rate)},
          {"disk_bytes_per_token", figure(&ThroughputRun::disk_bytes_per_token)},
          {"disk_share", share(DiskShare)},
          {"predicted_share", share(PredictedShare)}};
}

Json ToJson(const ModelInfo& info, const ThroughputOptions& options, const Roof& roof,
            const Throughput& result) {
  const auto spread = [](const std::vector<ThroughputRun>& runs, double ThroughputRun::*figure) {
    return ToJson(SpreadOfRuns(runs, figure));
  };
  const auto work = [](const std::vector<ThroughputRun>& runs) -> Json {
    return {
        {"bytes_per_token", SpreadOfRuns(runs, &ThroughputRun::bytes_per_token).median},
        {"operations_per_token", SpreadOfRuns(runs, &ThroughputRun::operations_per_token).median}};
  };
  return {{"model", info.name},
          {"quantization", info.quantization},
          {"layers", info.num_layers},
          {"weight_bytes", info.weight_bytes},
          {"cache_bytes_per_token", info.cache_bytes_per_token},
          {"isa", info.isa},
          {"threads", info.num_threads},
          {"prompt", options.prompt_tokens},
          {"generate", options.generate_tokens},
          {"context", options.context_tokens},
          {"assumed_context", options.assume_context},
          {"batch", options.batch_size},
          {"repeat", options.num_repeats},
          {"prefill_tokens_per_s", spread(result.prefill, &ThroughputRun::tokens_per_s)},
          {"decode_tokens_per_s", spread(result.decode, &ThroughputRun::tokens_per_s)},
          // Counted, not measured: what decoding one token reads.
          {"bytes_per_token", SpreadOfRuns(result.decode, &ThroughputRun::bytes_per_token).median},
          {"work", {{"prefill", work(result.prefill)}, {"decode", work(result.decode)}}},
          {"roofline_share",
           {{"prefill", spread(result.prefill, &ThroughputRun::roofline_share)},
            {"decode", spread(result.decode, &ThroughputRun::roofline_share)}}},
          {"roof",
           {{"read_gb_per_s", roof.read_gb_per_s},
            {"gflops_f32", roof.gflops_f32},
            {"gflops_bf16", roof.gflops_bf16},
            {"gops_i8", roof.gops_i8},
            {"disk_gb_per_s", roof.disk_gb_per_s}}},
          {"experts", ExpertsJson(info, roof, result)}};
}

// The default prompt is shortened for a model whose context has no room for it and the answer.
size_t DefaultPrompt(ThroughputOptions options, size_t max_context_tokens) {
  const size_t wanted = options.prompt_tokens;
  options.prompt_tokens = options.context_tokens = 0;
  const size_t others = ContextFor(options);
  return std::min(wanted, max_context_tokens - std::min(others, max_context_tokens - 1));
}

int Bench(const BenchFlags& flags) {
  ThroughputOptions options = flags.run;
  const auto set_prompt = [&](size_t num_tokens) {
    options.prompt_tokens = num_tokens;
    options.context_tokens = flags.context_tokens == kAsPrompt ? num_tokens : flags.context_tokens;
  };
  EngineOptions engine_options = flags.engine.ToOptions();
  engine_options.max_sequences = options.batch_size;
  if (flags.prompt_tokens > 0) {
    set_prompt(flags.prompt_tokens);
    engine_options.max_context_tokens = ContextFor(options);
  }
  Progress progress("measuring " + flags.engine.model());
  const auto engine = Engine::Open(flags.engine.model(), engine_options);
  PrintNotes(engine->info());
  if (flags.prompt_tokens == 0) {
    set_prompt(DefaultPrompt(options, engine->info().max_context_tokens));
  }

  Throughput result;
  Roof roof;
  {
    const InterruptScope scope;
    options.cancelled = [&] { return scope.interrupted(); };
    options.on_progress = [&](size_t done, size_t total) { progress.Update(done, total); };
    roof = engine->MeasureRoof();
    result = MeasureThroughput(*engine, options);
    // A host may remember by now what its disk had to find at first.
    if (roof.disk_gb_per_s > 0) {
      roof.disk_gb_per_s = std::max(roof.disk_gb_per_s, engine->MeasureRoof().disk_gb_per_s);
    }
  }
  progress.Finish();
  if (flags.json) {
    PrintJson(ToJson(engine->info(), options, roof, result));
  } else {
    PrintTable(engine->info(), options, roof, result);
    PrintExperts(engine->info(), roof, result);
  }
  return 0;
}

}  // namespace

void AddBench(CommandLine& program) {
  Verb verb = program.AddVerb("bench", "Measure speed against the machine's roof");
  const auto flags = std::make_shared<BenchFlags>();
  flags->engine.AddTo(verb);
  const auto count = [&](const char* name, size_t& value, size_t max, const char* help,
                         size_t min = 1) { verb.Add(name, value, help).Type("N").Range(min, max); };
  constexpr size_t kMaxTokens = size_t{1} << 24;
  count("--prompt", flags->prompt_tokens, kMaxTokens,
        "Tokens of a prompt; default: 512, or what the context has room for");
  count("--generate", flags->run.generate_tokens, kMaxTokens, "Tokens of an answer; default: 64");
  count("--context", flags->context_tokens, kMaxTokens,
        "Tokens in the context when decoding begins; 0: only the one that an answer must follow; "
        "default: as --prompt",
        0);
  verb.AddSwitch("--assume-context", flags->run.assume_context,
                 "Fill that context with random latent rows instead of reading it");
  count("--batch", flags->run.batch_size, 1024, "Sequences computed together; default: 1");
  count("--repeat", flags->run.num_repeats, 1000, "Runs after the warm-up; default: 5");
  verb.AddSwitch("--json", flags->json, "Print a JSON object");
  verb.SetExamples({"baleen bench models/baleen-stories-mini --prompt 256 --generate 64",
                    "prefill and decode, a table"},
                   {"baleen bench MODEL --batch 8 --repeat 3 --json", "eight sequences together"});
  verb.SetAction([flags] { return Bench(*flags); });
}

}  // namespace baleen
