#include "tokenizer/unicode.h"

#include <algorithm>
#include <iterator>

namespace baleen {
namespace {

struct Range {
  uint32_t begin;
  uint16_t flags;
};

constexpr Range kRanges[] = {
#include "tokenizer/unicode_tables.inc"
};

}  // namespace

const CharClassTable& CharClassTable::Get() {
  static const CharClassTable table;
  return table;
}

CharClassTable::CharClassTable() {
  for (size_t i = 0; i < std::size(kRanges) && kRanges[i].begin < bmp_.size(); ++i) {
    const size_t next = i + 1 < std::size(kRanges) ? kRanges[i + 1].begin : bmp_.size();
    std::fill(bmp_.begin() + kRanges[i].begin, bmp_.begin() + std::min(next, bmp_.size()),
              kRanges[i].flags);
  }
}

uint16_t CharClassTable::Supplementary(uint32_t code_point) {
  if (code_point > 0x10FFFF) return 0;
  const Range* above =
      std::upper_bound(std::begin(kRanges), std::end(kRanges), code_point,
                       [](uint32_t value, const Range& range) { return value < range.begin; });
  return std::prev(above)->flags;
}

}  // namespace baleen
