// baleen: the command line. Each verb is a file beside this one; here are arguments, errors and
// exit codes.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <new>
#include <string>

#include "baleen/error.h"
#include "cli/command_line.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/verbs.h"

namespace baleen {

namespace {

// An error is one line, whatever is in the text it quotes.
int Fail(const std::string& command, std::string message, ErrorCode code) {
  std::ranges::replace(message, '\n', ' ');
  fmt::print(stderr, "{}: {}\n", command, ForTerminal(message));
  return static_cast<int>(code);
}

int Main(int argc, char** argv) {
  HandleInterrupts();
  CommandLine program("baleen", "Runs DeepSeek-family models on your own machine.", BALEEN_VERSION);
  AddRun(program);
  AddServe(program);
  AddKeys(program);
  AddUsage(program);
  AddInspect(program);
  AddDoctor(program);
  AddBench(program);
  AddEvaluate(program);
  AddQuantize(program);
  AddConvert(program);
  AddTokenizer(program);
  AddTrain(program);
  try {
    const Action action = program.Parse(argc, argv);
    const int exit_code = action ? action() : 0;
    FlushOutput();
    return exit_code;
  } catch (const Error& error) {
    return Fail(program.command(), error.what(), error.code());
  } catch (const std::bad_alloc&) {
    return Fail(program.command(), "out of memory; lower --context or free memory",
                ErrorCode::kResourceExhausted);
  } catch (const std::exception& error) {
    return Fail(program.command(),
                fmt::format("{}; this is a bug of baleen, please report it", error.what()),
                ErrorCode::kInternal);
  }
}

}  // namespace

}  // namespace baleen

int main(int argc, char** argv) { return baleen::Main(argc, argv); }
