// tokenizer/bpe.h: byte-pair encoding of one piece of text.
//
// Merging: a piece starts as one token for each byte; then, again and again, the adjacent pair of
// lowest rank (the leftmost of equals) becomes one token, until no adjacent pair is in the table.
// Cost: O(n log n) for a piece of n bytes.
#ifndef BALEEN_TOKENIZER_BPE_H_
#define BALEEN_TOKENIZER_BPE_H_

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace baleen {

// (left token, right token) -> the token that they become, and how early. One flat hash table:
// looking up pairs is what encoding spends its time on.
class MergeTable {
 public:
  struct Merge {
    static constexpr int32_t kNone = INT32_MAX;

    int32_t rank = kNone;  // kNone: the pair does not merge
    int32_t result = 0;
  };

  explicit MergeTable(size_t expected_merges);

  // Requires rank >= 0. False, and nothing changes, if the pair is there already.
  [[nodiscard]] bool Add(int32_t left, int32_t right, Merge merge);
  Merge Find(int32_t left, int32_t right) const;

 private:
  struct Slot {
    uint64_t pair;
    Merge merge;  // rank kNone: nothing here
  };

  static uint64_t Key(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  size_t FindSlot(uint64_t pair) const;
  void Grow();

  std::vector<Slot> slots_;  // a power of two of them, at most half of them used
  size_t num_merges_ = 0;
};

// Immutable, thread-safe.
class Bpe {
 public:
  static constexpr int32_t kNoToken = -1;

  // byte_ids: the token of each byte, or kNoToken.
  Bpe(const std::array<int32_t, 256>& byte_ids, MergeTable merges);

  // Memory of Encode that a caller keeps from piece to piece. Any state is a valid start.
  struct Workspace {
    struct Symbol {
      int32_t id;
      int32_t previous;         // index of the symbol to the left, -1 at the start
      int32_t next;             // index of the symbol to the right, -1 at the end
      MergeTable::Merge merge;  // with the symbol to the right
    };
    std::vector<Symbol> symbols;
    std::vector<uint64_t> queue;
  };

  // Appends the tokens of `piece`. Requires piece.size() < 2^31. A byte that has no token becomes
  // those of U+FFFD (only broken UTF-8 has such bytes in the vocabularies that the loaders accept).
  void Encode(std::string_view piece, Workspace* workspace, std::vector<int32_t>* ids) const;

 private:
  void StartSymbols(std::string_view piece, std::vector<Workspace::Symbol>* symbols) const;
  void MergeShort(std::vector<Workspace::Symbol>* symbols) const;
  void MergeLong(Workspace* workspace) const;

  std::array<int32_t, 256> byte_ids_;
  MergeTable merges_;
};

}  // namespace baleen

#endif  // BALEEN_TOKENIZER_BPE_H_
