// cli/tokenizer.cc: `baleen tokenizer`: text to token ids and back, and new tokenizers.
#include <fmt/format.h>

#include <memory>
#include <string>

#include "baleen/engine.h"
#include "base/json.h"
#include "cli/flags.h"
#include "cli/output.h"
#include "cli/train_tokenizer.h"
#include "cli/verbs.h"

namespace baleen {

namespace {

struct TokenizerFlags {
  EngineFlags engine;
  std::string file;
  std::string ids;
  bool plain = false;
  bool json = false;
};

std::unique_ptr<Engine> OpenTokenizer(const EngineFlags& flags) {
  EngineOptions options = flags.ToOptions();
  options.tokenizer_only = true;
  return Engine::Open(flags.model(), options);
}

int Encode(const TokenizerFlags& flags) {
  const auto engine = OpenTokenizer(flags.engine);
  const std::string text = flags.file.empty() ? ReadStdin() : ReadFile(flags.file, kMaxTextBytes);
  const std::vector<int32_t> ids =
      engine->Encode(text, {.parse_special = !flags.plain, .add_bos = false});
  if (flags.json) {
    Print(fmt::format("{{\"ids\": [{}]}}\n", Join(ids, ", ")));
  } else {
    Print(fmt::format("{}\n", Join(ids, ",")));
  }
  return 0;
}

int Decode(const TokenizerFlags& flags) {
  const auto engine = OpenTokenizer(flags.engine);
  const std::string list = flags.ids.empty() ? ReadStdin() : flags.ids;
  const std::vector<int32_t> ids = ParseTokenIds("--ids", list);
  const std::string text = engine->Decode(ids, /*skip_special=*/false);
  if (flags.json) {
    PrintJson({{"text", text}});
  } else {
    Print(StdoutIsTerminal() ? ForTerminal(text) : text);
    Print("\n");
  }
  return 0;
}

Verb AddDirection(Verb verb, const char* name, const char* help,
                  const std::shared_ptr<TokenizerFlags>& flags) {
  Verb direction = verb.AddVerb(name, help);
  flags->engine.AddTo(direction);
  direction.AddSwitch("--json", flags->json, "Print a JSON object");
  return direction;
}

}  // namespace

void AddTokenizer(CommandLine& program) {
  Verb verb = program.AddVerb("tokenizer", "Turn text into token ids and back; train tokenizers");
  const auto flags = std::make_shared<TokenizerFlags>();

  Verb encode = AddDirection(verb, "encode", "Text to ids, without a BOS token", flags);
  encode.Add("--file", flags->file, "Text to encode; default: standard input").Type("FILE");
  encode.AddSwitch("--plain", flags->plain, "Names of control tokens stay text");
  encode.SetAction([flags] { return Encode(*flags); });

  Verb decode = AddDirection(verb, "decode", "Ids to text", flags);
  decode.Add("--ids", flags->ids, "Such as 1,2,3; default: standard input").Type("IDS");
  decode.SetAction([flags] { return Decode(*flags); });

  const Example to_ids = {"baleen tokenizer encode models/baleen-stories-mini --file story.txt",
                          "prints ids, separated by commas"};
  const Example to_text = {
      "baleen tokenizer decode models/baleen-stories-mini --ids 861,628,267,498",
      "prints the text of these tokens"};
  for (Verb each : {verb, encode, decode}) each.SetExamples(to_ids, to_text);
  AddTrainTokenizer(verb);
}

}  // namespace baleen
