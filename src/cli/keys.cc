// cli/keys.cc: `baleen keys` and `baleen usage`: who may use a server, and what they used.
#include "server/keys.h"

#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"
#include "cli/output.h"
#include "cli/price_flags.h"
#include "cli/verbs.h"
#include "server/cost.h"
#include "server/ledger.h"

namespace baleen {

namespace {

constexpr double kSecondsPerDay = 86'400;

struct KeysFlags {
  std::string database;
  std::string name;
  size_t requests_per_minute = 0;
  size_t tokens_per_minute = 0;
  double machine_seconds_per_minute = 0;
  std::string priority = "interactive";
  double days = 0;
  bool json = false;
  PriceFlags prices;
  double hours = 0;

  std::string path() const { return database.empty() ? DefaultDatabasePath() : database; }
};

void AddDatabaseFlag(Verb verb, KeysFlags& flags) {
  verb.Add("--database", flags.database,
           "A file, or postgresql://...; default: $BALEEN_DATABASE, else baleen/baleen.db under "
           "$XDG_STATE_HOME")
      .Type("WHERE");
}

KeyLimits LimitsOf(const KeysFlags& flags) {
  KeyLimits limits;
  limits.requests_per_minute = static_cast<int64_t>(flags.requests_per_minute);
  limits.tokens_per_minute = static_cast<int64_t>(flags.tokens_per_minute);
  limits.machine_seconds_per_minute = flags.machine_seconds_per_minute;
  limits.priority = ParsePriority(flags.priority);
  return limits;
}

int AddKey(const KeysFlags& flags) {
  Print(KeyStore(flags.path()).Add(flags.name, LimitsOf(flags)) + "\n");
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
                    {"machine_seconds_per_minute", key.limits.machine_seconds_per_minute},
                    {"priority", PriorityName(key.limits.priority)}});
  }
  if (flags.json) {
    PrintJson({{"keys", std::move(list)}});
    return 0;
  }
  const auto limit = [](const Json& value) {
    return value == 0 ? std::string("no limit") : value.dump();
  };
  Print(fmt::format("{:<24}{:<10}{:>14}{:>14}{:>14}  {}\n", "name", "key", "requests/min",
                    "tokens/min", "machine s/min", "class"));
  for (const Json& key : list) {
    Print(fmt::format("{:<24}{:<10}{:>14}{:>14}{:>14}  {}\n",
                      ForTerminal(key["name"].get<std::string>()),
                      key["hint"].get<std::string>() + "...", limit(key["requests_per_minute"]),
                      limit(key["tokens_per_minute"]), limit(key["machine_seconds_per_minute"]),
                      key["priority"].get<std::string>()));
  }
  return 0;
}

int LimitKey(const KeysFlags& flags) {
  KeyStore(flags.path()).SetLimits(flags.name, LimitsOf(flags));
  return 0;
}

int RevokeKey(const KeysFlags& flags) {
  KeyStore(flags.path()).Revoke(flags.name);
  return 0;
}

std::string KeyColumn(const Json& item) {
  const auto key = item["key"].get<std::string>();
  return key.empty() ? "(no key)" : ForTerminal(key);
}

void PrintCosts(const Json& report) {
  const std::string currency = ForTerminal(report["prices"]["currency"].get<std::string>());
  Print(fmt::format("\ncost in {}, and of a million tokens: input, cached, output\n", currency));
  for (const Json& item : report["data"]) {
    const Json& cost = item["cost"];
    const auto line = [&](const std::string& name, const Json& total, const Json& per_million) {
      Print(fmt::format("  {:<36}{:>12.6f}  {:>10.4f}{:>10.4f}{:>10.4f}\n", name,
                        total.get<double>(), per_million["input"].get<double>(),
                        per_million["cached"].get<double>(), per_million["output"].get<double>()));
    };
    Print(KeyColumn(item) + "\n");
    for (const char* name : {"on_use", "on_reservation"}) {
      line(name == std::string("on_use") ? "on use" : "on reservation", cost[name]["total"],
           cost[name]["per_million_tokens"]);
    }
    if (!cost.contains("reference")) continue;
    const Json& reference = report["prices"]["reference"];
    line("at " + ForTerminal(reference["name"].get<std::string>()), cost["reference"]["total"],
         reference);
  }
}

void PrintUsage(const Json& report) {
  Print(fmt::format("{:<24}{:<24}{:>10}{:>14}{:>14}{:>14}{:>12}\n", "key", "model", "requests",
                    "prompt", "... cached", "answers", "machine s"));
  for (const Json& item : report["data"]) {
    Print(fmt::format(
        "{:<24}{:<24}{:>10}{:>14}{:>14}{:>14}{:>12.3f}\n", KeyColumn(item),
        ForTerminal(item["model"].get<std::string>()), item["requests"].get<int64_t>(),
        item["prompt_tokens"].get<int64_t>(), item["cached_tokens"].get<int64_t>(),
        item["completion_tokens"].get<int64_t>(), item["machine_seconds"].get<double>()));
  }
  if (report.contains("prices")) PrintCosts(report);
}

int Usage(const KeysFlags& flags) {
  const double since =
      flags.days == 0 ? 0 : static_cast<double>(std::time(nullptr)) - flags.days * kSecondsPerDay;
  const std::vector<UsageTotal> totals = Ledger::Totals(flags.path(), since);
  const double seconds = flags.hours > 0 ? flags.hours * 3600 : flags.days * kSecondsPerDay;
  const Json report = UsageReportJson(totals, nullptr, flags.prices.ToPrices(), seconds);
  if (flags.json) {
    Json object = {{"usage", report["data"]}};
    for (const char* name : {"period_seconds", "busy_seconds", "prices"}) {
      if (report.contains(name)) object[name] = report[name];
    }
    PrintJson(object);
    return 0;
  }
  PrintUsage(report);
  return 0;
}

}  // namespace

void AddKeys(CommandLine& program) {
  Verb verb = program.AddVerb("keys", "Make, list and revoke the keys of a server");
  const auto flags = std::make_shared<KeysFlags>();

  Verb add = verb.AddVerb("add", "Make a key and print it");
  add.Add("NAME", flags->name, "Whose key it is; stands in the ledger").Required();
  Verb limit = verb.AddVerb("limit", "Give a key other limits; those not given are none");
  limit.Add("NAME", flags->name, "As it was made").Required();
  for (Verb each : {add, limit}) {
    AddDatabaseFlag(each, *flags);
    each.Add("--requests-per-minute", flags->requests_per_minute, "Default: no limit").Type("N");
    each.Add("--tokens-per-minute", flags->tokens_per_minute,
             "Of prompts and answers together; default: no limit")
        .Type("N");
    each.Add("--machine-seconds-per-minute", flags->machine_seconds_per_minute,
             "Of the time in which the machine computes; default: no limit")
        .Type("S")
        .AtLeast(0);
    each.Add("--priority", flags->priority,
             "Best class that it may ask for: interactive, completion or batch; default: "
             "interactive")
        .Type("CLASS");
  }
  add.SetAction([flags] { return AddKey(*flags); });
  limit.SetAction([flags] { return LimitKey(*flags); });

  Verb list = verb.AddVerb("list", "Show the keys that are valid");
  AddDatabaseFlag(list, *flags);
  list.AddSwitch("--json", flags->json, "Print a JSON object");
  list.SetAction([flags] { return ListKeys(*flags); });

  Verb revoke = verb.AddVerb("revoke", "Make a key worthless");
  revoke.Add("NAME", flags->name, "As it was made").Required();
  AddDatabaseFlag(revoke, *flags);
  revoke.SetAction([flags] { return RevokeKey(*flags); });

  for (Verb each : {verb, add, limit, list, revoke}) {
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
  verb.Add("--hours", flags->hours,
           "That the machine was paid for; default: the days, or since the first request")
      .Type("N")
      .AtLeast(0);
  verb.AddSwitch("--json", flags->json, "Print a JSON object");
  flags->prices.AddTo(verb);
  verb.ReadEnvironment();
  verb.SetExamples({"baleen usage", "requests and tokens of each key"},
                   {"baleen usage --days 30 --machine-price 0.5 --watts 200 --power-price 0.3",
                    "of a month, and what it cost"});
  verb.SetAction([flags] { return Usage(*flags); });
}

}  // namespace baleen
