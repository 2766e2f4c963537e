// cli/quantize.cc: `baleen quantize`: a checkpoint in 4 or 8 bits.
#include "quantize/quantize.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/json.h"
#include "base/quote.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/verbs.h"
#include "quantize/report.h"

namespace baleen {

namespace {

struct QuantizeFlags {
  std::string source, destination;
  size_t bits = 4;
  int32_t group_size = 128;
  std::string method = "gptq";
  std::string order = "activation";
  std::string small_projections = "bf16";
  bool desc_act = false;
  bool asymmetric = false;
  bool no_scale_search = false;
  double damp = 0.05;
  std::string calibration;
  size_t max_tokens = 65536;
  size_t num_threads = 0;
  std::string isa;
  bool json = false;
};

ColumnOrder ParseOrder(const QuantizeFlags& flags) {
  if (flags.desc_act) return ColumnOrder::kDescAct;
  if (flags.order == "activation") return ColumnOrder::kActivation;
  if (flags.order == "group-aware") return ColumnOrder::kGroupAware;
  if (flags.order == "natural") return ColumnOrder::kNatural;
  Throw(ErrorCode::kInvalidArgument, "--order {}: not one of activation, group-aware, natural",
        Quote(flags.order));
}

QuantizeOptions ToOptions(const QuantizeFlags& flags) {
  QuantizeOptions options;
  RoundingOptions& r = options.rounding;
  if (flags.bits != 4 && flags.bits != 8) {
    Throw(ErrorCode::kInvalidArgument, "--bits must be 4 or 8, found {}", flags.bits);
  }
  const int32_t sizes[] = {-1, 32, 64, 128};
  if (std::ranges::find(sizes, flags.group_size) == std::end(sizes)) {
    Throw(ErrorCode::kInvalidArgument,
          "--group-size must be 32, 64, 128, or -1 for the whole row, found {}", flags.group_size);
  }
  if (flags.method != "gptq" && flags.method != "rtn") {
    Throw(ErrorCode::kInvalidArgument, "--method {}: not one of gptq, rtn", Quote(flags.method));
  }
  r.method = flags.method == "gptq" ? QuantizeMethod::kGptq : QuantizeMethod::kRtn;
  r.scale = {.bits = flags.bits,
             .symmetric = !flags.asymmetric,
             .search = !flags.no_scale_search && r.method == QuantizeMethod::kGptq};
  r.group_cols = flags.group_size < 0 ? 0 : static_cast<size_t>(flags.group_size);
  r.order = ParseOrder(flags);
  r.damp = flags.damp;
  if (flags.small_projections != "bf16" && flags.small_projections != "8bit") {
    Throw(ErrorCode::kInvalidArgument, "--small-projections {}: not one of bf16, 8bit",
          Quote(flags.small_projections));
  }
  if (flags.small_projections == "8bit") {
    options.small_projections = SmallProjections::kEightBits;
  }
  options.max_tokens = flags.max_tokens;
  options.num_threads = flags.num_threads;
  options.isa = flags.isa;
  if (!flags.calibration.empty()) {
    options.calibration = CalibrationText{.name = flags.calibration,
                                          .text = ReadFile(flags.calibration, kMaxTextBytes)};
  }
  return options;
}

int RunQuantize(const QuantizeFlags& flags) {
  QuantizeOptions options = ToOptions(flags);
  const InterruptScope interrupt;
  Progress progress("quantizing");
  // Weights are counted in percent of all: their number says little to people.
  options.on_progress = [&](uint64_t done, uint64_t total) {
    constexpr size_t kSteps = 1000;
    progress.Update(static_cast<size_t>(kSteps * done / total), kSteps);
  };
  options.cancelled = [&] { return interrupt.interrupted(); };
  const QuantizeReport report = Quantize(flags.source, flags.destination, options);
  progress.Finish();
  if (flags.json) {
    Print(ReportJson(report, options));
    return 0;
  }
  Print(fmt::format(
      "{}: {} matrices in {} bits, {} instead of {}, {:.0f} s\n"
      "perplexity  {:.4f} before, {:.4f} after ({:+.2f} %), on {} tokens of the calibration text\n"
      "report      {}/quantize_report.html\n",
      flags.destination, report.tensors.size(), flags.bits, HumanBytes(report.bytes_after),
      HumanBytes(report.bytes_before), report.seconds, report.perplexity_before,
      report.perplexity_after, 100 * (report.perplexity_after / report.perplexity_before - 1),
      report.held_out_tokens, flags.destination));
  return 0;
}

}  // namespace

void AddQuantize(CommandLine& program) {
  Verb verb = program.AddVerb("quantize", "Make a GPTQ directory, in 4 or 8 bits");
  const auto flags = std::make_shared<QuantizeFlags>();
  verb.Add("SRC", flags->source, "Directory or hub id of the model").Required();
  verb.Add("DST", flags->destination, "Directory to make").Required();
  verb.Add("--bits", flags->bits, "4 or 8; default: 4").Type("N");
  verb.Add("--group-size", flags->group_size,
           "Columns that share a scale: 32, 64, 128, or -1 for the whole row; default: 128")
      .Type("N");
  verb.Add("--method", flags->method, "gptq, or rtn: round to the nearest; default: gptq")
      .Type("NAME");
  verb.Add("--order", flags->order,
           "Of columns: activation, group-aware or natural; default: activation")
      .Type("NAME");
  verb.Add("--small-projections", flags->small_projections,
           "Of attention's latents: bf16, as they are stored, or 8bit; default: bf16")
      .Type("NAME");
  verb.AddSwitch("--desc-act", flags->desc_act,
                 "Form groups in order of activation; such files are slower to read");
  verb.AddSwitch("--asymmetric", flags->asymmetric, "Give each group a zero point");
  verb.AddSwitch("--no-scale-search", flags->no_scale_search,
                 "Let each scale reach the group's largest weight");
  verb.Add("--damp", flags->damp, "Damping, of the mean of the Hessian's diagonal; default: 0.05")
      .Type("X")
      .Range(0.0001, 1);
  verb.Add("--calibration", flags->calibration,
           "Text to calibrate with, plain or JSON lines; default: the text that comes with baleen")
      .Type("FILE");
  verb.Add("--max-tokens", flags->max_tokens, "Of that text, at most; default: 65536")
      .Type("N")
      .AtLeast(1);
  verb.Add("--threads", flags->num_threads, "Threads; default: one a core").Type("N").AtLeast(0);
  verb.Add("--isa", flags->isa, "Instruction set; default: the best that the CPU has").Type("NAME");
  verb.AddSwitch("--json", flags->json, "Print a JSON object");
  verb.SetExamples({"baleen quantize DeepSeek-V2-Lite DeepSeek-V2-Lite-GPTQ",
                    "4 bits, groups of 128; the same command goes on after an interruption"},
                   {"baleen quantize SRC DST --bits 8 --calibration my-texts.jsonl --json",
                    "8 bits, calibrated with other texts"});
  verb.SetAction([flags] { return RunQuantize(*flags); });
}

}  // namespace baleen
