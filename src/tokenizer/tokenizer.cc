#include "tokenizer/tokenizer.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "base/error.h"
#include "tokenizer/hash.h"
#include "tokenizer/utf8.h"

namespace baleen {
namespace {

// Remembers where in the output the tokens of a piece are, as text repeats its words: most of the
// time of encoding English is then spent on finding pieces. One call's memory: nothing is shared
// between threads, and a longer text cannot make it grow beyond kMaxEntries.
class PieceCache {
 public:
  // Longer pieces seldom come twice.
  static constexpr size_t kMaxPieceBytes = 32;

  struct Entry {
    std::string_view piece;
    size_t first_id = 0;
    size_t num_ids = 0;
  };

  explicit PieceCache(size_t text_bytes)
      : entries_(std::bit_ceil(std::clamp<size_t>(text_bytes / 16, 1, kMaxEntries))) {}

  // The entry that `piece` has, or would have in place of another piece.
  Entry& At(std::string_view piece) { return entries_[HashBytes(piece) & (entries_.size() - 1)]; }

 private:
  static constexpr size_t kMaxEntries = 16384;

  std::vector<Entry> entries_;
};

}  // namespace

struct Tokenizer::Pieces {
  explicit Pieces(size_t text_bytes) : cache(text_bytes) {}

  std::vector<uint32_t> ends;
  PieceCache cache;
  Bpe::Workspace workspace;
};

Tokenizer::Tokenizer(Vocabulary vocabulary, AddedTokens added_tokens, Bpe bpe,
                     PreTokenizer pre_tokenizer, bool whole_pieces_first)
    : vocabulary_(std::move(vocabulary)),
      added_tokens_(std::move(added_tokens)),
      bpe_(std::move(bpe)),
      pre_tokenizer_(pre_tokenizer),
      whole_pieces_first_(whole_pieces_first),
      vocab_size_(vocabulary_.size()) {
  for (const AddedToken& token : added_tokens_.tokens()) {
    vocab_size_ = std::max(vocab_size_, token.id + 1);
  }
}

std::vector<int32_t> Tokenizer::Encode(std::string_view text, bool parse_special) const {
  if (text.size() > kMaxTextBytes) {
    Throw(ErrorCode::kInvalidArgument, "text of {} bytes is too long to encode at once (limit {})",
          text.size(), kMaxTextBytes);
  }
  std::vector<int32_t> ids;
  Pieces pieces(text.size());
  if (!parse_special) {
    EncodeOrdinary(text, &pieces, &ids);
    return ids;
  }
  for (const AddedTokens::Segment& segment : added_tokens_.Split(text)) {
    if (segment.token != nullptr) {
      ids.push_back(segment.token->id);
    } else {
      EncodeOrdinary(segment.text, &pieces, &ids);
    }
  }
  return ids;
}

void Tokenizer::EncodeOrdinary(std::string_view text, Pieces* pieces,
                               std::vector<int32_t>* ids) const {
  SplitIntoPieces(pre_tokenizer_, text, &pieces->ends);
  size_t begin = 0;
  for (const size_t end : pieces->ends) {
    const std::string_view piece = text.substr(begin, end - begin);
    begin = end;
    if (piece.size() > PieceCache::kMaxPieceBytes) {
      EncodePiece(piece, &pieces->workspace, ids);
      continue;
    }
    PieceCache::Entry& entry = pieces->cache.At(piece);
    if (entry.piece != piece) {
      const size_t first_id = ids->size();
      EncodePiece(piece, &pieces->workspace, ids);
      entry = {piece, first_id, ids->size() - first_id};
      continue;
    }
    for (size_t i = 0; i < entry.num_ids; ++i) ids->push_back((*ids)[entry.first_id + i]);
  }
}

void Tokenizer::EncodePiece(std::string_view piece, Bpe::Workspace* workspace,
                            std::vector<int32_t>* ids) const {
  if (whole_pieces_first_) {
    if (const std::optional<int32_t> id = vocabulary_.Find(piece)) {
      ids->push_back(*id);
      return;
    }
  }
  bpe_.Encode(piece, workspace, ids);
}

std::string Tokenizer::Decode(std::span<const int32_t> ids, bool skip_special) const {
  std::string bytes;
  for (const int32_t id : ids) {
    if (!skip_special || !IsSpecial(id)) bytes += TokenBytes(id);
  }
  std::string text;
  text.reserve(bytes.size());
  if (AppendValidUtf8(bytes, &text) < bytes.size()) text += kReplacementCharacter;
  return text;
}

std::string_view Tokenizer::TokenBytes(int32_t id) const {
  const AddedToken* added = added_tokens_.FindId(id);
  return added != nullptr ? added->name : vocabulary_.Bytes(id);
}

std::optional<int32_t> Tokenizer::TokenId(std::string_view name) const {
  const AddedToken* token = added_tokens_.FindName(name);
  if (token == nullptr) return std::nullopt;
  return token->id;
}

bool Tokenizer::IsSpecial(int32_t id) const {
  const AddedToken* token = added_tokens_.FindId(id);
  return token != nullptr && token->is_special;
}

}  // namespace baleen
