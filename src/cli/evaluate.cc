// cli/evaluate.cc: `baleen evaluate`: what a model makes of a given text.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "baleen/engine.h"
#include "base/error.h"
#include "base/json.h"
#include "base/output_file.h"
#include "base/quote.h"
#include "cli/flags.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/routing_file.h"
#include "cli/verbs.h"
#include "evaluation/gzip.h"
#include "evaluation/infilling.h"
#include "evaluation/perplexity.h"
#include "evaluation/routing.h"
#include "evaluation/sample.h"

namespace baleen {

namespace {

constexpr size_t kDefaultContextTokens = 2048;
constexpr size_t kInfillingSequences = 16;  // that are computed together

struct EvaluateFlags {
  EngineFlags engine;
  std::string task;
  std::string file;
  std::string data;
  std::string token_ids;
  std::string output;
  size_t context_tokens = 0;
  size_t limit = 0;
  int32_t bos_token_id = -1;
  bool json = false;
};

std::string ReadText(const EvaluateFlags& flags) {
  if (flags.file.empty()) {
    Throw(ErrorCode::kInvalidArgument, "--task {} needs a text: give --file", flags.task);
  }
  return ReadFile(flags.file, kMaxTextBytes);
}

std::unique_ptr<Engine> OpenEngine(const EvaluateFlags& flags, size_t max_sequences = 1) {
  EngineOptions options = flags.engine.ToOptions();
  options.max_context_tokens = flags.context_tokens;
  options.max_sequences = max_sequences;
  const Progress progress("opening " + flags.engine.model());
  auto engine = Engine::Open(flags.engine.model(), options);
  PrintNotes(engine->info());
  return engine;
}

// Windows over a long text, with Ctrl-C and a progress line.
class WindowRun {
 public:
  WindowRun(const EvaluateFlags& flags, const ModelInfo& info)
      : progress_("scoring " + (flags.file.empty() ? flags.data : flags.file)) {
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

double SecondsSince(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// Of a text, or of documents.
int EvaluatePerplexity(const EvaluateFlags& flags) {
  if (!flags.file.empty() && !flags.data.empty()) {
    Throw(ErrorCode::kInvalidArgument, "--task perplexity takes --file or --data, not both");
  }
  const bool of_documents = !flags.data.empty();
  std::string text;
  std::vector<std::string> documents;
  if (of_documents) {
    const std::string content = ReadFileOrGzip(flags.data, kMaxTextBytes);
    documents = SampleEvenly(ReadDocuments(content, flags.data), flags.limit);
  } else {
    text = ReadText(flags);
  }
  const auto engine = OpenEngine(flags);
  const auto& stops = engine->info().stop_token_ids;
  const int32_t end_token_id = stops.empty() ? -1 : stops.front();
  const auto begin = std::chrono::steady_clock::now();
  Json json = {{"task", flags.task}};
  Perplexity result;
  {
    const WindowRun run(flags, engine->info());
    json["context"] = run.options().context_tokens;
    result = of_documents ? MeasureDocuments(*engine, documents, end_token_id, run.options())
                          : MeasurePerplexity(*engine, text, run.options());
  }
  const double seconds = SecondsSince(begin);
  if (flags.json) {
    if (of_documents)
      json.update({{"documents", documents.size()}, {"end_token_id", end_token_id}});
    json.update({{"tokens", result.tokens},
                 {"bytes", result.bytes},
                 {"loss", result.loss},
                 {"perplexity", result.perplexity},
                 {"bits_per_byte", result.bits_per_byte},
                 {"seconds", seconds}});
    PrintJson(json);
    return 0;
  }
  const std::string what = of_documents ? fmt::format("{} documents", documents.size()) : "text";
  Print(
      fmt::format("perplexity     {:.4f}\n"
                  "loss           {:.6f} nats a token\n"
                  "bits per byte  {:.6f}\n"
                  "{:<14} {} tokens, {} bytes, context {}\n"
                  "time           {:.1f} s\n",
                  result.perplexity, result.loss, result.bits_per_byte, what, result.tokens,
                  result.bytes, json["context"].get<size_t>(), seconds));
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

// The answers, as the benchmark's own program takes them to execute them.
void WriteAnswers(const std::string& path, std::span<const InfillingProblem> problems,
                  std::span<const InfillingAnswer> answers) {
  std::string lines;
  for (size_t i = 0; i < problems.size(); ++i) {
    // An answer is one line, and what follows it begins a new one.
    const Json line = {{"task_id", problems[i].task_id},
                       {"completion", answers[i].text + "\n"},
                       {"exact", answers[i].exact},
                       {"cut_prompt", answers[i].cut_prompt}};
    lines += line.dump() + "\n";
  }
  WriteFile(path, lines);
}

int EvaluateInfilling(const EvaluateFlags& flags) {
  if (flags.data.empty()) {
    Throw(ErrorCode::kInvalidArgument,
          "--task infilling needs problems: give --data FILE.jsonl, packed with gzip or not");
  }
  const std::string content = ReadFileOrGzip(flags.data, kMaxTextBytes);
  const auto problems = SampleEvenly(ReadInfillingProblems(content, flags.data), flags.limit);
  const auto engine = OpenEngine(flags, kInfillingSequences);
  if (!engine->info().knows_fim) {
    Note(fmt::format("{} is not known to be trained to fill in the middle", engine->info().name));
  }
  const auto begin = std::chrono::steady_clock::now();
  Infilling result;
  {
    Progress progress("filling in");
    const InterruptScope scope;
    InfillingOptions options;
    options.num_in_flight = 2 * kInfillingSequences;
    options.on_progress = [&](size_t done, size_t total) { progress.Update(done, total); };
    options.cancelled = [&] { return scope.interrupted(); };
    result = MeasureInfilling(*engine, problems, options);
  }
  const double seconds = SecondsSince(begin);
  if (!flags.output.empty()) WriteAnswers(flags.output, problems, result.answers);
  if (flags.json) {
    PrintJson({{"task", flags.task},
               {"problems", problems.size()},
               {"exact", result.num_exact},
               {"exact_share", result.share},
               {"standard_error", result.standard_error},
               {"cut_prompts", result.num_cut_prompts},
               {"context", engine->info().max_context_tokens},
               {"seconds", seconds}});
    return 0;
  }
  Print(fmt::format(
      "exact          {:.2f} % +- {:.2f} ({} of {} lines)\n"
      "cut prompts    {}, to fit the context of {}\n"
      "time           {:.1f} s\n",
      100 * result.share, 100 * result.standard_error, result.num_exact, problems.size(),
      result.num_cut_prompts, engine->info().max_context_tokens, seconds));
  return 0;
}

int Evaluate(const EvaluateFlags& flags) {
  if (flags.limit > 0 && flags.data.empty()) {
    Throw(ErrorCode::kInvalidArgument, "--limit takes some of --data, and that is not given");
  }
  if (flags.task == "perplexity") return EvaluatePerplexity(flags);
  if (flags.task == "infilling") return EvaluateInfilling(flags);
  if (flags.task == "logits") return EvaluateLogits(flags);
  if (flags.task == "routing") return EvaluateRouting(flags);
  Throw(ErrorCode::kInvalidArgument, "--task {}: not one of perplexity, infilling, logits, routing",
        Quote(flags.task));
}

}  // namespace

void AddEvaluate(CommandLine& program) {
  Verb verb = program.AddVerb("evaluate", "Measure a model on a text");
  const auto flags = std::make_shared<EvaluateFlags>();
  flags->engine.AddTo(verb);
  verb.Add(
          "--task", flags->task,
          "perplexity of a text or of documents; infilling: lines that were taken out of programs; "
          "logits after each token; routing: experts of each token")
      .Type("NAME")
      .Required();
  verb.Add("--file", flags->file, "Text for perplexity and routing").Type("FILE");
  verb.Add(
          "--data", flags->data,
          "JSON lines, packed with gzip or not: documents for perplexity (a `text` each), problems "
          "for infilling (task_id, prompt, suffix, canonical_solution)")
      .Type("FILE");
  verb.Add("--limit", flags->limit, "Take only N of --data, spread evenly over it")
      .Type("N")
      .AtLeast(1);
  verb.Add("--token-ids", flags->token_ids, "Tokens for logits and routing, such as 1,2,3")
      .Type("IDS");
  verb.Add("--context", flags->context_tokens,
           "Tokens of a window, BOS included; default: 2048 or the model's, if smaller. For "
           "infilling, of prompt and answer; default: the model's")
      .Type("N")
      .AtLeast(1);
  verb.Add("--bos-token-id", flags->bos_token_id,
           "Token before each window, for a model that puts none before a text")
      .Type("ID")
      .AtLeast(0);
  verb.Add("--output", flags->output,
           "The file to write: routing's safetensors; infilling's answers as JSON lines")
      .Type("FILE");
  verb.AddSwitch("--json", flags->json, "Print a JSON object");
  verb.SetExamples(
      {"baleen evaluate models/baleen-stories-mini --task perplexity --file story.txt",
       "how well the model predicts the text"},
      {"baleen evaluate models/baleen-stories-mini --task logits --token-ids 0,861,628",
       "scores of every token after each of these, as JSON"});
  verb.SetAction([flags] { return Evaluate(*flags); });
}

}  // namespace baleen
