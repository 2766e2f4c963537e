#include "training/near_duplicates.h"

#include <algorithm>

namespace baleen {
namespace {

constexpr size_t kShingleWords = 5;
constexpr uint32_t kNone = UINT32_MAX;
// Of a band; else documents with much boilerplate would each be compared with all before them.
constexpr size_t kMaxCompared = 64;

uint64_t Mix(uint64_t x) {
  x = (x ^ x >> 33) * 0xFF51AFD7ED558CCD;
  x = (x ^ x >> 33) * 0xC4CEB9FE1A85EC53;
  return x ^ x >> 33;
}

bool IsWordByte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         static_cast<uint8_t>(c) >= 0x80;
}

// Calls visit(hash) for each shingle; a text of fewer words is one shingle.
template <typename Visit>
void ForEachShingle(std::string_view text, Visit visit) {
  std::array<uint64_t, kShingleWords> last{};  // hashes of the last words, in a ring
  size_t num_words = 0;
  const auto hash_of_last = [&](size_t count) {
    uint64_t hash = count;
    for (size_t i = count; i > 0; --i) hash = Mix(hash ^ last[(num_words - i) % kShingleWords]);
    return hash;
  };
  for (size_t pos = 0; pos < text.size();) {
    if (!IsWordByte(text[pos])) {
      ++pos;
      continue;
    }
    uint64_t word = 0xCBF29CE484222325;  // FNV-1a
    for (; pos < text.size() && IsWordByte(text[pos]); ++pos) {
      word = (word ^ static_cast<uint8_t>(text[pos])) * 0x100000001B3;
    }
    last[num_words++ % kShingleWords] = word;
    if (num_words >= kShingleWords) visit(hash_of_last(kShingleWords));
  }
  if (num_words > 0 && num_words < kShingleWords) visit(hash_of_last(num_words));
}

}  // namespace

bool NearDuplicates::Seen(std::string_view text) {
  const Signature signature = Sign(text);
  std::array<uint64_t, kNumBands> keys;
  for (size_t band = 0; band < kNumBands; ++band) {
    keys[band] = 0;
    for (size_t i = 0; i < kBandBins; ++i) {
      keys[band] = Mix(keys[band] ^ signature[band * kBandBins + i]) + band;
    }
    const auto found = last_[band].find(keys[band]);
    uint32_t other = found == last_[band].end() ? kNone : found->second;
    for (size_t i = 0; other != kNone && i < kMaxCompared; ++i, other = previous_[other][band]) {
      if (Similarity(signature, signatures_[other]) > kMaxSimilarity) return true;
    }
  }
  const auto index = static_cast<uint32_t>(signatures_.size());
  signatures_.push_back(signature);
  auto& previous = previous_.emplace_back();
  for (size_t band = 0; band < kNumBands; ++band) {
    const auto [place, is_new] = last_[band].try_emplace(keys[band], index);
    previous[band] = is_new ? kNone : place->second;
    place->second = index;
  }
  return false;
}

NearDuplicates::Signature NearDuplicates::Sign(std::string_view text) {
  std::array<uint64_t, kNumBins> least;
  least.fill(UINT64_MAX);
  ForEachShingle(text, [&](uint64_t hash) {
    uint64_t& bin = least[hash % kNumBins];
    bin = std::min(bin, hash / kNumBins);
  });
  Signature signature{};
  if (std::ranges::count(least, UINT64_MAX) == kNumBins) return signature;
  for (size_t i = 0; i < kNumBins; ++i) {
    size_t bin = i;
    for (uint64_t probe = 1; least[bin] == UINT64_MAX; ++probe) {
      bin = Mix(i << 32 | probe) % kNumBins;
    }
    signature[i] = static_cast<uint16_t>(Mix(least[bin] ^ bin << 56));
  }
  return signature;
}

double NearDuplicates::Similarity(const Signature& a, const Signature& b) {
  size_t equal = 0;
  for (size_t i = 0; i < kNumBins; ++i) equal += a[i] == b[i];
  return static_cast<double>(equal) / kNumBins;
}

}  // namespace baleen
