#include "tokenizer/tokenizer.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/json.h"

namespace baleen {
namespace {

// The bundled model's tokenizer: the pre-tokenizer of DeepSeek-V3 over 4,096 tokens.
std::string StoriesPath() {
  for (const char* path :
       {BALEEN_SOURCE_DIR "/models/baleen-stories-mini/tokenizer.json",
        BALEEN_SOURCE_DIR "/../shared/checkpoints/baleen-stories-mini/tokenizer.json"}) {
    if (std::filesystem::exists(path)) return path;
  }
  return "";
}

class StoriesTokenizerTest : public testing::Test {
 protected:
  void SetUp() override {
    const std::string path = StoriesPath();
    if (path.empty()) GTEST_SKIP() << "models/baleen-stories-mini/tokenizer.json is not here";
    tokenizer_ = Tokenizer::FromJson(ReadFile(path, Tokenizer::kMaxFileBytes), path);
  }

  std::unique_ptr<Tokenizer> tokenizer_;
};

// Ids by tokenizers 0.22.2.
TEST_F(StoriesTokenizerTest, EncodesAsTokenizers) {
  EXPECT_EQ(tokenizer_->Encode("Once upon a time", true),
            (std::vector<int32_t>{861, 628, 267, 498}));
  EXPECT_EQ(tokenizer_->Encode("<｜User｜>Hi 1234!\n\n  x", true),
            (std::vector<int32_t>{6, 3713, 229, 25, 26, 27, 28, 1146, 229, 229, 96}));
}

TEST_F(StoriesTokenizerTest, ControlTokensStayTextUnlessAskedFor) {
  const std::string text = "<｜User｜>";
  EXPECT_EQ(tokenizer_->Encode(text, true), std::vector<int32_t>{6});
  const std::vector<int32_t> ids = tokenizer_->Encode(text, false);
  EXPECT_GT(ids.size(), 1u);
  EXPECT_EQ(tokenizer_->Decode(ids, true), text);
}

}  // namespace
}  // namespace baleen
