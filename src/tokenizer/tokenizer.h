// tokenizer/tokenizer.h: text to token ids and back.
//
//   auto tokenizer = Tokenizer::FromJson(ReadFile(path, Tokenizer::kMaxFileBytes), path);
//   std::vector<int32_t> ids = tokenizer->Encode("Once upon a time", true);
//   std::string text = tokenizer->Decode(ids, true);
//
// Byte-level BPE of the DeepSeek and Kimi families, id for id that of the `tokenizers` and
// `tiktoken` libraries. A file that asks for anything else (another pre-tokenizer, a normalizer, an
// option of the model) is refused, not approximated. No beginning-of-text token is ever added:
// whoever opens the checkpoint knows whether one belongs.
#ifndef BALEEN_TOKENIZER_TOKENIZER_H_
#define BALEEN_TOKENIZER_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/vocabulary.h"

namespace baleen {

// A vocabulary as GGUF stores it (tokenizer.ggml.*). The views must live until FromParts returns.
struct TokenizerParts {
  // Values of tokenizer.ggml.token_type.
  enum TokenType : int32_t { kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5 };

  std::string_view pre_tokenizer;        // "deepseek-llm", "deepseek-v3" or "kimi-k2"
  std::vector<std::string_view> tokens;  // by id; normal ones in byte-level spelling
  std::vector<int32_t> token_types;      // as many as tokens
  std::vector<std::string_view> merges;  // "left right", lowest rank first; kimi-k2 needs none
};

// What a TokenizerParts shows, with the texts themselves.
struct TokenizerListing {
  std::string_view pre_tokenizer;
  std::vector<std::string> tokens;
  std::vector<int32_t> token_types;
  std::vector<std::string> merges;

  TokenizerParts Parts() const;
};

// Immutable, thread-safe.
class Tokenizer {
 public:
  // Largest file worth reading; the largest published one has 8 MB.
  static constexpr size_t kMaxFileBytes = size_t{64} << 20;
  // Longest text that Encode takes.
  static constexpr size_t kMaxTextBytes = size_t{1} << 29;

  // The loaders. `source` names the file in errors.
  // Errors: kCorruption, the file is damaged or contradicts itself. kUnimplemented, it asks for
  // something that this build does not compute.

  // A Hugging Face tokenizer.json.
  static std::unique_ptr<Tokenizer> FromJson(std::string_view json, std::string source);

  // Kimi's tiktoken.model, and the tokenizer_config.json beside it for the names of the 256 special
  // tokens that follow the ranks.
  static std::unique_ptr<Tokenizer> FromTiktoken(std::string_view ranks,
                                                 std::string_view tokenizer_config_json,
                                                 std::string source);

  // The vocabulary of a GGUF file. Control tokens become special, user-defined ones added tokens.
  static std::unique_ptr<Tokenizer> FromParts(const TokenizerParts& parts, std::string source);

  // The way back, as llama.cpp's converter lists a vocabulary: `num_tokens` tokens, at least
  // vocab_size(), those without a text named "[PAD7]"; added tokens are control tokens if they are
  // special or spelled like "<|...|>", else user-defined. Kimi's merges are listed too, one for
  // each token. Error{kUnimplemented} for what such a list cannot say.
  TokenizerListing List(size_t num_tokens) const;

  // Encodes `text`, any bytes. With `parse_special`, names of added tokens in the text become these
  // tokens, special or not; without, they are text like any other (for content that users type).
  // Broken UTF-8 is encoded byte by byte and decodes to U+FFFD; where the vocabulary has no token
  // for such a byte, it is encoded as U+FFFD.
  // Error{kInvalidArgument} if the text is longer than kMaxTextBytes.
  std::vector<int32_t> Encode(std::string_view text, bool parse_special) const;

  // The text of `ids`, always valid UTF-8: broken parts become U+FFFD. Ids outside the vocabulary
  // decode to nothing. With `skip_special`, tokens with IsSpecial are left out.
  // (`tokenizers` decodes the name of an added token as if it were in byte-level spelling; here the
  // name is the text. They differ for names made of Latin-1 letters, such as "ü".)
  std::string Decode(std::span<const int32_t> ids, bool skip_special) const;

  // The bytes of one token, which may be part of a character; the name of an added token. Empty for
  // an id outside the vocabulary. Valid as long as the tokenizer.
  std::string_view TokenBytes(int32_t id) const;

  // The id of an added token by its name.
  std::optional<int32_t> TokenId(std::string_view name) const;

  // Is it an added token that is flagged special (dropped by skip_special)?
  bool IsSpecial(int32_t id) const;
  // Is it found by its name (special or not)?
  bool IsAdded(int32_t id) const { return added_tokens_.FindId(id) != nullptr; }
  const std::vector<AddedToken>& added_tokens() const { return added_tokens_.tokens(); }

  // One past the highest id; a model's embedding may have more rows.
  int32_t vocab_size() const { return vocab_size_; }

 private:
  friend class TokenizerBuilder;
  struct Pieces;

  Tokenizer(Vocabulary vocabulary, AddedTokens added_tokens, Bpe bpe, PreTokenizer pre_tokenizer,
            bool whole_pieces_first);

  void EncodeOrdinary(std::string_view text, Pieces* pieces, std::vector<int32_t>* ids) const;
  void EncodePiece(std::string_view piece, Bpe::Workspace* workspace,
                   std::vector<int32_t>* ids) const;

  Vocabulary vocabulary_;
  AddedTokens added_tokens_;
  Bpe bpe_;
  PreTokenizer pre_tokenizer_;
  bool whole_pieces_first_;  // a piece that is a token is not merged from its bytes
  int32_t vocab_size_;
};

}  // namespace baleen

#endif  // BALEEN_TOKENIZER_TOKENIZER_H_
