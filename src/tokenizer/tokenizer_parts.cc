// Loads the vocabulary of a GGUF file, and lists one for it.

#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/tokenizer_builder.h"

namespace baleen {
namespace {

PreTokenizer PreTokenizerByName(std::string_view name, const std::string& source) {
  if (name == "deepseek-llm") return PreTokenizer::kDeepseekLlm;
  if (name == "deepseek-v3") return PreTokenizer::kDeepseekV3;
  if (name == "kimi-k2") return PreTokenizer::kKimiChunked;
  Throw(ErrorCode::kUnimplemented,
        "{}: pre-tokenizer \"{}\" is not supported; deepseek-llm, deepseek-v3 and kimi-k2 are",
        source, name.substr(0, 64));
}

std::string_view NameOf(PreTokenizer pre_tokenizer) {
  switch (pre_tokenizer) {
    case PreTokenizer::kDeepseekLlm:
      return "deepseek-llm";
    case PreTokenizer::kDeepseekV3:
      return "deepseek-v3";
    case PreTokenizer::kKimi:
    case PreTokenizer::kKimiChunked:
      return "kimi-k2";
  }
  return "";
}

// Spelled like a control token, whatever its flag says.
bool LooksSpecial(std::string_view name) {
  return (name.starts_with("<|") && name.ends_with("|>")) ||
         (name.starts_with("<｜") && name.ends_with("｜>"));
}

// The pair of tokens that merge last when token `id`, `bytes`, is made by rank, if one does.
std::optional<MergeTable::Merge> LastMerge(const Vocabulary& vocabulary, const MergeTable& merges,
                                           int32_t id, std::string_view bytes) {
  std::vector<int32_t> parts;
  for (const char& byte : bytes) {
    const auto part = vocabulary.Find({&byte, 1});
    if (!part) return std::nullopt;
    parts.push_back(*part);
  }
  while (parts.size() > 2) {
    size_t best = 0;
    int32_t best_rank = id;
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      const int32_t rank = merges.Rank(parts[i], parts[i + 1]);
      if (rank >= best_rank) continue;
      best = i;
      best_rank = rank;
    }
    if (best_rank == id) return std::nullopt;
    parts[best] = merges.Result(best_rank);
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
  if (parts.size() != 2 || merges.Rank(parts[0], parts[1]) != id) return std::nullopt;
  return MergeTable::Merge{id, parts[0], parts[1]};
}

std::vector<MergeTable::Merge> LastMerges(const Vocabulary& vocabulary, const MergeTable& merges) {
  std::vector<MergeTable::Merge> list;
  for (int32_t id = 0; id < vocabulary.size(); ++id) {
    const std::string_view bytes = vocabulary.Bytes(id);
    if (bytes.size() < 2 || vocabulary.Find(bytes) != id) continue;
    if (const auto merge = LastMerge(vocabulary, merges, id, bytes)) list.push_back(*merge);
  }
  return list;
}

std::string ToByteLevel(std::string_view bytes) {
  std::string spelling;
  AppendByteLevel(bytes, &spelling);
  return spelling;
}

}  // namespace

TokenizerParts TokenizerListing::Parts() const {
  return {
      pre_tokenizer, {tokens.begin(), tokens.end()}, token_types, {merges.begin(), merges.end()}};
}

TokenizerListing Tokenizer::List(size_t num_tokens) const {
  BALEEN_CHECK(num_tokens >= static_cast<size_t>(vocab_size_));
  TokenizerListing listing;
  listing.pre_tokenizer = NameOf(pre_tokenizer_);
  const bool merges_by_rank = listing.pre_tokenizer == "kimi-k2";
  if (whole_pieces_first_ != merges_by_rank) {
    Throw(ErrorCode::kUnimplemented, "a tokenizer that {} cannot be written to GGUF",
          whole_pieces_first_ ? "looks words up before it merges (ignore_merges)"
                              : "cuts text as Kimi does but merges by a list");
  }
  for (size_t i = 0; i < num_tokens; ++i) {
    const auto id = static_cast<int32_t>(i);
    const AddedToken* added = added_tokens_.FindId(id);
    if (added != nullptr) {
      const bool is_control = added->is_special || LooksSpecial(added->name);
      listing.tokens.push_back(added->name);
      listing.token_types.push_back(is_control ? TokenizerParts::kControl
                                               : TokenizerParts::kUserDefined);
      continue;
    }
    const bool is_text = vocabulary_.Contains(id);
    const std::string_view bytes = vocabulary_.Bytes(id);
    const bool is_hidden = is_text && vocabulary_.Find(bytes) != id;
    listing.tokens.push_back(!is_text    ? fmt::format("[PAD{}]", id)
                             : is_hidden ? std::string(bytes)
                                         : ToByteLevel(bytes));
    listing.token_types.push_back(is_text ? TokenizerParts::kNormal : TokenizerParts::kUnused);
  }
  const MergeTable& merges = bpe_.merges();
  for (const MergeTable::Merge& merge :
       merges_by_rank ? LastMerges(vocabulary_, merges) : merges.List()) {
    listing.merges.push_back(ToByteLevel(vocabulary_.Bytes(merge.left)) + " " +
                             ToByteLevel(vocabulary_.Bytes(merge.right)));
  }
  return listing;
}

std::unique_ptr<Tokenizer> Tokenizer::FromParts(const TokenizerParts& parts, std::string source) {
  const PreTokenizer pre_tokenizer = PreTokenizerByName(parts.pre_tokenizer, source);
  if (parts.tokens.size() != parts.token_types.size()) {
    Throw(ErrorCode::kCorruption, "{}: {} tokens but {} token types", source, parts.tokens.size(),
          parts.token_types.size());
  }
  size_t num_bytes = 0;
  for (const std::string_view token : parts.tokens) num_bytes += token.size();
  for (const std::string_view merge : parts.merges) num_bytes += merge.size();
  TokenizerBuilder builder(source, num_bytes, parts.tokens.size(), parts.merges.size());
  for (size_t i = 0; i < parts.tokens.size(); ++i) {
    const auto id = static_cast<int64_t>(i);
    switch (parts.token_types[i]) {
      case TokenizerParts::kNormal:
        builder.AddTextToken(id, parts.tokens[i]);
        break;
      case TokenizerParts::kControl:
        builder.AddAddedToken({id, parts.tokens[i], /*is_special=*/true});
        break;
      case TokenizerParts::kUserDefined:
        builder.AddAddedToken({id, parts.tokens[i], /*is_special=*/false});
        break;
      case TokenizerParts::kUnused:
        break;
      default:
        Throw(ErrorCode::kUnimplemented, "{}: token {} has type {}, which is not supported", source,
              id, parts.token_types[i]);
    }
  }
  // Kimi's rule needs no list, and the lists in GGUF files keep one way of many to make each token.
  const bool merges_by_rank = pre_tokenizer == PreTokenizer::kKimiChunked;
  if (merges_by_rank) {
    builder.AddMergesByRank();
  } else {
    for (const std::string_view merge : parts.merges) builder.AddMerge(merge);
  }
  return std::move(builder).Build(pre_tokenizer, /*whole_pieces_first=*/merges_by_rank);
}

}  // namespace baleen
