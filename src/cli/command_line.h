// cli/command_line.h: verbs, their flags and their help.
//
// A wall before CLI11: its headers cost every file that sees them ten seconds of compiling, twice
// that with sanitizers, so only command_line.cc sees them. Handles are small and copied freely;
// they must not outlive their CommandLine, nor may the values that flags are bound to be gone
// before it has parsed.
#ifndef BALEEN_CLI_COMMAND_LINE_H_
#define BALEEN_CLI_COMMAND_LINE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace baleen {

// What the verb on the command line does; returns the exit code or throws Error.
using Action = std::function<int()>;

// A command and what it does, for the end of a verb's help.
struct Example {
  std::string_view command;
  std::string_view effect;
};

class Flag {
 public:
  explicit Flag(CLI::Option* option) : option_(option) {}

  Flag& Type(const std::string& name);    // what stands for the value in the help: "N", "FILE"
  Flag& Group(const std::string& title);  // the heading in the help
  Flag& Range(double min, double max);    // of a number; both included
  Flag& AtLeast(double min);
  Flag& Required();
  Flag& Excludes(Flag other);  // the two cannot be given together

 private:
  CLI::Option* option_;
};

class Verb {
 public:
  // `chosen` becomes the action of the verb that is parsed.
  Verb(CLI::App* app, Action* chosen) : app_(app), chosen_(chosen) {}

  // A flag with a value ("--seed", "-p,--prompt") or, without a dash, a positional argument. T:
  // std::string, a vector of them (the flag may be given several times), int32_t, uint64_t
  // (size_t), double, or an optional of string, number or float.
  template <typename T>
  Flag Add(const char* name, T& value, const char* help);
  Flag AddSwitch(const char* name, bool& value, const char* help);
  // A verb under this one; then one of those must be given.
  Verb AddVerb(const char* name, const char* help);

  // Each flag that stands here by now can also be set by a variable: --max-body by
  // BALEEN_MAX_BODY. The command line goes before the environment.
  void ReadEnvironment();

  void SetExamples(const Example& first, const Example& second);
  void SetAction(Action action);

 private:
  CLI::App* app_;
  Action* chosen_;
};

class CommandLine {
 public:
  CommandLine(const char* name, const char* description, const char* version);
  ~CommandLine();

  Verb AddVerb(const char* name, const char* help);

  // Null when help or version was asked for and printed. Error{kInvalidArgument}, without the
  // command's name, which command() gives.
  Action Parse(int argc, char** argv);
  // The verb as it was typed, for messages: "baleen tokenizer encode".
  std::string command() const;

 private:
  std::unique_ptr<CLI::App> app_;
  std::unique_ptr<Action> chosen_;
};

}  // namespace baleen

#endif  // BALEEN_CLI_COMMAND_LINE_H_
