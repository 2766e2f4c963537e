// cli/doctor.cc: `baleen doctor`: what this machine has, and what Baleen makes of it.
#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "baleen/measure.h"
#include "base/machine.h"
#include "base/thread_pool.h"
#include "cli/flags.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/verbs.h"
#include "evaluation/throughput.h"
#include "kernels/registry.h"
#include "kernels/roof.h"

namespace baleen {

namespace {

using kernels::KernelChoice;
using kernels::KernelTable;

constexpr size_t kRoofRuns = 3;

struct DoctorFlags {
  std::string isa;
  size_t num_threads = 0;
  bool json = false;
};

struct Roofs {
  Spread read_gb_per_s, gflops_f32, gflops_bf16, gops_i8;
};

Roofs MeasureRoofs(ThreadPool& pool, const KernelTable& table) {
  std::vector<double> read, f32, bf16, i8;
  Progress progress("measuring memory and arithmetic");
  for (size_t i = 0; i < kRoofRuns; ++i) {
    const Roof roof = kernels::MeasureRoof(pool, table);
    read.push_back(roof.read_gb_per_s);
    f32.push_back(roof.gflops_f32);
    bf16.push_back(roof.gflops_bf16);
    i8.push_back(roof.gops_i8);
    progress.Update(i + 1, kRoofRuns);
  }
  return {SpreadOf(read), SpreadOf(f32), SpreadOf(bf16), SpreadOf(i8)};
}

// One operation of the table: a target may lend the code of another for it.
struct Op {
  std::string name;
  std::string target;
};

std::vector<Op> OpsOf(const KernelTable& chosen) {
  const KernelTable& scalar = *kernels::KernelChoices().back().table;
  std::vector<Op> ops;
  const auto add = [&](const char* name, auto KernelTable::*op) {
    ops.push_back({name, chosen.*op == scalar.*op ? scalar.name : chosen.name});
  };
  add("matmul", &KernelTable::matmul);
  add("matmul_transposed", &KernelTable::matmul_transposed);
  add("mla_absorbed", &KernelTable::mla_absorbed);
  add("mla_direct", &KernelTable::mla_direct);
  add("rms_norm", &KernelTable::rms_norm);
  add("swiglu", &KernelTable::swiglu);
  add("add_scaled", &KernelTable::add_scaled);
  add("decode_row", &KernelTable::decode_row);
  add("pack", &KernelTable::pack);
  add("rotate_pairs", &KernelTable::rotate_pairs);
  return ops;
}

// Why a target is not the one that computes.
std::string ReasonAgainst(const KernelChoice& choice, const KernelTable& chosen, bool forced) {
  if (!choice.declined.empty()) return choice.declined;
  if (forced) return fmt::format("--isa {} was asked for", chosen.name);
  return fmt::format("{} is better", chosen.name);
}

Json ToJson(const DoctorFlags& flags, const KernelTable& table, size_t num_threads,
            const Roofs& roofs) {
  Json isa = Json::array(), refused = Json::array(), ops = Json::array();
  for (const KernelChoice& choice : kernels::KernelChoices()) {
    if (choice.declined.empty()) isa.push_back(choice.name);
    if (choice.name == table.name) continue;
    refused.push_back(
        {{"target", choice.name}, {"reason", ReasonAgainst(choice, table, !flags.isa.empty())}});
  }
  for (const Op& op : OpsOf(table)) {
    ops.push_back({{"op", op.name}, {"target", op.target}, {"refused", refused}});
  }
  return {{"cpu", CpuName()},
          {"isa", isa},
          {"threads", num_threads},
          {"memory",
           {{"total_bytes", TotalMemoryBytes()}, {"available_bytes", AvailableMemoryBytes()}}},
          {"read_gb_per_s", ToJson(roofs.read_gb_per_s)},
          {"gflops_f32", ToJson(roofs.gflops_f32)},
          {"gflops_bf16", ToJson(roofs.gflops_bf16)},
          {"gops_i8", ToJson(roofs.gops_i8)},
          {"kernels", ops}};
}

void PrintReport(const DoctorFlags& flags, const KernelTable& table, size_t num_threads,
                 const Roofs& roofs) {
  Print(fmt::format("CPU       {}\n", CpuName()));
  Print(fmt::format("threads   {}\n", num_threads));
  Print(fmt::format("memory    {} free of {}\n", HumanBytes(AvailableMemoryBytes()),
                    HumanBytes(TotalMemoryBytes())));
  const auto roof = [](const char* name, const Spread& spread, const char* unit) {
    if (spread.max == 0) {
      Print(fmt::format("{:<10}no instructions for it in this target\n", name));
    } else {
      Print(fmt::format("{:<10}{:.1f} {} ({:.1f} to {:.1f})\n", name, spread.median, unit,
                        spread.min, spread.max));
    }
  };
  roof("reading", roofs.read_gb_per_s, "GB/s");
  roof("f32", roofs.gflops_f32, "GFLOP/s");
  roof("bf16", roofs.gflops_bf16, "GFLOP/s");
  roof("int8", roofs.gops_i8, "GOP/s");
  Print("\nTargets, best first\n");
  for (const KernelChoice& choice : kernels::KernelChoices()) {
    Print(fmt::format("  {:<14}{}\n", choice.name,
                      choice.name == table.name
                          ? std::string("chosen")
                          : "refused: " + ReasonAgainst(choice, table, !flags.isa.empty())));
  }
  Print("\nKernels\n");
  for (const Op& op : OpsOf(table)) Print(fmt::format("  {:<20}{}\n", op.name, op.target));
}

int Doctor(const DoctorFlags& flags) {
  const KernelTable& table = kernels::SelectKernels(flags.isa);
  std::vector<int> cpus = ComputeCpus();
  const size_t num_threads = flags.num_threads > 0 ? flags.num_threads : cpus.size();
  if (num_threads > cpus.size()) cpus.clear();  // they share CPUs, unpinned
  if (num_threads < cpus.size()) cpus.resize(num_threads);
  ThreadPool pool(num_threads, cpus);
  const Roofs roofs = MeasureRoofs(pool, table);
  if (flags.json) {
    PrintJson(ToJson(flags, table, num_threads, roofs));
  } else {
    PrintReport(flags, table, num_threads, roofs);
  }
  return 0;
}

}  // namespace

void AddDoctor(CommandLine& program) {
  Verb verb = program.AddVerb("doctor", "Show what this machine has and can do");
  const auto flags = std::make_shared<DoctorFlags>();
  verb.Add("--isa", flags->isa, "Measure this target instead of the best").Type("NAME");
  verb.Add("--threads", flags->num_threads, "Default: one for each core").Type("N").Range(1, 1024);
  verb.AddSwitch("--json", flags->json, "Print a JSON object");
  verb.SetExamples({"baleen doctor", "CPU, memory, targets, and measured speed of each arithmetic"},
                   {"baleen doctor --isa scalar --json", "the same for one target, as JSON"});
  verb.SetAction([flags] { return Doctor(*flags); });
}

}  // namespace baleen
