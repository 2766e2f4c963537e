// tokenizer/tokenizer_builder.h: what the loaders share: checks one by one what a file says, then
// makes the tokenizer. Private to this folder.
//
// Every method throws Error{kCorruption} that names the source if the new fact contradicts the ones
// before it. Text tokens come first, then added tokens and merges.
#ifndef BALEEN_TOKENIZER_TOKENIZER_BUILDER_H_
#define BALEEN_TOKENIZER_TOKENIZER_BUILDER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "tokenizer/tokenizer.h"

namespace baleen {

class TokenizerBuilder {
 public:
  // Longest token that AddMergesByRank takes apart (Kimi's longest has 256 bytes). Its time grows
  // with the square of this.
  static constexpr size_t kMaxRankedBytes = 512;

  // source_bytes: how much the file has to say, at most Tokenizer::kMaxFileBytes. The other sizes
  // only set memory aside.
  TokenizerBuilder(std::string source, size_t source_bytes, size_t expected_tokens,
                   size_t expected_merges);

  // A text token in byte-level spelling. One that isn't spelled so can't be merged from bytes and
  // is found only if it is an added token as well.
  void AddTextToken(int64_t id, std::string_view spelling);
  // A text token by its bytes.
  void AddTextTokenBytes(int64_t id, std::string_view bytes);

  // A token found by name; the fields are those of AddedToken.
  struct Added {
    int64_t id;
    std::string_view name;
    bool is_special;
    bool is_normalized = false;
  };
  // Where the vocabulary has its id, it must be the same token.
  void AddAddedToken(const Added& token);
  // For files in which a name is a token of the vocabulary if that has it: the id must be the same.
  void CheckIdOfName(const Added& token);

  // The next merge: of two text tokens, in byte-level spelling, into a third.
  void AddMerge(std::string_view left, std::string_view right);
  // The same, as "left right".
  void AddMerge(std::string_view pair);
  // All merges of tiktoken's rule: two tokens merge if their bytes together are a token, and rank
  // as that token's id.
  void AddMergesByRank();

  std::unique_ptr<Tokenizer> Build(PreTokenizer pre_tokenizer, bool whole_pieces_first) &&;

 private:
  void CheckId(int64_t id) const;
  // The bytes that a name stands for as a text token: of its byte-level spelling if it is one.
  // Valid until the next call of any method.
  std::string_view BytesOfSpelling(std::string_view name);
  int32_t FindMergePart(std::string_view bytes, std::string_view left,
                        std::string_view right) const;

  std::string source_;
  Vocabulary vocabulary_;
  std::unordered_map<std::string, int64_t> hidden_ids_;  // text tokens in no byte-level spelling
  AddedTokens added_tokens_;
  MergeTable merges_;
  int32_t num_merges_ = 0;
  std::string scratch_;
};

}  // namespace baleen

#endif  // BALEEN_TOKENIZER_TOKENIZER_BUILDER_H_
