#include "tokenizer/tokenizer_writer.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/json.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/tokenizer.h"

namespace baleen {
namespace {

TrainedBpe Train(std::string_view text, int32_t vocab_size) {
  WordCounts counts;
  counts.AddText(PreTokenizer::kDeepseekV3, text);
  return TrainBpe(std::move(counts), {vocab_size, kNumControlTokensInFront}, [](size_t, size_t) {});
}

TEST(TokenizerWriterTest, OurOwnLoaderReadsItBack) {
  const std::string text = "for x in range(10):\n    print(\"x\", '\\\\')  # Zo\xC3\xAB\n";
  const TrainedBpe bpe = Train(text, 290);
  const auto tokenizer = Tokenizer::FromJson(TokenizerJson(bpe), "trained");
  EXPECT_EQ(tokenizer->vocab_size(), 290 + kNumControlTokensBehind);
  for (size_t id = kNumControlTokensInFront; id < bpe.tokens.size(); ++id) {
    EXPECT_EQ(tokenizer->TokenBytes(static_cast<int32_t>(id)), bpe.tokens[id]);
  }
  const std::vector<int32_t> ids = tokenizer->Encode(text, true);
  EXPECT_LT(ids.size(), text.size());
  EXPECT_EQ(tokenizer->Decode(ids, true), text);
}

// Ids and flags as DeepSeek-V3 has them, counted from the end of the vocabulary.
TEST(TokenizerWriterTest, ControlTokensAreThoseOfV3) {
  const auto tokenizer = Tokenizer::FromJson(TokenizerJson(Train("", kMinVocabSize)), "trained");
  EXPECT_EQ(tokenizer->vocab_size(), kMinVocabSize);
  EXPECT_EQ(tokenizer->TokenId("<｜begin▁of▁sentence｜>"), 0);
  EXPECT_EQ(tokenizer->TokenId("<｜end▁of▁sentence｜>"), 1);
  EXPECT_EQ(tokenizer->TokenId("<｜▁pad▁｜>"), 2);
  EXPECT_EQ(tokenizer->TokenBytes(3), "!");  // V3's first byte too
  const int32_t behind = kMinVocabSize - kNumControlTokensBehind;
  EXPECT_EQ(tokenizer->TokenId("<｜fim▁hole｜>"), behind);
  EXPECT_EQ(tokenizer->TokenId("<｜fim▁begin｜>"), behind + 1);
  EXPECT_EQ(tokenizer->TokenId("<｜fim▁end｜>"), behind + 2);
  EXPECT_EQ(tokenizer->TokenId("<｜tool▁sep｜>"), kMinVocabSize - 1);
  EXPECT_TRUE(tokenizer->IsSpecial(0));
  EXPECT_TRUE(tokenizer->IsSpecial(*tokenizer->TokenId("<|EOT|>")));
  EXPECT_FALSE(tokenizer->IsSpecial(*tokenizer->TokenId("<｜fim▁hole｜>")));
}

TEST(TokenizerWriterTest, ConfigHoldsTheChatFormatOfV3) {
  const JsonDocument config = JsonDocument::Parse(TokenizerConfigJson(4096), "config");
  EXPECT_EQ(std::string_view(config.object()["chat_template"]), TrainedChatTemplate());
  EXPECT_EQ(int64_t(config.object()["model_max_length"]), 4096);
  EXPECT_EQ(std::string_view(config.object()["bos_token"]), "<｜begin▁of▁sentence｜>");
  const ChatTemplate chat = ChatTemplate::Recognize(TrainedChatTemplate());
  EXPECT_EQ(chat.format(), ChatFormat::kDeepSeekV3);
}

}  // namespace
}  // namespace baleen
