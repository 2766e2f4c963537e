#include "tokenizer/bpe.h"

#include <algorithm>
#include <bit>
#include <functional>

#include "base/check.h"
#include "tokenizer/hash.h"
#include "tokenizer/utf8.h"

namespace baleen {
namespace {

constexpr size_t kMinSlots = 16;
// Up to so many symbols, looking for the lowest rank by eye beats a queue.
constexpr size_t kMaxShort = 48;

}  // namespace

MergeTable::MergeTable(size_t expected_merges)
    : slots_(std::bit_ceil(std::max(2 * expected_merges, kMinSlots))) {}

bool MergeTable::Add(int32_t left, int32_t right, Merge merge) {
  BALEEN_CHECK(merge.rank >= 0 && merge.rank < Merge::kNone);
  if (2 * (num_merges_ + 1) > slots_.size()) Grow();
  const uint64_t pair = Key(left, right);
  Slot& slot = slots_[FindSlot(pair)];
  if (slot.merge.rank != Merge::kNone) return false;
  slot = {pair, merge};
  ++num_merges_;
  return true;
}

MergeTable::Merge MergeTable::Find(int32_t left, int32_t right) const {
  return slots_[FindSlot(Key(left, right))].merge;
}

size_t MergeTable::FindSlot(uint64_t pair) const {
  const size_t mask = slots_.size() - 1;
  size_t slot = HashInteger(pair) & mask;
  while (slots_[slot].merge.rank != Merge::kNone && slots_[slot].pair != pair) {
    slot = (slot + 1) & mask;
  }
  return slot;
}

void MergeTable::Grow() {
  std::vector<Slot> old(2 * slots_.size());
  old.swap(slots_);
  for (const Slot& entry : old) {
    if (entry.merge.rank != Merge::kNone) slots_[FindSlot(entry.pair)] = entry;
  }
}

Bpe::Bpe(const std::array<int32_t, 256>& byte_ids, MergeTable merges)
    : byte_ids_(byte_ids), merges_(std::move(merges)) {}

void Bpe::Encode(std::string_view piece, Workspace* workspace, std::vector<int32_t>* ids) const {
  if (piece.empty()) return;
  std::vector<Workspace::Symbol>& symbols = workspace->symbols;
  StartSymbols(piece, &symbols);
  if (symbols.size() <= kMaxShort) {
    MergeShort(&symbols);
    for (const Workspace::Symbol& symbol : symbols) ids->push_back(symbol.id);
  } else {
    MergeLong(workspace);
    for (int32_t i = 0; i >= 0; i = symbols[static_cast<size_t>(i)].next) {
      ids->push_back(symbols[static_cast<size_t>(i)].id);
    }
  }
}

void Bpe::StartSymbols(std::string_view piece, std::vector<Workspace::Symbol>* symbols) const {
  symbols->clear();
  const auto add = [&](char byte) {
    symbols->push_back({byte_ids_[static_cast<uint8_t>(byte)], 0, 0, {}});
  };
  for (const char byte : piece) {
    if (byte_ids_[static_cast<uint8_t>(byte)] != kNoToken) {
      add(byte);
    } else {
      for (const char replacement : kReplacementCharacter) add(replacement);
    }
  }
  for (size_t i = 0; i + 1 < symbols->size(); ++i) {
    (*symbols)[i].merge = merges_.Find((*symbols)[i].id, (*symbols)[i + 1].id);
  }
}

void Bpe::MergeShort(std::vector<Workspace::Symbol>* symbols) const {
  for (;;) {
    size_t best = 0;
    for (size_t i = 1; i < symbols->size(); ++i) {
      if ((*symbols)[i].merge.rank < (*symbols)[best].merge.rank) best = i;
    }
    const MergeTable::Merge merge = (*symbols)[best].merge;
    if (merge.rank == MergeTable::Merge::kNone) return;
    symbols->erase(symbols->begin() + static_cast<ptrdiff_t>(best) + 1);
    Workspace::Symbol& merged = (*symbols)[best];
    merged.id = merge.result;
    merged.merge = best + 1 < symbols->size() ? merges_.Find(merged.id, (*symbols)[best + 1].id)
                                              : MergeTable::Merge{};
    if (best > 0) {
      (*symbols)[best - 1].merge = merges_.Find((*symbols)[best - 1].id, merged.id);
    }
  }
}

void Bpe::MergeLong(Workspace* workspace) const {
  std::vector<Workspace::Symbol>& symbols = workspace->symbols;
  std::vector<uint64_t>& queue = workspace->queue;
  // Rank above index, so that the least entry is the lowest rank, leftmost.
  const auto entry = [](int32_t rank, int32_t i) {
    return static_cast<uint64_t>(rank) << 32 | static_cast<uint32_t>(i);
  };
  queue.clear();
  const auto last = static_cast<int32_t>(symbols.size()) - 1;
  for (int32_t i = 0; i <= last; ++i) {
    Workspace::Symbol& symbol = symbols[static_cast<size_t>(i)];
    symbol.previous = i - 1;
    symbol.next = i < last ? i + 1 : -1;
    if (symbol.merge.rank != MergeTable::Merge::kNone) queue.push_back(entry(symbol.merge.rank, i));
  }
  std::make_heap(queue.begin(), queue.end(), std::greater<>());

  const auto update = [&](int32_t i) {
    Workspace::Symbol& symbol = symbols[static_cast<size_t>(i)];
    symbol.merge = symbol.next < 0
                       ? MergeTable::Merge{}
                       : merges_.Find(symbol.id, symbols[static_cast<size_t>(symbol.next)].id);
    if (symbol.merge.rank == MergeTable::Merge::kNone) return;
    queue.push_back(entry(symbol.merge.rank, i));
    std::push_heap(queue.begin(), queue.end(), std::greater<>());
  };
  while (!queue.empty()) {
    std::pop_heap(queue.begin(), queue.end(), std::greater<>());
    const uint64_t top = queue.back();
    queue.pop_back();
    const auto i = static_cast<int32_t>(top & UINT32_MAX);
    Workspace::Symbol& left = symbols[static_cast<size_t>(i)];
    // An entry is out of date when its symbol has changed since, or was merged into another.
    if (left.merge.rank != static_cast<int32_t>(top >> 32)) continue;
    Workspace::Symbol& right = symbols[static_cast<size_t>(left.next)];
    left.id = left.merge.result;
    left.next = right.next;
    right.merge = {};
    if (left.next >= 0) symbols[static_cast<size_t>(left.next)].previous = i;
    update(i);
    if (left.previous >= 0) update(left.previous);
  }
}

}  // namespace baleen
