// server/cost.h: what tokens cost, from what the machine costs.
//
// The operator states a price of the machine an hour and its power; the ledger has the machine's
// time of every request, for its prompt and for its answer. Two prices come of it:
//   on use           only the time in which the machine computed is paid for
//   on reservation   every hour is paid for, computed or not; the idle ones are shared in
//                    proportion to use
// Tokens from the prefix cache take no computing of their own, so they cost nothing on either; what
// attention reads of them is in the price of the others.
#ifndef BALEEN_SERVER_COST_H_
#define BALEEN_SERVER_COST_H_

#include <optional>
#include <string>
#include <vector>

#include "server/json.h"
#include "server/ledger.h"

namespace baleen {

// For each million tokens.
struct TokenPrices {
  double input = 0;
  double cached = 0;
  double output = 0;
};

struct PriceList {
  double machine_per_hour = 0;
  double watts = 0;
  double per_kwh = 0;
  std::string currency = "USD";
  std::string reference_name;            // another provider's prices, to compare with
  std::optional<TokenPrices> reference;  // unset: none was stated

  double per_second() const { return (machine_per_hour + watts / 1000 * per_kwh) / 3600; }
  bool stated() const { return per_second() > 0 || reference.has_value(); }
};

// "0.28,0.028,0.42": input, cached, output. Error{kInvalidArgument}.
TokenPrices ParseTokenPrices(std::string_view flag, std::string_view text);

struct Cost {
  double total = 0;
  TokenPrices per_million;
};

// `seconds`: that the machine was reserved; `busy_seconds`: in which it computed, for all.
struct CostReport {
  Cost on_use;
  Cost on_reservation;
  double reference_total = 0;
};
CostReport ComputeCost(const UsageTotal& usage, const PriceList& prices, double seconds,
                       double busy_seconds);

// {"period_seconds", "busy_seconds", "prices", "data": [...]}: usage, and with prices its cost.
// `all` has everybody's totals, of which those of `only` are shown (null: all). `seconds`: 0, since
// the first request.
Json UsageReportJson(const std::vector<UsageTotal>& all, const std::string* only,
                     const PriceList& prices, double seconds);

}  // namespace baleen

#endif  // BALEEN_SERVER_COST_H_
