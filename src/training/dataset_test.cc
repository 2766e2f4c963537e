#include "training/dataset.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>

#include "base/error.h"
#include "base/json.h"

namespace baleen {
namespace {

const std::string kTokenizer = BALEEN_SOURCE_DIR "/models/baleen-stories-mini/tokenizer.json";

class DatasetTest : public testing::Test {
 protected:
  DatasetTest()
      : tokenizer_(Tokenizer::FromJson(ReadFile(kTokenizer, Tokenizer::kMaxFileBytes), kTokenizer)),
        directory_(testing::TempDir() + "dataset_test") {
    std::filesystem::create_directories(directory_);
  }
  ~DatasetTest() override { std::filesystem::remove_all(directory_); }

  std::string Write(const std::string& name, const std::string& text) {
    const std::string path = directory_ + "/" + name;
    std::ofstream(path) << text;
    return path;
  }
  std::unique_ptr<Dataset> Open(uint64_t seed, double held_out = 0) {
    return OpenDataset({.paths = {Write("a", "One day a cat sat."), Write("b", "The dog ran home."),
                                  Write("c", "Birds sing in the morning.")},
                        .seed = seed,
                        .held_out_share = held_out,
                        .bos_token_id = 0,
                        .eos_token_id = 1},
                       *tokenizer_);
  }
  static std::vector<int32_t> Take(Dataset& data, size_t count) {
    std::vector<int32_t> tokens(count);
    data.Next(tokens);
    return tokens;
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  std::string directory_;
};

TEST_F(DatasetTest, AnEpochHasEveryDocumentBetweenItsMarks) {
  const auto data = Open(1);
  const size_t tokens = data->info().tokens;
  std::vector<int32_t> epoch = Take(*data, tokens);
  const auto count = [&](int32_t id) { return std::count(epoch.begin(), epoch.end(), id); };
  EXPECT_EQ(epoch.front(), 0);
  EXPECT_EQ(epoch.back(), 1);
  EXPECT_EQ(count(0), 3);
  EXPECT_EQ(count(1), 3);
  const std::string text = tokenizer_->Decode(epoch, true);
  for (const char* document : {"One day a cat sat.", "The dog ran home.", "Birds sing in"}) {
    EXPECT_NE(text.find(document), std::string::npos) << document;
  }
}

TEST_F(DatasetTest, SequencesShareOneToken) {
  const auto pieces = Open(1);
  const auto whole = Open(1);
  const std::vector<int32_t> expected = Take(*whole, 19);
  std::vector<int32_t> got = Take(*pieces, 10);
  const std::vector<int32_t> second = Take(*pieces, 10);
  EXPECT_EQ(second.front(), got.back());
  got.insert(got.end(), second.begin() + 1, second.end());
  EXPECT_EQ(got, expected);
}

TEST_F(DatasetTest, GoesOnFromAnyPosition) {
  const auto data = Open(3);
  const auto other = Open(3);
  for (int i = 0; i < 20; ++i) {
    other->Seek(data->Position());
    EXPECT_EQ(Take(*data, 7), Take(*other, 7));
  }
  for (const char* bad : {"", "0", "0 9 0", "0 0 99", "x"}) EXPECT_THROW(data->Seek(bad), Error);
}

TEST_F(DatasetTest, SeedsShuffle) {
  const size_t tokens = Open(0)->info().tokens;
  std::set<std::vector<int32_t>> orders;
  for (uint64_t seed = 0; seed < 40; ++seed) orders.insert(Take(*Open(seed), tokens));
  EXPECT_EQ(orders.size(), 6u);
}

TEST_F(DatasetTest, RefusesWhatIsNoText) {
  const auto open = [&](const std::string& text) {
    return OpenDataset({.paths = {Write("x", text)}, .held_out_share = 0}, *tokenizer_);
  };
  EXPECT_THROW(open(""), Error);
  EXPECT_THROW(open(std::string("a\0b", 3)), Error);
  EXPECT_THROW(OpenDataset({}, *tokenizer_), Error);
  EXPECT_THROW(OpenDataset({.paths = {directory_ + "/none"}}, *tokenizer_), Error);
}

}  // namespace
}  // namespace baleen
