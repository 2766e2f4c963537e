#include "tokenizer/word_counts.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "base/check.h"
#include "tokenizer/hash.h"
#include "tokenizer/unicode.h"
#include "tokenizer/utf8.h"

namespace baleen {

WordCounts::WordCounts(size_t max_bytes) : max_bytes_(max_bytes) {
  BALEEN_CHECK(max_bytes >= kMinMaxBytes);
  Rehash(1024);
}

void WordCounts::AddText(PreTokenizer pre_tokenizer, std::string_view text) {
  SplitIntoPieces(pre_tokenizer, text, &ends_);
  size_t begin = 0;
  for (const size_t end : ends_) {
    Add(text.substr(begin, end - begin));
    begin = end;
  }
}

void WordCounts::Add(std::string_view word) {
  ++num_words_;
  const auto hash = static_cast<uint32_t>(HashBytes(word));
  size_t slot = FindSlot(word, hash);
  if (slots_[slot] != kEmpty) {
    ++entries_[slots_[slot]].count;
    return;
  }
  if (UsedBytes() > max_bytes_) {
    DropRarest();
    slot = FindSlot(word, hash);
  }
  slots_[slot] = static_cast<uint32_t>(entries_.size());
  entries_.push_back({Store(word), static_cast<uint32_t>(word.size()), hash, 1});
  if (entries_.size() * 2 > slots_.size()) Rehash(slots_.size() * 2);
}

size_t WordCounts::UsedBytes() const {
  return entries_.size() * (sizeof(Entry) + 2 * sizeof(uint32_t)) + stored_bytes_;
}

const char* WordCounts::Store(std::string_view word) {
  stored_bytes_ += word.size();
  if (word.size() > block_left_) {
    const size_t bytes = std::max(kBlockBytes, word.size());
    blocks_.push_back(std::make_unique_for_overwrite<char[]>(bytes));
    block_left_ = bytes;
    block_end_ = blocks_.back().get() + bytes;
  }
  char* data = block_end_ - block_left_;
  std::memcpy(data, word.data(), word.size());
  block_left_ -= word.size();
  return data;
}

size_t WordCounts::FindSlot(std::string_view word, uint32_t hash) const {
  const size_t mask = slots_.size() - 1;
  size_t slot = hash & mask;
  while (slots_[slot] != kEmpty) {
    const Entry& entry = entries_[slots_[slot]];
    if (entry.hash == hash && entry.word() == word) break;
    slot = (slot + 1) & mask;
  }
  return slot;
}

void WordCounts::Rehash(size_t num_slots) {
  slots_.assign(num_slots, kEmpty);
  for (size_t i = 0; i < entries_.size(); ++i) {
    size_t slot = entries_[i].hash & (num_slots - 1);
    while (slots_[slot] != kEmpty) slot = (slot + 1) & (num_slots - 1);
    slots_[slot] = static_cast<uint32_t>(i);
  }
}

void WordCounts::DropRarest() {
  std::map<uint64_t, size_t> bytes_of_count;
  for (const Entry& entry : entries_) {
    bytes_of_count[entry.count] += sizeof(Entry) + 2 * sizeof(uint32_t) + entry.size;
  }
  size_t left = UsedBytes();
  uint64_t least = 0;  // words with at most this count go
  for (const auto& [count, bytes] : bytes_of_count) {
    if (left <= max_bytes_ / 2) break;
    left -= bytes;
    least = count;
  }
  const std::vector<Entry> entries = std::exchange(entries_, {});
  const auto blocks = std::exchange(blocks_, {});
  block_left_ = stored_bytes_ = 0;
  for (const Entry& entry : entries) {
    if (entry.count <= least) {
      num_dropped_ += entry.count;
      continue;
    }
    entries_.push_back({Store(entry.word()), entry.size, entry.hash, entry.count});
  }
  Rehash(slots_.size());
}

bool IsSafeCut(PreTokenizer pre_tokenizer, std::string_view text, size_t pos) {
  BALEEN_CHECK(pre_tokenizer == PreTokenizer::kDeepseekV3);
  if (text[pos - 1] != '\n') return false;
  const Utf8Char next = DecodeUtf8(text.substr(pos));
  return (CharClassTable::Get()[next.code_point] & kSpace) == 0;
}

}  // namespace baleen
