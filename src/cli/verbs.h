// cli/verbs.h: the verbs of the program, one file each.
#ifndef BALEEN_CLI_VERBS_H_
#define BALEEN_CLI_VERBS_H_

#include <CLI/CLI.hpp>
#include <functional>

namespace baleen {

// What the verb on the command line does; returns the exit code or throws Error.
using Action = std::function<int()>;

// Each adds its subcommand with flags and help; parsing it sets `action`.
void AddRun(CLI::App& program, Action& action);
void AddInspect(CLI::App& program, Action& action);
void AddDoctor(CLI::App& program, Action& action);
void AddBench(CLI::App& program, Action& action);
void AddEvaluate(CLI::App& program, Action& action);
void AddTokenizer(CLI::App& program, Action& action);

}  // namespace baleen

#endif  // BALEEN_CLI_VERBS_H_
