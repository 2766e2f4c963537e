#include "cli/command_line.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <limits>

#include "base/error.h"
#include "base/quote.h"

namespace baleen {

namespace {

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

std::string CommandOf(const CLI::App& app) {
  std::string command = app.get_name();
  for (const CLI::App* verb : app.get_subcommands()) command += " " + CommandOf(*verb);
  return command;
}

std::string UnknownVerb(const CLI::App& program, const std::string& verb) {
  std::string known;
  for (const CLI::App* app : program.get_subcommands({})) known += " " + app->get_name();
  return fmt::format("{}; the verbs are{}; try {} --help",
                     verb.empty() ? "give a verb" : Quote(verb) + " is not a verb", known,
                     program.get_name());
}

// CLI11 adds the flag's name in front of the message.
std::string CheckRange(const std::string& text, double min, double max) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  if (error == std::errc() && rest == end && value >= min && value <= max) return "";
  if (max == std::numeric_limits<double>::infinity()) {
    return fmt::format("{} is not a number from {} on", Quote(text), min);
  }
  return fmt::format("{} is not a number from {} to {}", Quote(text), min, max);
}

}  // namespace

Flag& Flag::Type(const std::string& name) {
  option_->type_name(name);
  return *this;
}

Flag& Flag::Group(const std::string& title) {
  option_->group(title);
  return *this;
}

Flag& Flag::Range(double min, double max) {
  option_->check([min, max](const std::string& text) { return CheckRange(text, min, max); });
  return *this;
}

Flag& Flag::AtLeast(double min) { return Range(min, std::numeric_limits<double>::infinity()); }

Flag& Flag::Required() {
  option_->required();
  return *this;
}

Flag& Flag::Excludes(Flag other) {
  option_->excludes(other.option_);
  return *this;
}

template <typename T>
Flag Verb::Add(const char* name, T& value, const char* help) {
  CLI::Option* option = app_->add_option(name, value, help);
  if constexpr (std::is_same_v<T, std::vector<std::string>>) {
    if (option->nonpositional()) option->allow_extra_args(false);
  }
  return Flag(option);
}

template Flag Verb::Add(const char*, std::string&, const char*);
template Flag Verb::Add(const char*, std::vector<std::string>&, const char*);
template Flag Verb::Add(const char*, int32_t&, const char*);
template Flag Verb::Add(const char*, uint64_t&, const char*);
template Flag Verb::Add(const char*, double&, const char*);
template Flag Verb::Add(const char*, std::optional<std::string>&, const char*);
template Flag Verb::Add(const char*, std::optional<int32_t>&, const char*);
template Flag Verb::Add(const char*, std::optional<uint64_t>&, const char*);
template Flag Verb::Add(const char*, std::optional<float>&, const char*);
template Flag Verb::Add(const char*, std::optional<double>&, const char*);

Flag Verb::AddSwitch(const char* name, bool& value, const char* help) {
  return Flag(app_->add_flag(name, value, help));
}

Verb Verb::AddVerb(const char* name, const char* help) {
  app_->require_subcommand(1);
  return Verb(app_->add_subcommand(name, help), chosen_);
}

void Verb::ReadEnvironment() {
  for (CLI::Option* option : app_->get_options()) {
    if (!option->nonpositional() || option->get_lnames().empty()) continue;
    std::string name = "BALEEN_" + option->get_lnames()[0];
    if (name == "BALEEN_help") continue;
    for (char& c : name) c = c == '-' ? '_' : static_cast<char>(std::toupper(c));
    option->envname(name);
  }
}

void Verb::SetExamples(const Example& first, const Example& second) {
  app_->footer(fmt::format("Examples:\n  {}\n      {}\n  {}\n      {}", first.command, first.effect,
                           second.command, second.effect));
}

void Verb::SetAction(Action action) {
  app_->callback([chosen = chosen_, action = std::move(action)] { *chosen = action; });
}

CommandLine::CommandLine(const char* name, const char* description, const char* version)
    : app_(std::make_unique<CLI::App>(description, name)), chosen_(std::make_unique<Action>()) {
  app_->formatter(std::make_shared<HelpFormatter>());
  app_->set_version_flag("--version", fmt::format("{} {}", name, version),
                         "Print the version and exit");
  app_->set_help_flag("-h,--help", "Print this help and exit");
  app_->footer(fmt::format("{} VERB --help shows the flags of a verb and two examples.", name));
}

CommandLine::~CommandLine() = default;

Verb CommandLine::AddVerb(const char* name, const char* help) {
  CLI::App* verb = app_->add_subcommand(name, help);
  verb->group("Verbs");
  return Verb(verb, chosen_.get());
}

Action CommandLine::Parse(int argc, char** argv) {
  try {
    app_->parse(argc, argv);
  } catch (const CLI::Success& help_or_version) {
    app_->exit(help_or_version);
    return nullptr;
  } catch (const CLI::ParseError& error) {
    if (app_->get_subcommands().empty()) {
      Throw(ErrorCode::kInvalidArgument, "{}", UnknownVerb(*app_, argc > 1 ? argv[1] : ""));
    }
    std::string message = error.what();
    std::ranges::replace(message, '\n', ' ');
    Throw(ErrorCode::kInvalidArgument, "{}; try {} --help", message, command());
  }
  if (!*chosen_) Throw(ErrorCode::kInvalidArgument, "{}", UnknownVerb(*app_, ""));
  return *chosen_;
}

std::string CommandLine::command() const { return CommandOf(*app_); }

}  // namespace baleen
