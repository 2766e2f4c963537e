// cli/price_flags.h: what a machine costs, as `serve` and `usage` are told.
#ifndef BALEEN_CLI_PRICE_FLAGS_H_
#define BALEEN_CLI_PRICE_FLAGS_H_

#include <string>

#include "cli/command_line.h"
#include "server/cost.h"

namespace baleen {

// --machine-price --watts --power-price --currency --reference-prices --reference-name
class PriceFlags {
 public:
  // The object must live until the command line is parsed.
  void AddTo(Verb verb);
  // Error{kInvalidArgument}.
  PriceList ToPrices() const;

 private:
  double machine_price_ = 0;
  double watts_ = 0;
  double power_price_ = 0;
  std::string currency_ = "USD";
  std::string reference_prices_;
  std::string reference_name_ = "reference";
};

}  // namespace baleen

#endif  // BALEEN_CLI_PRICE_FLAGS_H_
