// cli/verbs.h: the verbs of the program, one file each.
#ifndef BALEEN_CLI_VERBS_H_
#define BALEEN_CLI_VERBS_H_

#include "cli/command_line.h"

namespace baleen {

// Each adds its verb, with flags, help and what it does.
void AddRun(CommandLine& program);
void AddServe(CommandLine& program);
void AddKeys(CommandLine& program);
void AddUsage(CommandLine& program);
void AddInspect(CommandLine& program);
void AddDoctor(CommandLine& program);
void AddBench(CommandLine& program);
void AddEvaluate(CommandLine& program);
void AddQuantize(CommandLine& program);
void AddConvert(CommandLine& program);
void AddTokenizer(CommandLine& program);
void AddTrain(CommandLine& program);

}  // namespace baleen

#endif  // BALEEN_CLI_VERBS_H_
