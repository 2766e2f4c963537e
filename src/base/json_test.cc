#include "base/json.h"

#include <gtest/gtest.h>

#include <fstream>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json_lines.h"

namespace baleen {
namespace {

void ExpectRefused(const std::string& text, const std::string& reason) {
  try {
    JsonDocument::Parse(text, "some.json");
    FAIL() << "accepted: " << text;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCorruption);
    EXPECT_NE(std::string(error.what()).find("some.json"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find(reason), std::string::npos) << error.what();
  }
}

TEST(JsonTest, ReadsWhatIsValid) {
  const JsonDocument document = JsonDocument::Parse(R"({"a": [1, 2.5, "x"]})", "some.json");
  EXPECT_EQ(int64_t(document.object()["a"].get_array().at(0)), 1);
  EXPECT_THROW(JsonDocument::Parse("[]", "some.json").object(), Error);
}

TEST(JsonTest, RefusesWhatIsNot) {
  ExpectRefused("", "not valid JSON");
  ExpectRefused("{\"a\": 1", "not valid JSON");
  ExpectRefused("{\"a\": \"\xff\"}", "not valid JSON");
  ExpectRefused(std::string(100000, '['), "not valid JSON");
  std::string deep = "1";
  for (size_t i = 0; i < JsonDocument::kMaxDepth + 1; ++i) deep = "[" + deep + "]";
  ExpectRefused(deep, "not valid JSON");
}

TEST(JsonTest, GivesStringsByName) {
  const JsonDocument document = JsonDocument::Parse(R"({"a": "x", "b": 1})", "some.json");
  EXPECT_EQ(document.String("a"), "x");
  EXPECT_THROW(document.String("b"), Error);
  EXPECT_THROW(document.String("c"), Error);
}

TEST(JsonTest, LinesKnowTheirPlace) {
  const std::string content = "{\"a\": \"x\"}\n \t\n\n[1]";
  std::vector<std::pair<size_t, size_t>> places;
  std::vector<std::string> sources;
  ForEachJsonLine(content, "f", [&](const JsonLine& line) {
    places.emplace_back(line.offset, line.size);
    sources.push_back(line.document.source());
  });
  EXPECT_EQ(places, (std::vector<std::pair<size_t, size_t>>{{0, 10}, {15, 3}}));
  EXPECT_EQ(sources, (std::vector<std::string>{"f, line 1", "f, line 4"}));
  EXPECT_THROW(ForEachJsonLine("{}\n{", "f", [](const JsonLine&) {}), Error);
}

TEST(JsonTest, ReadFileIsBounded) {
  const std::string path = testing::TempDir() + "/bounded";
  std::ofstream(path) << "12345";
  EXPECT_EQ(ReadFile(path, 5), "12345");
  EXPECT_THROW(ReadFile(path, 4), Error);
  EXPECT_THROW(ReadFile(path + "-missing", 4), Error);
  EXPECT_THROW(ReadFile(testing::TempDir(), 4), Error);
}

}  // namespace
}  // namespace baleen
