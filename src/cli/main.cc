// baleen: the command line. Each verb is a file beside this one; here are arguments, errors and
// exit codes.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <memory>
#include <new>
#include <string>

#include "baleen/error.h"
#include "base/quote.h"
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

// Help without CLI11's notes on types, ranges and exclusions; the descriptions say what matters.
class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter() {
    label("SUBCOMMAND", "VERB");
    column_width(30);
  }
  std::string make_option_opts(const CLI::Option* option) const override {
    if (!option->nonpositional() || option->get_type_size() == 0) return "";
    const std::string type = option->get_type_name();
    return " " + type.substr(0, type.find(':'));
  }
};

std::string UnknownVerb(const CLI::App& program, const std::string& verb) {
  std::string known;
  for (const CLI::App* app : program.get_subcommands({})) known += " " + app->get_name();
  return fmt::format("{}; the verbs are{}; try baleen --help",
                     verb.empty() ? "give a verb" : Quote(verb) + " is not a verb", known);
}

// The verb as it was typed, for messages: "baleen tokenizer encode".
std::string CommandOf(const CLI::App& program) {
  std::string command = program.get_name();
  for (const CLI::App* app : program.get_subcommands()) command += " " + CommandOf(*app);
  return command;
}

// Sets `action` or throws CLI::ParseError.
void Parse(CLI::App& program, int argc, char** argv, Action& action) {
  program.formatter(std::make_shared<HelpFormatter>());
  program.set_version_flag("--version", "baleen " BALEEN_VERSION, "Print the version and exit");
  program.set_help_flag("-h,--help", "Print this help and exit");
  program.footer("baleen VERB --help shows the flags of a verb and two examples.");
  AddRun(program, action);
  AddInspect(program, action);
  AddDoctor(program, action);
  AddBench(program, action);
  AddEvaluate(program, action);
  AddTokenizer(program, action);
  for (CLI::App* verb : program.get_subcommands({})) verb->group("Verbs");
  program.parse(argc, argv);
  if (!action) throw CLI::RequiredError("VERB");
}

int Main(int argc, char** argv) {
  HandleInterrupts();
  CLI::App program("Runs DeepSeek-family models on your own machine.", "baleen");
  Action action;
  try {
    Parse(program, argc, argv, action);
  } catch (const CLI::Success& help_or_version) {
    return program.exit(help_or_version);
  } catch (const CLI::ParseError& error) {
    const std::string command = CommandOf(program);
    const std::string message = program.get_subcommands().empty()
                                    ? UnknownVerb(program, argc > 1 ? argv[1] : "")
                                    : fmt::format("{}; try {} --help", error.what(), command);
    return Fail(command, message, ErrorCode::kInvalidArgument);
  }
  const std::string command = CommandOf(program);
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
