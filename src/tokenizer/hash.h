// tokenizer/hash.h: the hash functions of this folder's flat tables.
#ifndef BALEEN_TOKENIZER_HASH_H_
#define BALEEN_TOKENIZER_HASH_H_

#include <cstdint>
#include <cstring>
#include <string_view>

namespace baleen {

// The finalizer of MurmurHash3 (Austin Appleby, public domain): each bit of the result depends on
// each bit of `x`.
inline uint64_t HashInteger(uint64_t x) {
  x = (x ^ x >> 33) * 0xFF51AFD7ED558CCD;
  x = (x ^ x >> 33) * 0xC4CEB9FE1A85EC53;
  return x ^ x >> 33;
}

inline uint64_t HashBytes(std::string_view bytes) {
  constexpr uint64_t kMultiplier = 0x9E3779B97F4A7C15;  // 2^64 / golden ratio
  uint64_t hash = bytes.size();
  const char* at = bytes.data();
  size_t left = bytes.size();
  for (; left >= 8; at += 8, left -= 8) {
    uint64_t word;
    std::memcpy(&word, at, 8);
    hash = (hash ^ word) * kMultiplier;
    hash ^= hash >> 32;
  }
  if (left > 0) {
    uint64_t word = 0;
    std::memcpy(&word, at, left);
    hash = (hash ^ word) * kMultiplier;
  }
  return HashInteger(hash);
}

}  // namespace baleen

#endif  // BALEEN_TOKENIZER_HASH_H_
