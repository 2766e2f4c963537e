#include "tokenizer/detokenizer.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "tokenizer/utf8.h"

namespace baleen {
namespace {

// Bytes as tokens of the same number, and a special token.
std::unique_ptr<Tokenizer> ByteTokenizer() {
  std::vector<std::string> spellings;
  uint32_t next = 0x100;
  for (uint32_t b = 0; b < 256; ++b) {
    const bool is_printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    AppendUtf8(is_printable ? b : next++, &spellings.emplace_back());
  }
  spellings.emplace_back("<end>");
  TokenizerParts parts;
  parts.pre_tokenizer = "deepseek-v3";
  parts.tokens.assign(spellings.begin(), spellings.end());
  parts.token_types.assign(256, TokenizerParts::kNormal);
  parts.token_types.push_back(TokenizerParts::kControl);
  return Tokenizer::FromParts(parts, "bytes");
}

TEST(DetokenizerTest, HoldsBackAnIncompleteCharacter) {
  const std::unique_ptr<Tokenizer> tokenizer = ByteTokenizer();
  Detokenizer detokenizer(*tokenizer, /*skip_special=*/true);
  EXPECT_EQ(detokenizer.Push('a'), "a");
  EXPECT_EQ(detokenizer.Push(0xE4), "");
  EXPECT_EQ(detokenizer.Push(256), "");  // a skipped token interrupts nothing
  EXPECT_EQ(detokenizer.Push(0xB8), "");
  EXPECT_EQ(detokenizer.Push(0xAD), "中");
  EXPECT_EQ(detokenizer.Push(0xF0), "");
  EXPECT_EQ(detokenizer.Push(0x9F), "");
  EXPECT_EQ(detokenizer.Push('b'),
            "\uFFFD"
            "b");
  EXPECT_EQ(detokenizer.Push(0xFF), "\uFFFD");
  EXPECT_EQ(detokenizer.Push(0xC3), "");
  EXPECT_EQ(detokenizer.Flush(), "\uFFFD");
  EXPECT_EQ(detokenizer.Flush(), "");
  EXPECT_EQ(detokenizer.Push(999), "");
}

TEST(DetokenizerTest, KeepsSpecialTokensWhenAsked) {
  const std::unique_ptr<Tokenizer> tokenizer = ByteTokenizer();
  Detokenizer detokenizer(*tokenizer, /*skip_special=*/false);
  EXPECT_EQ(detokenizer.Push(0xE4), "");
  EXPECT_EQ(detokenizer.Push(256), "\uFFFD<end>");
}

TEST(DetokenizerTest, AllItsOutputIsDecode) {
  const std::unique_ptr<Tokenizer> tokenizer = ByteTokenizer();
  // Bytes that begin, continue and break characters.
  const std::vector<int32_t> alphabet{'a',  0x80, 0xBF, 0x9F, 0xC3, 0xE0, 0xA0,
                                      0xED, 0xF0, 0x90, 0xF4, 0xFF, 256,  0xC0};
  std::mt19937 random(5);
  for (int round = 0; round < 20000; ++round) {
    const bool skip_special = round % 2 == 0;
    std::vector<int32_t> ids(random() % 10);
    for (int32_t& id : ids) id = alphabet[random() % alphabet.size()];
    Detokenizer detokenizer(*tokenizer, skip_special);
    std::string text;
    for (const int32_t id : ids) {
      const std::string piece = detokenizer.Push(id);
      std::string valid;
      ASSERT_EQ(AppendValidUtf8(piece, &valid), piece.size());
      ASSERT_EQ(valid, piece);
      text += piece;
    }
    ASSERT_EQ(text + detokenizer.Flush(), tokenizer->Decode(ids, skip_special));
  }
}

}  // namespace
}  // namespace baleen
