// baleen: the command line. Each verb is a file beside this one; here are arguments, errors and
// exit codes.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <new>
#include <string>

#include "baleen/error.h"
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
  CLI::App program("Runs DeepSeek-family models on your own machine.", "baleen");
  program.set_version_flag("--version", "baleen " BALEEN_VERSION);
  program.require_subcommand(1);
  program.footer("baleen VERB --help shows the flags of a verb and two examples.");
  Action action;
  AddRun(program, action);
  AddInspect(program, action);
  AddDoctor(program, action);
  AddBench(program, action);
  AddEvaluate(program, action);
  AddTokenizer(program, action);

  std::string command = "baleen";
  try {
    program.parse(argc, argv);
  } catch (const CLI::Success& help_or_version) {
    return program.exit(help_or_version);
  } catch (const CLI::ParseError& error) {
    for (const CLI::App* verb : program.get_subcommands()) command += " " + verb->get_name();
    return Fail(command, fmt::format("{}; try {} --help", error.what(), command),
                ErrorCode::kInvalidArgument);
  }
  command += " " + program.get_subcommands().front()->get_name();
  try {
    const int exit_code = action();
    FlushOutput();
    return exit_code;
  } catch (const Error& error) {
    return Fail(command, error.what(), error.code());
  } catch (const std::bad_alloc&) {
    return Fail(command, "out of memory; lower --context or free memory",
                ErrorCode::kResourceExhausted);
  } catch (const std::exception& error) {
    return Fail(command, fmt::format("{}; this is a bug of baleen, please report it", error.what()),
                ErrorCode::kInternal);
  }
}

}  // namespace

}  // namespace baleen

int main(int argc, char** argv) { return baleen::Main(argc, argv); }
