#include "tokenizer/vocabulary.h"

#include <algorithm>
#include <bit>

#include "base/check.h"
#include "tokenizer/hash.h"

namespace baleen {
namespace {

constexpr size_t kMinSlots = 16;

uint32_t Hash(std::string_view bytes) { return static_cast<uint32_t>(HashBytes(bytes)); }

}  // namespace

Vocabulary::Vocabulary(size_t expected_tokens, size_t expected_bytes) {
  expected_tokens = std::min(expected_tokens, static_cast<size_t>(kMaxTokens));
  bytes_.reserve(expected_bytes);
  tokens_.reserve(expected_tokens);
  Rehash(std::bit_ceil(std::max(2 * expected_tokens, kMinSlots)));
}

bool Vocabulary::Add(int64_t id, std::string_view bytes) {
  const uint32_t hash = Hash(bytes);
  size_t slot = FindSlot(bytes, hash);
  if (slots_[slot].id != kEmpty || !AddHidden(id, bytes)) return false;
  if (2 * (num_indexed_ + 1) > slots_.size()) {
    Rehash(2 * slots_.size());
    slot = FindSlot(bytes, hash);
  }
  slots_[slot] = {hash, static_cast<int32_t>(id)};
  ++num_indexed_;
  return true;
}

bool Vocabulary::AddHidden(int64_t id, std::string_view bytes) {
  BALEEN_CHECK(id >= 0 && id < kMaxTokens);
  BALEEN_CHECK(bytes_.size() + bytes.size() < kHole);
  if (Contains(id)) return false;
  if (id >= size()) tokens_.resize(static_cast<size_t>(id) + 1);
  tokens_[static_cast<size_t>(id)] = {static_cast<uint32_t>(bytes_.size()),
                                      static_cast<uint32_t>(bytes.size())};
  bytes_.append(bytes);
  return true;
}

std::optional<int32_t> Vocabulary::Find(std::string_view bytes) const {
  const Slot& slot = slots_[FindSlot(bytes, Hash(bytes))];
  if (slot.id == kEmpty) return std::nullopt;
  return slot.id;
}

bool Vocabulary::Contains(int64_t id) const {
  return id >= 0 && id < size() && tokens_[static_cast<size_t>(id)].num_bytes != kHole;
}

std::string_view Vocabulary::Bytes(int64_t id) const {
  if (!Contains(id)) return {};
  const Token& token = tokens_[static_cast<size_t>(id)];
  return std::string_view(bytes_).substr(token.offset, token.num_bytes);
}

size_t Vocabulary::FindSlot(std::string_view bytes, uint32_t hash) const {
  const size_t mask = slots_.size() - 1;
  size_t slot = hash & mask;
  while (slots_[slot].id != kEmpty &&
         (slots_[slot].hash != hash || Bytes(slots_[slot].id) != bytes)) {
    slot = (slot + 1) & mask;
  }
  return slot;
}

void Vocabulary::Rehash(size_t num_slots) {
  std::vector<Slot> old(num_slots, Slot{0, kEmpty});
  old.swap(slots_);
  for (const Slot& entry : old) {
    if (entry.id == kEmpty) continue;
    size_t slot = entry.hash & (num_slots - 1);
    while (slots_[slot].id != kEmpty) slot = (slot + 1) & (num_slots - 1);
    slots_[slot] = entry;
  }
}

}  // namespace baleen
