// Loads the vocabulary of a GGUF file.

#include <utility>

#include "base/error.h"
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

}  // namespace

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
