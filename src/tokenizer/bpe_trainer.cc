#include "tokenizer/bpe_trainer.h"

#include <algorithm>
#include <array>
#include <queue>
#include <utility>

#include "base/check.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/hash.h"

namespace baleen {
namespace {

constexpr int32_t kNumBytes = 256;
constexpr size_t kMergesBetweenReports = 256;

// What is known of each pair of adjacent tokens: a flat table from the pair to its place in
// `pairs`, as a pair is looked up for each change of each word.
class PairTable {
 public:
  struct Pair {
    uint64_t key;                 // left << 32 | right: in the order in which ties are broken
    int64_t count = 0;            // in all words, weighted by how often the word comes
    std::vector<uint32_t> words;  // that hold it, or did once; none twice

    int32_t left() const { return static_cast<int32_t>(key >> 32); }
    int32_t right() const { return static_cast<int32_t>(key & UINT32_MAX); }
  };

  PairTable() : slots_(1 << 16, kEmpty) {}

  static uint64_t Key(int32_t left, int32_t right) {
    return static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
  }

  // The index of a pair, which it keeps.
  uint32_t Find(int32_t left, int32_t right) {
    const uint64_t key = Key(left, right);
    const size_t slot = FindSlot(key);
    if (slots_[slot] != kEmpty) return slots_[slot];
    const auto index = static_cast<uint32_t>(pairs_.size());
    slots_[slot] = index;
    pairs_.push_back({key, 0, {}});
    if (pairs_.size() * 2 > slots_.size()) Grow();
    return index;
  }
  Pair& operator[](uint32_t index) { return pairs_[index]; }
  size_t size() const { return pairs_.size(); }

 private:
  static constexpr uint32_t kEmpty = UINT32_MAX;

  size_t FindSlot(uint64_t key) const {
    const size_t mask = slots_.size() - 1;
    size_t slot = HashInteger(key) & mask;
    while (slots_[slot] != kEmpty && pairs_[slots_[slot]].key != key) slot = (slot + 1) & mask;
    return slot;
  }

  void Grow() {
    slots_.assign(slots_.size() * 2, kEmpty);
    for (size_t i = 0; i < pairs_.size(); ++i) {
      slots_[FindSlot(pairs_[i].key)] = static_cast<uint32_t>(i);
    }
  }

  std::vector<Pair> pairs_;
  std::vector<uint32_t> slots_;  // a power of two of them, at most half of them used
};

class BpeTraining {
 public:
  BpeTraining(WordCounts words, const BpeTrainerOptions& options) : options_(options) {
    AddBytes();
    AddWords(words);
  }

  TrainedBpe Run(FunctionRef<void(size_t, size_t)> progress) {
    CountPairs();
    while (tokens_.size() < static_cast<size_t>(options_.vocab_size) && !queue_.empty()) {
      Candidate top = queue_.top();
      queue_.pop();
      const PairTable::Pair& pair = pairs_[top.pair];
      if (const auto count = static_cast<uint64_t>(pair.count); top.count != count) {
        top.count = count;
        queue_.push(top);
        continue;
      }
      if (top.count < 1 || top.count < options_.min_count) break;
      Merge(top.pair);
      if (merges_.size() % kMergesBetweenReports == 0) {
        progress(tokens_.size(), static_cast<size_t>(options_.vocab_size));
      }
    }
    return {std::move(tokens_), std::move(merges_)};
  }

 private:
  struct Word {
    size_t begin;  // in symbols_
    uint32_t size;
    int64_t count;
  };

  struct Candidate {
    uint64_t count;
    uint64_t key;
    uint32_t pair;

    // std::priority_queue takes the largest first.
    bool operator<(const Candidate& other) const {
      return count != other.count ? count < other.count : key > other.key;
    }
  };

  void AddBytes() {
    tokens_.resize(static_cast<size_t>(options_.num_reserved));
    for (const uint8_t byte : ByteLevelOrder()) {
      byte_ids_[byte] = static_cast<int32_t>(tokens_.size());
      tokens_.emplace_back(1, static_cast<char>(byte));
    }
  }

  void AddWords(const WordCounts& words) {
    size_t num_symbols = 0;
    for (const WordCounts::Entry& entry : words.entries()) num_symbols += entry.size;
    symbols_.reserve(num_symbols);
    words_.reserve(words.entries().size());
    for (const WordCounts::Entry& entry : words.entries()) {
      words_.push_back({symbols_.size(), entry.size, static_cast<int64_t>(entry.count)});
      for (const char c : entry.word()) symbols_.push_back(byte_ids_[static_cast<uint8_t>(c)]);
    }
  }

  void CountPairs() {
    for (uint32_t w = 0; w < words_.size(); ++w) {
      const Word& word = words_[w];
      for (size_t i = word.begin; i + 1 < word.begin + word.size; ++i) {
        ChangeCount(symbols_[i], symbols_[i + 1], word.count, w);
      }
    }
    QueueTouched();
  }

  // Adds `count`, which comes from word `w`, to that of a pair.
  void ChangeCount(int32_t left, int32_t right, int64_t count, uint32_t w) {
    const uint32_t index = pairs_.Find(left, right);
    PairTable::Pair& pair = pairs_[index];
    pair.count += count;
    if (count < 0) return;
    if (pair.words.empty()) touched_.push_back(index);
    if (pair.words.empty() || pair.words.back() != w) pair.words.push_back(w);
  }

  // Gives each pair that has newly come up its entry in the queue. That is once for a pair: it
  // comes up where the later of its two tokens is made, in all words at the same time.
  void QueueTouched() {
    for (const uint32_t index : touched_) {
      PairTable::Pair& pair = pairs_[index];
      pair.words.shrink_to_fit();
      if (pair.count > 0) queue_.push({static_cast<uint64_t>(pair.count), pair.key, index});
    }
    touched_.clear();
  }

  void Merge(uint32_t index) {
    const int32_t left = pairs_[index].left();
    const int32_t right = pairs_[index].right();
    const auto merged = static_cast<int32_t>(tokens_.size());
    tokens_.push_back(tokens_[static_cast<size_t>(left)] + tokens_[static_cast<size_t>(right)]);
    merges_.emplace_back(left, right);
    const std::vector<uint32_t> words = std::exchange(pairs_[index].words, {});
    for (const uint32_t word : words) MergeInWord(word, left, right, merged);
    QueueTouched();
  }

  // Replaces the pair from left to right, and counts which pairs go and which come.
  void MergeInWord(uint32_t w, int32_t left, int32_t right, int32_t merged) {
    Word& word = words_[w];
    int32_t* symbols = symbols_.data() + word.begin;
    uint32_t size = 0;
    for (uint32_t i = 0; i < word.size; ++i) {
      const bool is_pair = symbols[i] == left && i + 1 < word.size && symbols[i + 1] == right;
      if (!is_pair) {
        symbols[size++] = symbols[i];
        continue;
      }
      if (size > 0) {
        ChangeCount(symbols[size - 1], left, -word.count, w);
        ChangeCount(symbols[size - 1], merged, word.count, w);
      }
      ++i;
      if (i + 1 < word.size) {
        ChangeCount(right, symbols[i + 1], -word.count, w);
        ChangeCount(merged, symbols[i + 1], word.count, w);
      }
      symbols[size++] = merged;
    }
    word.size = size;
  }

  const BpeTrainerOptions options_;
  std::array<int32_t, kNumBytes> byte_ids_{};
  std::vector<std::string> tokens_;
  std::vector<std::pair<int32_t, int32_t>> merges_;

  std::vector<int32_t> symbols_;  // of all words
  std::vector<Word> words_;
  PairTable pairs_;
  std::vector<uint32_t> touched_;  // pairs with words, not yet queued
  std::priority_queue<Candidate> queue_;
};

}  // namespace

TrainedBpe TrainBpe(WordCounts words, const BpeTrainerOptions& options,
                    FunctionRef<void(size_t, size_t)> progress) {
  BALEEN_CHECK(options.num_reserved >= 0 && options.vocab_size >= options.num_reserved + kNumBytes);
  return BpeTraining(std::move(words), options).Run(progress);
}

}  // namespace baleen
