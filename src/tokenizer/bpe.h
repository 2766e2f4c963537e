// tokenizer/bpe.h: byte-pair encoding of one piece of text.
//
// Merging: a piece starts as one token for each byte; then, again and again, the adjacent pair of
// lowest rank (the leftmost of equals) becomes one token, until no adjacent pair is in the table.
// Cost: O(n log n) for a piece of n bytes.
#ifndef BALEEN_TOKENIZER_BPE_H_
#define BALEEN_TOKENIZER_BPE_H_

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "tokenizer/rank_tree.h"

namespace baleen {

// (left token, right token) -> rank of their merge, and rank -> the token that it makes. One flat
// hash table of 8 bytes a merge: looking up pairs, most of which do not merge, is what encoding
// spends its time on.
class MergeTable {
 public:
  static constexpr int32_t kNone = RankTree::kNone;  // the pair does not merge
  static constexpr int32_t kMaxRank = (1 << 24) - 2;

  explicit MergeTable(size_t expected_merges);

  // Requires tokens below 2^20 and 0 <= rank <= kMaxRank. Pairs may share a rank if they make the
  // same token. False, and nothing changes, if the pair is there already.
  [[nodiscard]] bool Add(int32_t left, int32_t right, int32_t rank, int32_t result);

  int32_t Rank(int32_t left, int32_t right) const {
    const uint64_t pair = Pair(left, right);
    for (size_t slot = Home(pair);; slot = (slot + 1) & (slots_.size() - 1)) {
      const uint64_t content = slots_[slot];
      if (content == kEmpty) return kNone;
      if (content >> kRankBits == pair) return static_cast<int32_t>(content & kRankMask);
    }
  }
  int32_t Result(int32_t rank) const { return results_[static_cast<size_t>(rank)]; }

  struct Merge {
    int32_t rank, left, right;
  };
  // All of them, lowest rank first.
  std::vector<Merge> List() const;

 private:
  static constexpr int kTokenBits = 20;
  static constexpr int kRankBits = 24;
  static constexpr uint64_t kRankMask = (uint64_t{1} << kRankBits) - 1;
  static constexpr uint64_t kEmpty = UINT64_MAX;

  static uint64_t Pair(int32_t left, int32_t right) {
    return static_cast<uint64_t>(left) << kTokenBits | static_cast<uint64_t>(right);
  }
  // Multiplicative hashing (Knuth, volume 3, section 6.4).
  size_t Home(uint64_t pair) const { return (pair * 0x9E3779B97F4A7C15) >> shift_; }
  void Insert(uint64_t content);

  std::vector<uint64_t> slots_;  // pair and rank; a power of two of them, at most half of them used
  int shift_;                    // 64 - log2 of their number
  size_t num_used_ = 0;
  std::vector<int32_t> results_;
};

// Immutable, thread-safe.
class Bpe {
 public:
  static constexpr int32_t kNoToken = -1;

  // byte_ids: the token of each byte, or kNoToken.
  Bpe(const std::array<int32_t, 256>& byte_ids, MergeTable merges);

  // Memory of Encode that a caller keeps from piece to piece. Any state is a valid start.
  struct Workspace {
    // A token of a window, stored at the place of its first byte.
    struct Symbol {
      int32_t id;
      int32_t previous;  // where the symbol to the left begins, kNoSymbol at the start
      int32_t next;      // where the symbol to the right begins, the window's size at the end
    };
    std::vector<int32_t> bytes;  // the piece, each byte as its token
    std::vector<Symbol> symbols;
    RankTree ranks;  // of each symbol with the one to its right
  };

  // Appends the tokens of `piece`. Requires piece.size() <= 2^29. A byte that has no token becomes
  // those of U+FFFD (only broken UTF-8 has such bytes in the vocabularies that the loaders accept).
  void Encode(std::string_view piece, Workspace* workspace, std::vector<int32_t>* ids) const;

  const MergeTable& merges() const { return merges_; }

 private:
  static constexpr int32_t kNoSymbol = -1;

  // Merges the window `bytes`. Returns where its last symbol begins.
  int32_t MergeWindow(std::span<const int32_t> bytes, Workspace* workspace) const;

  std::array<int32_t, 256> byte_ids_;
  MergeTable merges_;
};

}  // namespace baleen

#endif  // BALEEN_TOKENIZER_BPE_H_
