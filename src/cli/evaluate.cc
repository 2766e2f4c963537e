// cli/evaluate.cc: `baleen evaluate`: what a model makes of a given text.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <memory>
#include <string>

#include "baleen/engine.h"
#include "base/error.h"
#include "base/json.h"
#include "base/quote.h"
#include "cli/flags.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/routing_file.h"
#include "cli/verbs.h"
#include "evaluation/perplexity.h"
#include "evaluation/routing.h"

namespace baleen {

namespace {

constexpr size_t kMaxTextBytes = 1'000'000'000;
constexpr size_t kDefaultContextTokens = 2048;

struct EvaluateFlags {
  EngineFlags engine;
  std::string task;
  std::string file;
  std::string token_ids;
  std::string output;
  size_t context_tokens = 0;
  int32_t bos_token_id = -1;
  bool json = false;
};

std::string ReadText(const EvaluateFlags& flags) {
  if (flags.file.empty()) {
    Throw(ErrorCode::kInvalidArgument, "--task {} needs a text: give --file", flags.task);
  }
  return ReadFile(flags.file, kMaxTextBytes);
}

std::unique_ptr<Engine> OpenEngine(const EvaluateFlags& flags) {
  EngineOptions options = flags.engine.ToOptions();
  options.max_context_tokens = flags.context_tokens;
  options.max_sequences = 1;
  const Progress progress("opening " + flags.engine.model());
  auto engine = Engine::Open(flags.engine.model(), options);
  PrintNotes(engine->info());
  return engine;
}

// Windows over a long text, with Ctrl-C and a progress line.
class WindowRun {
 public:
  WindowRun(const EvaluateFlags& flags, const ModelInfo& info)
      : progress_("scoring " + flags.file) {
    options_.context_tokens = flags.context_tokens > 0
                                  ? flags.context_tokens
                                  : std::min(kDefaultContextTokens, info.max_context_tokens);
    options_.bos_token_id = flags.bos_token_id >= 0 ? flags.bos_token_id : info.bos_token_id;
    options_.on_progress = [this](size_t done, size_t total) { progress_.Update(done, total); };
    options_.cancelled = [this] { return scope_.interrupted(); };
  }
  const WindowOptions& options() const { return options_; }

 private:
  WindowOptions options_;
  Progress progress_;
  InterruptScope scope_;
};

int EvaluatePerplexity(const EvaluateFlags& flags) {
  const std::string text = ReadText(flags);
  const auto engine = OpenEngine(flags);
  const auto begin = std::chrono::steady_clock::now();
  size_t context_tokens = 0;
  Perplexity result;
  {
    const WindowRun run(flags, engine->info());
    context_tokens = run.options().context_tokens;
    result = MeasurePerplexity(*engine, text, run.options());
  }
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
  if (flags.json) {
    PrintJson({{"task", flags.task},
               {"context", context_tokens},
               {"tokens", result.tokens},
               {"bytes", result.bytes},
               {"loss", result.loss},
               {"perplexity", result.perplexity},
               {"bits_per_byte", result.bits_per_byte},
               {"seconds", elapsed.count()}});
    return 0;
  }
  Print(
      fmt::format("perplexity     {:.4f}\n"
                  "loss           {:.6f} nats a token\n"
                  "bits per byte  {:.6f}\n"
                  "text           {} tokens, {} bytes, context {}\n"
                  "time           {:.1f} s\n",
                  result.perplexity, result.loss, result.bits_per_byte, result.tokens, result.bytes,
                  context_tokens, elapsed.count()));
  return 0;
}

std::vector<int32_t> RequireTokenIds(const EvaluateFlags& flags) {
  if (flags.token_ids.empty()) {
    Throw(ErrorCode::kInvalidArgument, "--task {} needs tokens: give --token-ids 1,2,3",
          flags.task);
  }
  return ParseTokenIds("--token-ids", flags.token_ids);
}

// Written row by row: a row of a large vocabulary is a megabyte of text.
int EvaluateLogits(const EvaluateFlags& flags) {
  const std::vector<int32_t> token_ids = RequireTokenIds(flags);
  const auto engine = OpenEngine(flags);
  const Score score = engine->ScoreTokens({.token_ids = token_ids, .logits = true});
  const size_t vocab_size = engine->info().vocab_size;
  Print(fmt::format("{{\"task\": \"logits\", \"token_ids\": [{}],\n\"logits\": [",
                    Join(token_ids, ", ")));
  for (size_t i = 0; i < token_ids.size(); ++i) {
    fmt::memory_buffer row;
    for (size_t j = 0; j < vocab_size; ++j) {
      // Nine digits tell every F32 from its neighbours.
      fmt::format_to(std::back_inserter(row), "{}{:.9g}", j == 0 ? "" : ", ",
                     score.logits[i * vocab_size + j]);
    }
    Print(fmt::format("{}\n[{}]", i == 0 ? "" : ",", fmt::to_string(row)));
  }
  Print("]}\n");
  return 0;
}

int EvaluateRouting(const EvaluateFlags& flags) {
  if (flags.output.empty()) {
    Throw(ErrorCode::kInvalidArgument, "--task routing needs --output FILE.safetensors");
  }
  if (flags.file.empty() == flags.token_ids.empty()) {
    Throw(ErrorCode::kInvalidArgument, "--task routing needs --file or --token-ids, not both");
  }
  const bool whole = flags.file.empty();
  std::vector<int32_t> token_ids;
  std::string text;
  if (whole) token_ids = RequireTokenIds(flags);
  if (!whole) text = ReadText(flags);
  const auto engine = OpenEngine(flags);
  RoutingTable table;
  if (whole) {
    table = TraceRouting(*engine, token_ids);
  } else {
    token_ids = EncodeText(*engine, text);
    const WindowRun run(flags, engine->info());
    table = TraceRoutingInWindows(*engine, token_ids, run.options());
  }
  WriteRoutingFile(flags.output, table);
  if (flags.json) {
    PrintJson({{"task", flags.task},
               {"output", flags.output},
               {"tokens", table.token_ids.size()},
               {"layers", table.layers},
               {"experts_per_token", table.experts_per_token}});
  } else {
    Print(fmt::format("{}: {} layers, {} tokens, {} experts a token\n", flags.output,
                      table.layers.size(), table.token_ids.size(), table.experts_per_token));
  }
  return 0;
}

int Evaluate(const EvaluateFlags& flags) {
  if (flags.task == "perplexity") return EvaluatePerplexity(flags);
  if (flags.task == "logits") return EvaluateLogits(flags);
  if (flags.task == "routing") return EvaluateRouting(flags);
  Throw(ErrorCode::kInvalidArgument, "--task {}: not one of perplexity, logits, routing",
        Quote(flags.task));
}

}  // namespace

void AddEvaluate(CommandLine& program) {
  Verb verb = program.AddVerb("evaluate", "Measure a model on a text");
  const auto flags = std::make_shared<EvaluateFlags>();
  flags->engine.AddTo(verb);
  verb.Add("--task", flags->task,
           "perplexity of a text; logits after each token; routing: experts of each token")
      .Type("NAME")
      .Required();
  verb.Add("--file", flags->file, "Text for perplexity and routing").Type("FILE");
  verb.Add("--token-ids", flags->token_ids, "Tokens for logits and routing, such as 1,2,3")
      .Type("IDS");
  verb.Add("--context", flags->context_tokens,
           "Tokens of a window, BOS included; default: 2048 or the model's, if smaller")
      .Type("N")
      .AtLeast(1);
  verb.Add("--bos-token-id", flags->bos_token_id,
           "Token before each window, for a model that puts none before a text")
      .Type("ID")
      .AtLeast(0);
  verb.Add("--output", flags->output, "For routing: the safetensors file to write").Type("FILE");
  verb.AddSwitch("--json", flags->json, "Print a JSON object");
  verb.SetExamples(
      {"baleen evaluate models/baleen-stories-mini --task perplexity --file story.txt",
       "how well the model predicts the text"},
      {"baleen evaluate models/baleen-stories-mini --task logits --token-ids 0,861,628",
       "scores of every token after each of these, as JSON"});
  verb.SetAction([flags] { return Evaluate(*flags); });
}

}  // namespace baleen
