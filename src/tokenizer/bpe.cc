#include "tokenizer/bpe.h"

#include <algorithm>
#include <bit>
#include <tuple>
#include <utility>

#include "base/check.h"
#include "tokenizer/utf8.h"

namespace baleen {
namespace {

constexpr size_t kMinMergeSlots = 16;
constexpr size_t kMaxInitialSlots = size_t{1} << 22;  // a file can claim more than it holds
// Longer pieces are merged in windows of so many bytes: few enough for two levels of RankTree.
constexpr size_t kWindowBytes = 256;
// Tokens at the end of a window that the next one encodes again, as the cut may have changed them;
// fewer if they are longer than a quarter of the window.
constexpr size_t kOverlapTokens = 6;

}  // namespace

MergeTable::MergeTable(size_t expected_merges)
    : slots_(std::bit_ceil(std::clamp(2 * expected_merges, kMinMergeSlots, kMaxInitialSlots)),
             kEmpty),
      shift_(64 - std::countr_zero(slots_.size())) {
  results_.reserve(std::min(expected_merges, kMaxInitialSlots));
}

std::vector<MergeTable::Merge> MergeTable::List() const {
  std::vector<Merge> merges;
  merges.reserve(num_used_);
  for (const uint64_t content : slots_) {
    if (content == kEmpty) continue;
    const uint64_t pair = content >> kRankBits;
    merges.push_back({static_cast<int32_t>(content & kRankMask),
                      static_cast<int32_t>(pair >> kTokenBits),
                      static_cast<int32_t>(pair & ((uint64_t{1} << kTokenBits) - 1))});
  }
  std::ranges::sort(merges, {}, [](const Merge& m) { return std::tuple(m.rank, m.left, m.right); });
  return merges;
}

bool MergeTable::Add(int32_t left, int32_t right, int32_t rank, int32_t result) {
  BALEEN_CHECK(rank >= 0 && rank <= kMaxRank && left >= 0 && left >> kTokenBits == 0 &&
               right >= 0 && right >> kTokenBits == 0);
  if (Rank(left, right) != kNone) return false;
  if (2 * (num_used_ + 1) > slots_.size()) {
    std::vector<uint64_t> old(2 * slots_.size(), kEmpty);
    old.swap(slots_);
    --shift_;
    for (const uint64_t content : old) {
      if (content != kEmpty) Insert(content);
    }
  }
  Insert(Pair(left, right) << kRankBits | static_cast<uint64_t>(rank));
  ++num_used_;
  const auto index = static_cast<size_t>(rank);
  if (index >= results_.size()) results_.resize(index + 1);
  results_[index] = result;
  return true;
}

void MergeTable::Insert(uint64_t content) {
  size_t slot = Home(content >> kRankBits);
  while (slots_[slot] != kEmpty) slot = (slot + 1) & (slots_.size() - 1);
  slots_[slot] = content;
}

Bpe::Bpe(const std::array<int32_t, 256>& byte_ids, MergeTable merges)
    : byte_ids_(byte_ids), merges_(std::move(merges)) {}

// A long piece is merged window by window, which keeps its working set in the nearest cache and the
// time for each byte the same whatever the length. It is exact:
//
// Where no merge crosses the ends of a stretch of text, merging inside it goes as if it were alone.
// So tokens t1 t2 ... are the encoding of their text if, and only if, each neighbouring pair is the
// encoding of its own text. (A first merge across an end would also be the first one in the pair's
// own text, as all merges before it were the same.) Encodings of two neighbouring stretches may
// therefore be joined if the pair at the joint is known to be one that stands. The first token of
// the next window, when it is the one that followed there in this window, makes it such a pair.
void Bpe::Encode(std::string_view piece, Workspace* workspace, std::vector<int32_t>* ids) const {
  std::vector<int32_t>& bytes = workspace->bytes;
  bytes.clear();
  for (const char byte : piece) {
    const int32_t id = byte_ids_[static_cast<uint8_t>(byte)];
    if (id != kNoToken) {
      bytes.push_back(id);
    } else {
      for (const char part : kReplacementCharacter) {
        bytes.push_back(byte_ids_[static_cast<uint8_t>(part)]);
      }
    }
  }

  const std::vector<Workspace::Symbol>& symbols = workspace->symbols;
  const size_t first_id = ids->size();
  size_t window = kWindowBytes;
  int32_t expected = kNoToken;  // what the window before saw at `begin`
  for (size_t begin = 0; begin < bytes.size();) {
    const size_t size = std::min(window, bytes.size() - begin);
    const int32_t last = MergeWindow(std::span(bytes).subspan(begin, size), workspace);
    if (expected != kNoToken && symbols[0].id != expected) {
      // The text after the window before changes that window: begin again with larger ones.
      ids->resize(first_id);
      begin = 0;
      expected = kNoToken;
      window *= 2;
      continue;
    }
    auto stop = static_cast<int32_t>(size);
    if (begin + size < bytes.size()) {
      const auto latest_stop = static_cast<int32_t>(size - size / 4);
      stop = last;
      for (size_t i = 1; i < kOverlapTokens && stop > latest_stop; ++i) {
        stop = symbols[static_cast<size_t>(stop)].previous;
      }
      if (stop <= 0) {
        window *= 2;
        continue;
      }
      expected = symbols[static_cast<size_t>(stop)].id;
    }
    for (int32_t i = 0; i != stop; i = symbols[static_cast<size_t>(i)].next) {
      ids->push_back(symbols[static_cast<size_t>(i)].id);
    }
    begin += static_cast<size_t>(stop);
  }
}

int32_t Bpe::MergeWindow(std::span<const int32_t> bytes, Workspace* workspace) const {
  RankTree& ranks = workspace->ranks;
  ranks.Reset(bytes.size());
  workspace->symbols.resize(bytes.size());
  Workspace::Symbol* symbols = workspace->symbols.data();
  const auto size = static_cast<int32_t>(bytes.size());
  for (int32_t i = 0; i < size; ++i) symbols[i] = {bytes[static_cast<size_t>(i)], i - 1, i + 1};
  for (size_t i = 0; i + 1 < bytes.size(); ++i) {
    ranks.Fill(i, merges_.Rank(bytes[i], bytes[i + 1]));
  }
  ranks.Build();

  int32_t last = size - 1;
  for (;;) {
    const auto [rank, lowest] = ranks.Lowest();
    if (rank == MergeTable::kNone) return last;
    const auto i = static_cast<int32_t>(lowest);
    Workspace::Symbol& merged = symbols[i];
    merged.id = merges_.Result(rank);
    ranks.Set(static_cast<size_t>(merged.next), MergeTable::kNone);
    merged.next = symbols[merged.next].next;
    if (merged.next == size) {
      last = i;
      ranks.Set(lowest, MergeTable::kNone);
    } else {
      symbols[merged.next].previous = i;
      ranks.Set(lowest, merges_.Rank(merged.id, symbols[merged.next].id));
    }
    if (merged.previous != kNoSymbol) {
      ranks.Set(static_cast<size_t>(merged.previous),
                merges_.Rank(symbols[merged.previous].id, merged.id));
    }
  }
}

}  // namespace baleen
