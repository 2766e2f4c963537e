// cli/serve.cc: `baleen serve`: a model behind OpenAI's API until somebody says stop.
#include <filesystem>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "baleen/engine.h"
#include "base/error.h"
#include "cli/flags.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/price_flags.h"
#include "cli/progress.h"
#include "cli/verbs.h"
#include "server/keys.h"
#include "server/server.h"

namespace baleen {

namespace {

struct ServeFlags {
  EngineFlags engine;
  std::string host = "127.0.0.1";
  int32_t port = 8000;
  size_t context_tokens = 0;
  size_t max_sequences = 16;
  size_t prefill_chunk_tokens = 512;
  double max_decode_wait_ms = 250;
  size_t max_waiting_tokens = 1 << 20;
  bool exact_reuse = false;
  std::vector<std::string> model_names;
  std::vector<std::string> allowed_origins;
  size_t max_body_megabytes = 16;
  double drain_seconds = 30;
  std::string database;
  bool no_ledger = false;
  bool no_auth = false;
  bool force_fim = false;
  bool for_sagemaker = false;
  bool log_requests = false;
  std::string tls_certificate;
  std::string tls_key;
  PriceFlags prices;
};

void AddFlags(Verb verb, ServeFlags& flags) {
  flags.engine.AddTo(verb, "; without one: as --sagemaker");
  verb.Add("--host", flags.host, "Address to listen on; default: this machine only").Type("IP");
  verb.Add("--port", flags.port, "Default: 8000; 0: any that is free").Type("N").Range(0, 65535);
  verb.Add("--tls-cert", flags.tls_certificate, "Serve by HTTPS: a PEM file, the chain included")
      .Type("FILE");
  verb.Add("--tls-key", flags.tls_key, "Its private key, PEM").Type("FILE");
  verb.Add("--model-name", flags.model_names,
           "What clients call the model; may be given several times; default: MODEL's last part")
      .Type("NAME");
  verb.Add("--cors-origin", flags.allowed_origins,
           "Web pages that may call, such as https://example.org; may be given several times")
      .Type("ORIGIN");
  verb.Add("--context", flags.context_tokens,
           "Tokens of prompt and answer together; default: the model's")
      .Type("N")
      .AtLeast(1);
  verb.Add("--max-sequences", flags.max_sequences, "Answers that grow together; default: 16")
      .Type("N")
      .Range(1, 4096);
  verb.Add("--prefill-chunk", flags.prefill_chunk_tokens,
           "Tokens of prompts that are computed in one piece; default: 512")
      .Type("N")
      .Range(1, 1 << 20);
  verb.Add("--max-decode-wait", flags.max_decode_wait_ms,
           "Milliseconds that growing answers wait for prompts, but for a layer's; default: 250")
      .Type("MS")
      .Range(0, 1e6);
  verb.Add("--max-waiting-tokens", flags.max_waiting_tokens,
           "Tokens of prompts that may wait together; more is answered 429; default: 1048576")
      .Type("N")
      .AtLeast(1);
  verb.AddSwitch("--exact-reuse", flags.exact_reuse,
                 "Reuse only prefixes that change no bit of an answer");
  verb.Add("--max-body", flags.max_body_megabytes, "Megabytes of a request; default: 16")
      .Type("MB")
      .Range(1, 1024);
  verb.Add("--drain", flags.drain_seconds,
           "Seconds that running answers have to end when the server is stopped; default: 30")
      .Type("S")
      .Range(0, 1e6);
  verb.Add("--database", flags.database,
           "Keys and ledger: a file, or postgresql://...; default: baleen/baleen.db under "
           "$XDG_STATE_HOME")
      .Type("WHERE");
  verb.AddSwitch("--no-ledger", flags.no_ledger, "Keep no ledger and know no keys");
  verb.AddSwitch("--no-auth", flags.no_auth,
                 "Listen on other addresses without keys: something in front asks for them");
  verb.AddSwitch("--sagemaker", flags.for_sagemaker,
                 "Amazon SageMaker's contract: /opt/ml/model on port 8080; /invocations needs no "
                 "key, all else does");
  verb.AddSwitch("--log-requests", flags.log_requests,
                 "A line of JSON on standard error for each request");
  flags.prices.AddTo(verb);
  verb.AddSwitch("--force-fim", flags.force_fim,
                 "Fill in the middle though nothing says that the model was trained to");
  verb.ReadEnvironment();
}

EngineOptions MakeEngineOptions(const ServeFlags& flags) {
  EngineOptions options = flags.engine.ToOptions();
  options.max_context_tokens = flags.context_tokens;
  options.max_sequences = flags.max_sequences;
  options.prefill_chunk_tokens = flags.prefill_chunk_tokens;
  options.max_decode_wait_seconds = flags.max_decode_wait_ms / 1000;
  options.max_waiting_tokens = flags.max_waiting_tokens;
  options.prefix_reuse = flags.exact_reuse ? PrefixReuse::kExact : PrefixReuse::kAll;
  return options;
}

// Empty: no keys and no ledger. Error{kInvalidArgument}: strangers could use the server.
std::string ChooseDatabase(const ServeFlags& flags) {
  std::string path;
  if (!flags.no_ledger) path = flags.database.empty() ? DefaultDatabasePath() : flags.database;
  const bool loopback =
      flags.host.starts_with("127.") || flags.host == "::1" || flags.host == "localhost";
  if (!loopback && !flags.no_auth && !flags.for_sagemaker &&
      (path.empty() || KeyStore(path).empty())) {
    Throw(ErrorCode::kInvalidArgument,
          "--host {}: others could use the server without a key; make one by baleen keys add, or "
          "give --no-auth if something in front asks for keys",
          flags.host);
  }
  return path;
}

constexpr const char* kSageMakerModel = "/opt/ml/model";

// SageMaker runs `baleen serve` and nothing more.
void ApplySageMaker(ServeFlags& flags) {
  if (flags.engine.model().empty()) {
    if (!std::filesystem::exists(kSageMakerModel)) {
      Throw(ErrorCode::kInvalidArgument,
            "MODEL is required (only SageMaker, where it is {}, does without); try baleen serve "
            "--help",
            kSageMakerModel);
    }
    flags.for_sagemaker = true;
    flags.engine.set_model(kSageMakerModel);
  }
  if (!flags.for_sagemaker) return;
  const ServeFlags defaults;
  if (flags.host == defaults.host) flags.host = "0.0.0.0";
  if (flags.port == defaults.port) flags.port = 8080;
}

int Serve(ServeFlags flags) {
  ApplySageMaker(flags);
  const std::string database = ChooseDatabase(flags);
  HandleTerminations();
  std::unique_ptr<Engine> engine;
  {
    const Progress progress("opening " + flags.engine.model());
    engine = Engine::Open(flags.engine.model(), MakeEngineOptions(flags));
  }
  PrintNotes(engine->info());

  ServerOptions options;
  options.http.host = flags.host;
  options.http.port = static_cast<uint16_t>(flags.port);
  options.http.max_body_bytes = flags.max_body_megabytes << 20;
  options.model_names = flags.model_names;
  options.allowed_origins = flags.allowed_origins;
  options.database = database;
  options.http.tls_certificate = flags.tls_certificate;
  options.http.tls_key = flags.tls_key;
  options.prices = flags.prices.ToPrices();
  options.for_sagemaker = flags.for_sagemaker;
  if (flags.log_requests) options.log = [](const std::string& line) { Note(line); };
  options.force_fim = flags.force_fim;
  Server server(*engine, options);

  std::promise<void> stop;
  const InterruptScope scope([&] { stop.set_value(); });
  Note(fmt::format("{} listens on {}://{}:{}/v1", engine->info().name,
                   flags.tls_certificate.empty() ? "http" : "https", flags.host, server.port()));
  stop.get_future().wait();
  Note(fmt::format("stopping: running answers have {} s; Ctrl-C again ends them at once",
                   flags.drain_seconds));
  const auto limit = std::chrono::duration<double>(flags.drain_seconds);
  if (!server.Drain(std::chrono::duration_cast<std::chrono::milliseconds>(limit))) {
    Note("some answers were cut off");
  }
  return 0;
}

}  // namespace

void AddServe(CommandLine& program) {
  Verb verb = program.AddVerb("serve", "Serve a model by OpenAI's API");
  const auto flags = std::make_shared<ServeFlags>();
  AddFlags(verb, *flags);
  verb.SetExamples({"baleen serve models/baleen-stories-mini",
                    "listens on http://127.0.0.1:8000/v1 until Ctrl-C"},
                   {"baleen serve MODEL --port 0 --model-name deepseek-chat",
                    "on a free port, under a name that clients know"});
  verb.SetAction([flags] { return Serve(*flags); });
}

}  // namespace baleen
