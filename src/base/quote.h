// base/quote.h: names from outside, made fit for a one-line message.
#ifndef BALEEN_BASE_QUOTE_H_
#define BALEEN_BASE_QUOTE_H_

#include <string>
#include <string_view>

namespace baleen {

// The name in double quotes; control characters and broken UTF-8 escaped, long names cut.
std::string Quote(std::string_view name);

}  // namespace baleen

#endif  // BALEEN_BASE_QUOTE_H_
