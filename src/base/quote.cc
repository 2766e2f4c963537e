#include "base/quote.h"

#include <fmt/format.h>

namespace baleen {

std::string Quote(std::string_view name) {
  constexpr size_t kMaxBytes = 200;
  if (name.size() <= kMaxBytes) return fmt::format("{:?}", name);
  return fmt::format("{:?}... ({} bytes)", name.substr(0, kMaxBytes), name.size());
}

}  // namespace baleen
