// tokenizer/word_counts.h: how often each word of a text comes, in bounded memory.
//
// Words are the pieces that a pre-tokenizer cuts. All are counted until their table has grown to
// `max_bytes`; then the rarest go until half of it is free, and counting continues. A word that
// went and comes again starts from nothing, so counts may be short by what was dropped, never too
// high (lossy counting, Manku and Motwani, VLDB 2002). Texts of many gigabytes can be counted so;
// those of some hundred megabytes never reach the default.
#ifndef BALEEN_TOKENIZER_WORD_COUNTS_H_
#define BALEEN_TOKENIZER_WORD_COUNTS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "tokenizer/pre_tokenizer.h"

namespace baleen {

// Threads: one at a time.
class WordCounts {
 public:
  static constexpr size_t kDefaultMaxBytes = size_t{1} << 30;
  static constexpr size_t kMinMaxBytes = size_t{1} << 16;

  struct Entry {
    const char* data;
    uint32_t size;
    uint32_t hash;
    uint64_t count;

    std::string_view word() const { return {data, size}; }
  };

  // max_bytes >= kMinMaxBytes. One word longer than that is still taken.
  explicit WordCounts(size_t max_bytes = kDefaultMaxBytes);

  // Counts the pieces of one document. A long text may come as several calls if it is cut where
  // IsSafeCut says so.
  void AddText(PreTokenizer pre_tokenizer, std::string_view text);
  void Add(std::string_view word);

  // In the order of their first appearance.
  const std::vector<Entry>& entries() const { return entries_; }
  // Sum of all counts that were added, the dropped ones included.
  uint64_t num_words() const { return num_words_; }
  // Sum of the counts that were dropped.
  uint64_t num_dropped() const { return num_dropped_; }

 private:
  static constexpr size_t kBlockBytes = size_t{1} << 20;
  static constexpr uint32_t kEmpty = UINT32_MAX;

  size_t UsedBytes() const;
  const char* Store(std::string_view word);
  size_t FindSlot(std::string_view word, uint32_t hash) const;
  void Rehash(size_t num_slots);
  void DropRarest();

  size_t max_bytes_;
  std::vector<Entry> entries_;
  std::vector<uint32_t> slots_;  // indices of entries; a power of two, at most half of them used
  std::vector<std::unique_ptr<char[]>> blocks_;
  char* block_end_ = nullptr;  // of the last block
  size_t block_left_ = 0;      // bytes free before it
  size_t stored_bytes_ = 0;
  uint64_t num_words_ = 0;
  uint64_t num_dropped_ = 0;
  std::vector<uint32_t> ends_;  // of AddText, kept for its memory
};

// May the text be cut at `pos`, 0 < pos < text.size(), so that both parts are split into the pieces
// that they have as one text? True between a line break and a character that is not white space,
// where no pattern of `pre_tokenizer` reaches across. Requires kDeepseekV3.
bool IsSafeCut(PreTokenizer pre_tokenizer, std::string_view text, size_t pos);

}  // namespace baleen

#endif  // BALEEN_TOKENIZER_WORD_COUNTS_H_
