#include "training/dataset.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>

#include "base/error.h"
#include "base/json.h"
#include "base/random.h"
#include "base/sha256.h"

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

std::string Document(uint64_t seed, size_t num_words) {
  Random random(seed);
  std::string text;
  for (size_t i = 0; i < num_words; ++i) {
    text += fmt::format("w{}{}", random.Below(5000), i % 8 == 7 ? '\n' : ' ');
  }
  return text;
}

TEST_F(DatasetTest, APlantedNearDuplicateIsDropped) {
  const std::string first = Document(1, 200);
  std::string second = first;
  second.replace(second.find(' '), 1, " changed ");
  const DatasetOptions options = {
      .paths = {Write("a", first), Write("b", second), Write("c", Document(2, 200))},
      .held_out_share = 0};
  EXPECT_EQ(OpenDataset(options, *tokenizer_)->info().documents, 2u);
  EXPECT_EQ(OpenDataset(options, *tokenizer_)->info().dropped_documents, 1u);
  DatasetOptions all = options;
  all.drop_near_duplicates = false;
  EXPECT_EQ(OpenDataset(all, *tokenizer_)->info().documents, 3u);
}

TEST_F(DatasetTest, HeldOutDocumentsFollowFromTheirText) {
  std::string lines;
  for (uint64_t i = 0; i < 600; ++i) {
    std::string text = Document(i, 30);
    std::ranges::replace(text, '\n', ' ');
    lines += fmt::format("{{\"text\": \"{}\"}}\n", text);
  }
  const auto open = [&](uint64_t seed, const std::string& more) {
    return OpenDataset({.paths = {Write("a.jsonl", more + lines)},
                        .seed = seed,
                        .held_out_share = 0.1,
                        .bos_token_id = 0,
                        .eos_token_id = 1},
                       *tokenizer_);
  };
  const auto data = open(1, "");
  EXPECT_GT(data->info().held_out_documents, 35u);
  EXPECT_LT(data->info().held_out_documents, 90u);
  EXPECT_EQ(data->info().documents + data->info().held_out_documents, 600u);
  const std::string held_out = tokenizer_->Decode(data->held_out(), true);
  EXPECT_EQ(held_out.size(), data->info().held_out_bytes);
  const std::string trained = tokenizer_->Decode(Take(*data, data->info().tokens), true);
  EXPECT_EQ(trained.find(held_out.substr(0, 60)), std::string::npos);
  const auto other = open(2, "{\"text\": \"Something else that comes first.\"}\n");
  EXPECT_TRUE(std::ranges::equal(other->held_out(), data->held_out()));
}

TEST_F(DatasetTest, HolesComeAtTheirRateAndGoOnFromAnyPosition) {
  std::string text;
  for (uint64_t i = 0; i < 300; ++i) text += Document(i, 20) + "<end>";
  const DatasetOptions options = {.paths = {Write("a", text)},
                                  .seed = 5,
                                  .held_out_share = 0,
                                  .fim_rate = 0.5,
                                  .bos_token_id = 0,
                                  .eos_token_id = 1,
                                  .fim_line_share = 0.5,
                                  .separator = "<end>"};
  const auto data = OpenDataset(options, *tokenizer_);
  const int32_t hole = *tokenizer_->TokenId("<｜fim▁hole｜>");
  const int32_t end = *tokenizer_->TokenId("<｜fim▁end｜>");
  const std::vector<int32_t> first = Take(*data, data->info().tokens + 1);
  const auto num_holes = std::count(first.begin(), first.end(), hole);
  EXPECT_GT(num_holes, 110);
  EXPECT_LT(num_holes, 190);
  EXPECT_LE(std::abs(num_holes - std::count(first.begin(), first.end(), end)), 1);
  EXPECT_NE(Take(*data, data->info().tokens + 1), first);  // other holes the next time

  const auto other = OpenDataset(options, *tokenizer_);
  for (int i = 0; i < 50; ++i) {
    other->Seek(data->Position());
    EXPECT_EQ(Take(*data, 777), Take(*other, 777));
  }
}

TEST_F(DatasetTest, LongDocumentsBecomeSeveral) {
  const std::string text = Document(1, 4000);
  const auto data = OpenDataset({.paths = {Write("a", text)},
                                 .held_out_share = 0,
                                 .bos_token_id = 0,
                                 .max_document_bytes = 1000},
                                *tokenizer_);
  const std::vector<int32_t> epoch = Take(*data, data->info().tokens);
  const auto num_parts = static_cast<size_t>(std::count(epoch.begin(), epoch.end(), 0));
  EXPECT_GE(num_parts, text.size() / 1000);
  EXPECT_LE(num_parts, text.size() / 900);
  EXPECT_EQ(data->info().documents, 1u);
  EXPECT_EQ(tokenizer_->Decode(epoch, true).size(), text.size());
}

TEST_F(DatasetTest, TheFingerprintTellsDataAndOptionsApart) {
  const std::string path = Write("a", "One day a cat sat.");
  const DatasetOptions options = {.paths = {path}, .held_out_share = 0};
  const auto fingerprint = [&](const DatasetOptions& o) {
    return OpenDataset(o, *tokenizer_)->info().fingerprint;
  };
  const std::string first = fingerprint(options);
  EXPECT_EQ(fingerprint(options), first);
  DatasetOptions other = options;
  other.fim_rate = 0.5;
  EXPECT_NE(fingerprint(other), first);
  Write("a", "One day a dog sat.");
  EXPECT_NE(fingerprint(options), first);
}

TEST_F(DatasetTest, SourcesAreNamedByTheirContent) {
  const std::string path = Write("a", "abc abc");
  const auto data =
      OpenDataset({.paths = {path, directory_ + "/*"}, .held_out_share = 0}, *tokenizer_);
  ASSERT_EQ(data->info().sources.size(), 2u);
  EXPECT_EQ(data->info().sources[0].sha256, Sha256Hex("abc abc"));
  EXPECT_EQ(data->info().sources[0].bytes, 7u);
  EXPECT_EQ(data->info().sources[1].documents, 0u);  // the same file once
}

TEST_F(DatasetTest, AFileThatChangedIsSeen) {
  const std::string path = Write("a", "One day a cat sat.");
  const auto data = OpenDataset({.paths = {path}, .held_out_share = 0}, *tokenizer_);
  Write("a", "One day a dog sat.");
  EXPECT_THROW(Take(*data, 100), Error);
}

TEST_F(DatasetTest, RefusesWhatIsNoText) {
  const auto open = [&](const std::string& text) {
    return OpenDataset({.paths = {Write("x", text)}, .held_out_share = 0}, *tokenizer_);
  };
  EXPECT_THROW(open(""), Error);
  EXPECT_THROW(open(std::string("a\0b", 3)), Error);
  EXPECT_THROW(OpenDataset({}, *tokenizer_), Error);
  EXPECT_THROW(OpenDataset({.paths = {directory_ + "/none"}}, *tokenizer_), Error);
  const std::string path = Write("x", "One day a cat sat.");
  EXPECT_THROW(OpenDataset({.paths = {path}, .held_out_share = 1}, *tokenizer_), Error);
  EXPECT_THROW(OpenDataset({.paths = {path}, .fim_rate = -0.1}, *tokenizer_), Error);
}

}  // namespace
}  // namespace baleen
