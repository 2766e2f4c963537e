#include "tokenizer/tokenizer_builder.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "base/quote.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/utf8.h"

namespace baleen {
namespace {

// C0, C1 and F5 to FF: no UTF-8 has them, and vocabularies may leave them out.
bool OccursInUtf8(int byte) { return byte < 0xC0 || (byte > 0xC1 && byte < 0xF5); }

}  // namespace

TokenizerBuilder::TokenizerBuilder(std::string source, size_t source_bytes, size_t expected_tokens,
                                   size_t expected_merges)
    : source_(std::move(source)),
      vocabulary_(expected_tokens, std::min(source_bytes, Tokenizer::kMaxFileBytes)),
      merges_(expected_merges) {
  if (source_bytes > Tokenizer::kMaxFileBytes) {
    Throw(ErrorCode::kCorruption, "{}: {} bytes, more than the {} that a vocabulary may have",
          source_, source_bytes, Tokenizer::kMaxFileBytes);
  }
}

void TokenizerBuilder::CheckId(int64_t id) const {
  if (id < 0 || id >= Vocabulary::kMaxTokens) {
    Throw(ErrorCode::kCorruption, "{}: token id {} is out of range (0 to {})", source_, id,
          Vocabulary::kMaxTokens - 1);
  }
}

void TokenizerBuilder::AddTextToken(int64_t id, std::string_view spelling) {
  CheckId(id);
  scratch_.clear();
  if (AppendFromByteLevel(spelling, &scratch_)) {
    AddTextTokenBytes(id, scratch_);
    return;
  }
  if (!hidden_ids_.emplace(spelling, id).second || !vocabulary_.AddHidden(id, spelling)) {
    Throw(ErrorCode::kCorruption, "{}: token {} or its id {} is in the vocabulary twice", source_,
          Quote(spelling), id);
  }
}

void TokenizerBuilder::AddTextTokenBytes(int64_t id, std::string_view bytes) {
  CheckId(id);
  if (bytes.empty()) {
    Throw(ErrorCode::kCorruption, "{}: token {} of the vocabulary is empty", source_, id);
  }
  if (!vocabulary_.Add(id, bytes)) {
    Throw(ErrorCode::kCorruption, "{}: token {} or its id {} is in the vocabulary twice", source_,
          Quote(bytes), id);
  }
}

void TokenizerBuilder::AddAddedToken(const Added& token) {
  const auto& [id, name, is_special, is_normalized] = token;
  CheckId(id);
  if (name.empty()) {
    Throw(ErrorCode::kCorruption, "{}: the added token with id {} has an empty name", source_, id);
  }
  if (name.size() > AddedTokens::kMaxNameBytes) {
    Throw(ErrorCode::kUnimplemented,
          "{}: the added token with id {} has a name of {} bytes (limit {})", source_, id,
          name.size(), AddedTokens::kMaxNameBytes);
  }
  if (vocabulary_.Contains(id) && vocabulary_.Bytes(id) != BytesOfSpelling(name)) {
    Throw(ErrorCode::kCorruption, "{}: added token {} has the id {} of another token", source_,
          Quote(name), id);
  }
  if (!added_tokens_.Add(
          {static_cast<int32_t>(id), std::string(name), is_special, is_normalized})) {
    Throw(ErrorCode::kCorruption, "{}: added token {} or its id {} is there twice", source_,
          Quote(name), id);
  }
}

void TokenizerBuilder::CheckIdOfName(const Added& token) {
  std::optional<int64_t> text_id;
  const auto hidden = hidden_ids_.find(std::string(token.name));
  if (hidden != hidden_ids_.end()) {
    text_id = hidden->second;
  } else {
    text_id = vocabulary_.Find(BytesOfSpelling(token.name));
  }
  if (text_id && *text_id != token.id) {
    Throw(ErrorCode::kCorruption, "{}: added token {} has id {}, but the vocabulary gives it {}",
          source_, Quote(token.name), token.id, *text_id);
  }
}

std::string_view TokenizerBuilder::BytesOfSpelling(std::string_view name) {
  scratch_.clear();
  return AppendFromByteLevel(name, &scratch_) ? std::string_view(scratch_) : name;
}

void TokenizerBuilder::AddMerge(std::string_view pair) {
  const size_t space = pair.find(' ');
  if (space == std::string_view::npos || pair.find(' ', space + 1) != std::string_view::npos) {
    Throw(ErrorCode::kCorruption, "{}: merge {} ({}) is not two tokens with a space between",
          source_, num_merges_, Quote(pair));
  }
  AddMerge(pair.substr(0, space), pair.substr(space + 1));
}

void TokenizerBuilder::AddMerge(std::string_view left, std::string_view right) {
  if (num_merges_ > MergeTable::kMaxRank) {
    Throw(ErrorCode::kCorruption, "{}: more than {} merges", source_, MergeTable::kMaxRank);
  }
  scratch_.clear();
  size_t split = 0;
  bool is_byte_level = AppendFromByteLevel(left, &scratch_);
  split = scratch_.size();
  is_byte_level = is_byte_level && AppendFromByteLevel(right, &scratch_);
  if (!is_byte_level) {
    Throw(ErrorCode::kUnimplemented, "{}: merge {} ({} and {}) is not in byte-level spelling",
          source_, num_merges_, Quote(left), Quote(right));
  }
  const std::string_view whole = scratch_;
  const int32_t left_id = FindMergePart(whole.substr(0, split), left, right);
  const int32_t right_id = FindMergePart(whole.substr(split), left, right);
  const int32_t result = FindMergePart(whole, left, right);
  if (!merges_.Add(left_id, right_id, num_merges_, result)) {
    Throw(ErrorCode::kCorruption, "{}: merge {} ({} and {}) is there twice", source_, num_merges_,
          Quote(left), Quote(right));
  }
  ++num_merges_;
}

int32_t TokenizerBuilder::FindMergePart(std::string_view bytes, std::string_view left,
                                        std::string_view right) const {
  const std::optional<int32_t> id = vocabulary_.Find(bytes);
  if (!id) {
    Throw(ErrorCode::kCorruption,
          "{}: merge {} ({} and {}) takes or makes a token that is not in the vocabulary", source_,
          num_merges_, Quote(left), Quote(right));
  }
  return *id;
}

void TokenizerBuilder::AddMergesByRank() {
  for (int32_t id = 0; id < vocabulary_.size(); ++id) {
    const std::string_view bytes = vocabulary_.Bytes(id);
    if (vocabulary_.Find(bytes) != id) continue;  // hidden, or a hole
    if (bytes.size() > kMaxRankedBytes) {
      Throw(ErrorCode::kUnimplemented, "{}: token {} has {} bytes (limit {})", source_, id,
            bytes.size(), kMaxRankedBytes);
    }
    for (size_t split = 1; split < bytes.size(); ++split) {
      const std::optional<int32_t> left = vocabulary_.Find(bytes.substr(0, split));
      if (!left) continue;
      const std::optional<int32_t> right = vocabulary_.Find(bytes.substr(split));
      if (right) BALEEN_CHECK(merges_.Add(*left, *right, id, id));
    }
  }
}

std::unique_ptr<Tokenizer> TokenizerBuilder::Build(PreTokenizer pre_tokenizer,
                                                   bool whole_pieces_first) && {
  std::array<int32_t, 256> byte_ids;
  for (int byte = 0; byte < 256; ++byte) {
    const char as_char = static_cast<char>(byte);
    const std::optional<int32_t> id = vocabulary_.Find({&as_char, 1});
    if (!id && OccursInUtf8(byte)) {
      Throw(ErrorCode::kCorruption, "{}: the vocabulary has no token for the byte 0x{:02X}",
            source_, byte);
    }
    byte_ids[static_cast<size_t>(byte)] = id.value_or(Bpe::kNoToken);
  }
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::move(vocabulary_), std::move(added_tokens_),
                                                  Bpe(byte_ids, std::move(merges_)), pre_tokenizer,
                                                  whole_pieces_first));
}

}  // namespace baleen
