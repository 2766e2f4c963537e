// cli/convert.cc: `baleen convert`: a model as a GGUF file, for other engines or to be smaller.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/machine.h"
#include "base/quote.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf_export.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/verbs.h"

namespace baleen {

namespace {

struct ConvertFlags {
  std::string source;
  std::string destination;
  std::string type = "q8_0";
  size_t num_threads = 0;
  bool json = false;
};

DType ParseType(const std::string& name) {
  if (name == "q8_0") return DType::kQ8_0;
  if (name == "q4_0") return DType::kQ4_0;
  if (name == "bf16") return DType::kBF16;
  Throw(ErrorCode::kInvalidArgument, "--type {}: not one of q8_0, q4_0, bf16", Quote(name));
}

void CheckDestination(const std::string& path) {
  if (!path.ends_with(".gguf")) {
    Throw(ErrorCode::kInvalidArgument, "{}: a GGUF file is written; give it a name in .gguf", path);
  }
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored)) {
    Throw(ErrorCode::kInvalidArgument, "{}: exists already; remove it or give another name", path);
  }
}

int Convert(const ConvertFlags& flags) {
  const DType type = ParseType(flags.type);
  CheckDestination(flags.destination);
  const Checkpoint checkpoint = [&] {
    const Progress progress("opening " + flags.source);
    return OpenCheckpoint(flags.source);
  }();
  if (!checkpoint.weights.mtp.empty()) {
    Note("the layers that predict a second token (MTP) are left out");
  }
  GgufExportResult result;
  {
    Progress progress("writing " + flags.destination);
    const InterruptScope scope;
    result = ExportGguf(
        checkpoint, flags.destination,
        {.type = type,
         .num_threads = flags.num_threads > 0 ? flags.num_threads : ComputeCpus().size(),
         .on_progress = [&](uint64_t done, uint64_t total) { progress.Update(done, total); },
         .cancelled = [&] { return scope.interrupted(); }});
  }
  if (flags.json) {
    PrintJson({{"bytes", result.bytes}, {"tensors", result.tensors}});
  } else {
    Print(fmt::format("{}: {}, {} tensors\n", ForTerminal(flags.destination),
                      HumanBytes(result.bytes), result.tensors));
  }
  return 0;
}

}  // namespace

void AddConvert(CommandLine& program) {
  Verb verb = program.AddVerb("convert", "Write a model as a GGUF file");
  const auto flags = std::make_shared<ConvertFlags>();
  verb.Add("SRC", flags->source, "Directory, weights file, or hub id in the local cache")
      .Required();
  verb.Add("DST", flags->destination, "The file to write, its name ending in .gguf").Required();
  verb.Add("--type", flags->type, "Of most weights: q8_0, q4_0 or bf16 (default q8_0)")
      .Type("NAME");
  verb.Add("--threads", flags->num_threads, "Threads (default: one for each core)")
      .Type("N")
      .Range(1, 1024);
  verb.AddSwitch("--json", flags->json, "Print a JSON object");
  verb.SetExamples({"baleen convert MODEL model.gguf", "8 bits a weight"},
                   {"baleen convert MODEL small.gguf --type q4_0", "half of that"});
  verb.SetAction([flags] { return Convert(*flags); });
}

}  // namespace baleen
