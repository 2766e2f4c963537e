#include "cli/price_flags.h"

namespace baleen {

void PriceFlags::AddTo(Verb verb) {
  const char* const group = "Prices";
  verb.Add("--machine-price", machine_price_, "What the machine costs an hour")
      .Type("PRICE")
      .AtLeast(0)
      .Group(group);
  verb.Add("--watts", watts_, "What it draws").Type("W").AtLeast(0).Group(group);
  verb.Add("--power-price", power_price_, "What a kWh costs").Type("PRICE").AtLeast(0).Group(group);
  verb.Add("--currency", currency_, "Of all prices; default: USD").Type("NAME").Group(group);
  verb.Add("--reference-prices", reference_prices_,
           "Another provider's, of a million input, cached and output tokens: 0.28,0.028,0.42")
      .Type("I,C,O")
      .Group(group);
  verb.Add("--reference-name", reference_name_, "Who that is").Type("NAME").Group(group);
}

PriceList PriceFlags::ToPrices() const {
  PriceList prices;
  prices.machine_per_hour = machine_price_;
  prices.watts = watts_;
  prices.per_kwh = power_price_;
  prices.currency = currency_;
  if (!reference_prices_.empty()) {
    prices.reference = ParseTokenPrices("--reference-prices", reference_prices_);
    prices.reference_name = reference_name_;
  }
  return prices;
}

}  // namespace baleen
