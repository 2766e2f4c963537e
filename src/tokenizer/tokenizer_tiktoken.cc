// Loads Kimi's tiktoken.model (spec/formats.md section 9) and the names of its special tokens.

#include <algorithm>
#include <charconv>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/quote.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/tokenizer_builder.h"
#include "tokenizer/tokenizer_json_reader.h"

namespace baleen {
namespace {

// Ids after the last rank that are special tokens, named or not.
constexpr int64_t kNumSpecialTokens = 256;

// The value of a base64 character, or nothing.
std::optional<uint32_t> SextetOf(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '+') return 62;
  if (c == '/') return 63;
  return std::nullopt;
}

// Replaces `bytes` by what `text` encodes. False if it is not base64 in its only form: padded to
// four characters, the unused bits of the last one zero.
bool DecodeBase64(std::string_view text, std::string* bytes) {
  bytes->clear();
  if (text.empty() || text.size() % 4 != 0) return false;
  const size_t num_padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
  uint32_t bits = 0;
  size_t num_bits = 0;
  for (const char c : text.substr(0, text.size() - num_padding)) {
    const std::optional<uint32_t> sextet = SextetOf(c);
    if (!sextet) return false;
    bits = bits << 6 | *sextet;
    num_bits += 6;
    if (num_bits >= 8) {
      num_bits -= 8;
      bytes->push_back(static_cast<char>(bits >> num_bits));
      bits &= (1u << num_bits) - 1;
    }
  }
  return bits == 0;
}

// Adds the tokens of a tiktoken file: lines of base64, a space, the rank. Returns their number.
int64_t ReadRanks(std::string_view file, const std::string& source, TokenizerBuilder* builder) {
  std::string bytes;
  int64_t num_tokens = 0;
  int64_t max_rank = -1;
  for (size_t line_number = 1; !file.empty(); ++line_number) {
    const std::string_view line = file.substr(0, file.find('\n'));
    file.remove_prefix(std::min(line.size() + 1, file.size()));
    if (line.empty()) continue;
    const size_t space = std::min(line.find(' '), line.size());
    const std::string_view digits = line.substr(std::min(space + 1, line.size()));
    int64_t rank = -1;
    const auto [digits_end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), rank);
    if (!DecodeBase64(line.substr(0, space), &bytes) || error != std::errc() ||
        digits_end != digits.data() + digits.size()) {
      Throw(ErrorCode::kCorruption, "{}: line {} is not a token in base64, a space and a rank",
            source, line_number);
    }
    builder->AddTextTokenBytes(rank, bytes);
    max_rank = std::max(max_rank, rank);
    ++num_tokens;
  }
  if (max_rank + 1 != num_tokens) {
    Throw(ErrorCode::kCorruption, "{}: {} tokens, but the highest rank is {}", source, num_tokens,
          max_rank);
  }
  return num_tokens;
}

// Adds the special tokens with ids first_id and up. Those that tokenizer_config.json does not name
// are called as Moonshot's tokenizer calls them.
void ReadSpecialTokens(std::string_view json, const std::string& source, int64_t first_id,
                       TokenizerBuilder* builder) {
  const JsonDocument document = JsonDocument::Parse(json, source + " (tokenizer_config.json)");
  const JsonReader reader(document.source());
  std::vector<bool> is_named(kNumSpecialTokens, false);
  const auto decoder = reader.GetOptional(document.object(), "added_tokens_decoder");
  if (decoder) {
    for (const auto [key, value] :
         reader.As<simdjson::dom::object>(*decoder, "added_tokens_decoder", "an object")) {
      int64_t id = -1;
      const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
      if (error != std::errc() || end != key.data() + key.size() || id < first_id ||
          id >= first_id + kNumSpecialTokens) {
        Throw(ErrorCode::kCorruption, "{}: added_tokens_decoder has the id {}, not one of {} to {}",
              document.source(), Quote(key), first_id, first_id + kNumSpecialTokens - 1);
      }
      builder->AddAddedToken(reader.ReadAddedToken(
          id,
          reader.As<simdjson::dom::object>(value, "an item of added_tokens_decoder", "an object")));
      is_named[static_cast<size_t>(id - first_id)] = true;
    }
  }
  for (int64_t i = 0; i < kNumSpecialTokens; ++i) {
    if (is_named[static_cast<size_t>(i)]) continue;
    const std::string name = fmt::format("<|reserved_token_{}|>", first_id + i);
    builder->AddAddedToken({first_id + i, name, /*is_special=*/true});
  }
}

}  // namespace

std::unique_ptr<Tokenizer> Tokenizer::FromTiktoken(std::string_view ranks,
                                                   std::string_view tokenizer_config_json,
                                                   std::string source) {
  // A token of Kimi's file has 17 bytes of text on average, and there are fewer than two merges to
  // a token.
  const size_t expected_tokens = ranks.size() / 17;
  TokenizerBuilder builder(source, ranks.size(), expected_tokens, 2 * expected_tokens);
  const int64_t num_tokens = ReadRanks(ranks, source, &builder);
  ReadSpecialTokens(tokenizer_config_json, source, num_tokens, &builder);
  builder.AddMergesByRank();
  return std::move(builder).Build(PreTokenizer::kKimiChunked, /*whole_pieces_first=*/true);
}

}  // namespace baleen
