// cli/keys.cc: `baleen keys` and `baleen usage`: who may use a server, and what they used.
#include "server/keys.h"

#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"
#include "cli/output.h"
#include "cli/verbs.h"
#include "server/ledger.h"

namespace baleen {

namespace {

constexpr double kSecondsPerDay = 86'400;

struct KeysFlags {
  std::string database;
  std::string name;
  size_t requests_per_minute = 0;
  size_t tokens_per_minute = 0;
  std::string priority = "interactive";
  double days = 0;
  bool json = false;

  std::string path() const { return database.empty() ? DefaultDatabasePath() : database; }
};

void AddDatabaseFlag(Verb verb, KeysFlags& flags) {
  verb.Add("--database", flags.database,
           "Default: $BALEEN_DATABASE, else baleen/baleen.db under $XDG_STATE_HOME")
      .Type("FILE");
}

int AddKey(const KeysFlags& flags) {
  KeyLimits limits;
  limits.requests_per_minute = static_cast<int64_t>(flags.requests_per_minute);
  limits.tokens_per_minute = static_cast<int64_t>(flags.tokens_per_minute);
  limits.priority = ParsePriority(flags.priority);
  Print(KeyStore(flags.path()).Add(flags.name, limits) + "\n");
  Note("this is the only time that the key is shown");
  return 0;
}

int ListKeys(const KeysFlags& flags) {
  Json list = Json::array();
  for (const KeyInfo& key : KeyStore(flags.path()).List()) {
    list.push_back({{"name", key.name},
                    {"hint", key.hint},
                    {"created", key.created},
                    {"requests_per_minute", key.limits.requests_per_minute},
                    {"tokens_per_minute", key.limits.tokens_per_minute},
                    {"priority", PriorityName(key.limits.priority)}});
  }
  if (flags.json) {
    PrintJson({{"keys", std::move(list)}});
    return 0;
  }
  const auto limit = [](const Json& value) {
    return value == 0 ? std::string("no limit") : value.dump();
  };
  Print(fmt::format("{:<24}{:<10}{:>14}{:>14}  {}\n", "name", "key", "requests/min", "tokens/min",
                    "class"));
  for (const Json& key : list) {
    Print(fmt::format("{:<24}{:<10}{:>14}{:>14}  {}\n", ForTerminal(key["name"].get<std::string>()),
                      key["hint"].get<std::string>() + "...", limit(key["requests_per_minute"]),
                      limit(key["tokens_per_minute"]), key["priority"].get<std::string>()));
  }
  return 0;
}

int RevokeKey(const KeysFlags& flags) {
  KeyStore(flags.path()).Revoke(flags.name);
  return 0;
}

int Usage(const KeysFlags& flags) {
  const double since =
      flags.days == 0 ? 0 : static_cast<double>(std::time(nullptr)) - flags.days * kSecondsPerDay;
  const std::vector<UsageTotal> totals = Ledger::Totals(flags.path(), since);
  if (flags.json) {
    Json list = Json::array();
    for (const UsageTotal& total : totals) {
      list.push_back({{"key", total.key},
                      {"model", total.model},
                      {"requests", total.requests},
                      {"prompt_tokens", total.prompt_tokens},
                      {"cached_tokens", total.cached_tokens},
                      {"completion_tokens", total.completion_tokens},
                      {"reasoning_tokens", total.reasoning_tokens},
                      {"compute_seconds", total.compute_seconds}});
    }
    PrintJson({{"usage", std::move(list)}});
    return 0;
  }
  Print(fmt::format("{:<24}{:<24}{:>10}{:>14}{:>14}{:>14}\n", "key", "model", "requests", "prompt",
                    "... cached", "answers"));
  for (const UsageTotal& total : totals) {
    Print(fmt::format("{:<24}{:<24}{:>10}{:>14}{:>14}{:>14}\n",
                      total.key.empty() ? "(no key)" : ForTerminal(total.key),
                      ForTerminal(total.model), total.requests, total.prompt_tokens,
                      total.cached_tokens, total.completion_tokens));
  }
  return 0;
}

}  // namespace

void AddKeys(CommandLine& program) {
  Verb verb = program.AddVerb("keys", "Make, list and revoke the keys of a server");
  const auto flags = std::make_shared<KeysFlags>();

  Verb add = verb.AddVerb("add", "Make a key and print it");
  add.Add("NAME", flags->name, "Whose key it is; stands in the ledger").Required();
  AddDatabaseFlag(add, *flags);
  add.Add("--requests-per-minute", flags->requests_per_minute, "Default: no limit").Type("N");
  add.Add("--tokens-per-minute", flags->tokens_per_minute,
          "Of prompts and answers together; default: no limit")
      .Type("N");
  add.Add("--priority", flags->priority,
          "Best class that it may ask for: interactive, completion or batch; default: interactive")
      .Type("CLASS");
  add.SetAction([flags] { return AddKey(*flags); });

  Verb list = verb.AddVerb("list", "Show the keys that are valid");
  AddDatabaseFlag(list, *flags);
  list.AddSwitch("--json", flags->json, "Print a JSON object");
  list.SetAction([flags] { return ListKeys(*flags); });

  Verb revoke = verb.AddVerb("revoke", "Make a key worthless");
  revoke.Add("NAME", flags->name, "As it was made").Required();
  AddDatabaseFlag(revoke, *flags);
  revoke.SetAction([flags] { return RevokeKey(*flags); });

  for (Verb each : {verb, add, list, revoke}) {
    each.SetExamples({"baleen keys add alice --tokens-per-minute 100000",
                      "prints a key; servers on this database ask for one from now on"},
                     {"baleen keys revoke alice", "it is refused within a second"});
  }
}

void AddUsage(CommandLine& program) {
  Verb verb = program.AddVerb("usage", "Show what was used, by key and model");
  const auto flags = std::make_shared<KeysFlags>();
  AddDatabaseFlag(verb, *flags);
  verb.Add("--days", flags->days, "Of the last N days; default: of all time").Type("N").AtLeast(0);
  verb.AddSwitch("--json", flags->json, "Print a JSON object");
  verb.SetExamples({"baleen usage", "requests and tokens of each key"},
                   {"baleen usage --days 30 --json", "of a month, as JSON"});
  verb.SetAction([flags] { return Usage(*flags); });
}

}  // namespace baleen
