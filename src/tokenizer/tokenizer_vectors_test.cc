// Compares with what `tokenizers` and `tiktoken` made of the same strings: the committed file for
// the bundled model, and whatever tools/golden/tokenizer_vectors.py wrote for a long run.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"
#include "tokenizer/detokenizer.h"
#include "tokenizer/tokenizer.h"

namespace baleen {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxVectorFileBytes = size_t{4} << 30;

std::unique_ptr<Tokenizer> Load(const fs::path& tokenizer, const fs::path& config) {
  const std::string file = ReadFile(tokenizer, Tokenizer::kMaxFileBytes);
  if (config.empty()) return Tokenizer::FromJson(file, tokenizer);
  return Tokenizer::FromTiktoken(file, ReadFile(config, Tokenizer::kMaxFileBytes), tokenizer);
}

std::string Detokenize(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, bool skip) {
  Detokenizer detokenizer(tokenizer, skip);
  std::string text;
  for (const int32_t id : ids) text += detokenizer.Push(id);
  return text + detokenizer.Flush();
}

std::vector<int32_t> Ids(simdjson::dom::array array) {
  std::vector<int32_t> ids;
  for (const simdjson::dom::element id : array) ids.push_back(static_cast<int32_t>(int64_t(id)));
  return ids;
}

struct Counts {
  size_t num_checked = 0;
  size_t num_different = 0;
  std::string first_difference;
};

// Is what we make of a record what the authority made of it? On an encode record our decoders must
// also give the text back.
bool Agrees(const Tokenizer& tokenizer, simdjson::dom::object record) {
  std::string_view text;
  if (!record["encode"].get(text)) {
    const std::vector<int32_t> ids = tokenizer.Encode(text, record["special"]);
    return ids == Ids(record["ids"]) && tokenizer.Decode(ids, false) == text &&
           Detokenize(tokenizer, ids, false) == text;
  }
  const std::vector<int32_t> ids = Ids(record["decode"]);
  const bool skip = record["skip_special"];
  text = record["text"];
  return tokenizer.Decode(ids, skip) == text && Detokenize(tokenizer, ids, skip) == text;
}

// `lines` without its first line, record by record.
Counts Compare(const Tokenizer& tokenizer, std::string_view lines) {
  Counts counts;
  lines.remove_prefix(lines.find('\n') + 1);
  while (!lines.empty()) {
    const std::string_view line = lines.substr(0, lines.find('\n'));
    lines.remove_prefix(std::min(line.size() + 1, lines.size()));
    const JsonDocument record = JsonDocument::Parse(line, "vector");
    ++counts.num_checked;
    if (Agrees(tokenizer, record.object())) continue;
    if (counts.num_different++ == 0) counts.first_difference = line.substr(0, 1000);
  }
  return counts;
}

fs::path StoriesModel() {
  for (const char* path :
       {BALEEN_SOURCE_DIR "/models/baleen-stories-mini/tokenizer.json",
        BALEEN_SOURCE_DIR "/../shared/checkpoints/baleen-stories-mini/tokenizer.json"}) {
    if (fs::exists(path)) return path;
  }
  return {};
}

constexpr char kStoriesVectors[] = BALEEN_SOURCE_DIR "/tests/golden/tokenizer_stories.jsonl";

TEST(TokenizerVectorsTest, StoriesGolden) {
  if (StoriesModel().empty())
    GTEST_SKIP() << "models/baleen-stories-mini/tokenizer.json is not here";
  const Counts counts =
      Compare(*Load(StoriesModel(), {}), ReadFile(kStoriesVectors, kMaxVectorFileBytes));
  EXPECT_GT(counts.num_checked, 500u);
  EXPECT_EQ(counts.num_different, 0u) << counts.first_difference;
}

TEST(TokenizerVectorsTest, AWrongIdIsSeen) {
  if (StoriesModel().empty())
    GTEST_SKIP() << "models/baleen-stories-mini/tokenizer.json is not here";
  const std::unique_ptr<Tokenizer> tokenizer = Load(StoriesModel(), {});
  const std::vector<int32_t> ids = tokenizer->Encode(" time", true);
  ASSERT_EQ(ids.size(), 1u);
  const auto record = [](int32_t id, const char* text) {
    return fmt::format(
        "header\n{{\"encode\":\" time\",\"special\":true,\"ids\":[{}]}}\n"
        "{{\"decode\":[{}],\"skip_special\":true,\"text\":\"{}\"}}\n",
        id, id, text);
  };
  EXPECT_EQ(Compare(*tokenizer, record(ids[0], " time")).num_different, 0u);
  EXPECT_EQ(Compare(*tokenizer, record(ids[0] + 1, " time")).num_different, 2u);
  EXPECT_EQ(Compare(*tokenizer, record(ids[0], " tim")).num_different, 1u);
}

TEST(TokenizerVectorsTest, Differential) {
  const char* variable = std::getenv("BALEEN_TOKENIZER_VECTORS");
  const fs::path folder = variable ? variable : BALEEN_BINARY_DIR "/tokenizer_vectors";
  if (!fs::is_directory(folder)) {
    GTEST_SKIP() << folder
                 << " is not here; tools/golden/tokenizer_vectors.py differential makes it";
  }
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() != ".jsonl") continue;
    const std::string lines = ReadFile(entry.path(), kMaxVectorFileBytes);
    const JsonDocument header =
        JsonDocument::Parse(std::string_view(lines).substr(0, lines.find('\n')), entry.path());
    const auto path_of = [&](const char* key) {
      std::string_view name;
      return header.object()[key].get(name) ? fs::path() : folder / name;
    };
    const Counts counts = Compare(*Load(path_of("tokenizer"), path_of("config")), lines);
    EXPECT_EQ(counts.num_different, 0u) << "of " << counts.num_checked << " in " << entry.path()
                                        << ", first: " << counts.first_difference;
    RecordProperty(entry.path().stem(), std::to_string(counts.num_checked));
  }
}

}  // namespace
}  // namespace baleen
