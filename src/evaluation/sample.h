// evaluation/sample.h: some of many, for a quick look.
#ifndef BALEEN_EVALUATION_SAMPLE_H_
#define BALEEN_EVALUATION_SAMPLE_H_

#include <cstddef>
#include <utility>
#include <vector>

namespace baleen {

// Keeps `limit` of the items, spread evenly over the whole (item floor(i * size / limit) for each
// i), since neighbours are often alike; all of them if there are no more, or with limit 0.
template <typename T>
std::vector<T> SampleEvenly(std::vector<T> items, size_t limit) {
  if (limit == 0 || limit >= items.size()) return items;
  std::vector<T> kept;
  kept.reserve(limit);
  for (size_t i = 0; i < limit; ++i) kept.push_back(std::move(items[i * items.size() / limit]));
  return kept;
}

}  // namespace baleen

#endif  // BALEEN_EVALUATION_SAMPLE_H_
