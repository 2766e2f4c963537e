#include "server/cost.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "server/openai_json.h"

namespace baleen {

namespace {

constexpr double kMillion = 1e6;

// Of each million; 0 where there were none.
double PerMillion(double cost, int64_t tokens) {
  return tokens > 0 ? cost / static_cast<double>(tokens) * kMillion : 0;
}

Json PricesJson(const TokenPrices& prices) {
  return {{"input", prices.input}, {"cached", prices.cached}, {"output", prices.output}};
}

Json CostJson(const Cost& cost) {
  return {{"total", cost.total}, {"per_million_tokens", PricesJson(cost.per_million)}};
}

Json TotalJson(const UsageTotal& total) {
  return {{"key", total.key},
          {"model", total.model},
          {"requests", total.requests},
          {"prompt_tokens", total.prompt_tokens},
          {"cached_tokens", total.cached_tokens},
          {"completion_tokens", total.completion_tokens},
          {"reasoning_tokens", total.reasoning_tokens},
          {"compute_seconds", total.compute_seconds},
          {"machine_seconds", total.prompt_machine_seconds + total.answer_machine_seconds}};
}

}  // namespace

TokenPrices ParseTokenPrices(std::string_view flag, std::string_view text) {
  double values[3];
  const char* begin = text.data();
  const char* const end = begin + text.size();
  for (int i = 0; i < 3; ++i) {
    const auto [rest, error] = std::from_chars(begin, end, values[i]);
    const bool ends_well = i < 2 ? rest != end && *rest == ',' : rest == end;
    if (error != std::errc() || !ends_well || !(values[i] >= 0)) {
      Throw(ErrorCode::kInvalidArgument,
            "{}: give the prices of a million input, cached and output tokens, such as "
            "0.28,0.028,0.42",
            flag);
    }
    begin = rest + 1;
  }
  return {.input = values[0], .cached = values[1], .output = values[2]};
}

CostReport ComputeCost(const UsageTotal& usage, const PriceList& prices, double seconds,
                       double busy_seconds) {
  const auto cost_at = [&](double per_second) {
    const double prompt = usage.prompt_machine_seconds * per_second;
    const double answer = usage.answer_machine_seconds * per_second;
    Cost cost;
    cost.total = prompt + answer;
    cost.per_million.input = PerMillion(prompt, usage.prompt_tokens - usage.cached_tokens);
    cost.per_million.output = PerMillion(answer, usage.completion_tokens);
    return cost;
  };
  CostReport report;
  report.on_use = cost_at(prices.per_second());
  const double idle_factor = busy_seconds > 0 ? std::max(1.0, seconds / busy_seconds) : 1;
  report.on_reservation = cost_at(prices.per_second() * idle_factor);
  if (prices.reference) {
    report.reference_total =
        (static_cast<double>(usage.prompt_tokens - usage.cached_tokens) * prices.reference->input +
         static_cast<double>(usage.cached_tokens) * prices.reference->cached +
         static_cast<double>(usage.completion_tokens) * prices.reference->output) /
        kMillion;
  }
  return report;
}

Json UsageReportJson(const std::vector<UsageTotal>& all, const std::string* only,
                     const PriceList& prices, double seconds) {
  double busy = 0, first = static_cast<double>(UnixSeconds());
  for (const UsageTotal& total : all) {
    busy += total.prompt_machine_seconds + total.answer_machine_seconds;
    first = std::min(first, total.first_time);
  }
  if (seconds == 0) seconds = static_cast<double>(UnixSeconds()) - first;
  Json list = Json::array();
  for (const UsageTotal& total : all) {
    if (only != nullptr && total.key != *only) continue;
    Json item = TotalJson(total);
    if (prices.stated()) {
      const CostReport cost = ComputeCost(total, prices, seconds, busy);
      item["cost"] = {{"on_use", CostJson(cost.on_use)},
                      {"on_reservation", CostJson(cost.on_reservation)}};
      if (prices.reference) item["cost"]["reference"] = {{"total", cost.reference_total}};
    }
    list.push_back(std::move(item));
  }
  Json report = {{"object", "list"}, {"data", std::move(list)}};
  if (only == nullptr) report["busy_seconds"] = busy;
  report["period_seconds"] = seconds;
  if (prices.stated()) {
    report["prices"] = {{"currency", prices.currency},
                        {"machine_per_hour", prices.machine_per_hour},
                        {"watts", prices.watts},
                        {"per_kwh", prices.per_kwh}};
    if (prices.reference) {
      report["prices"]["reference"] = PricesJson(*prices.reference);
      report["prices"]["reference"]["name"] = prices.reference_name;
    }
  }
  return report;
}

}  // namespace baleen
