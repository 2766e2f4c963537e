#include "training/documents.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/error.h"
#include "training/find_files.h"

namespace baleen {
namespace {

class DocumentsTest : public testing::Test {
 protected:
  DocumentsTest() : directory_(testing::TempDir() + "documents_test") {
    std::filesystem::create_directories(directory_);
  }
  ~DocumentsTest() override { std::filesystem::remove_all(directory_); }

  std::string Write(const std::string& name, std::string_view text) {
    const std::string path = directory_ + "/" + name;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }

  // All texts; each must be found again by its place.
  static std::vector<std::string> ReadAll(const DocumentOptions& options) {
    const Documents documents(options);
    std::vector<std::string> texts;
    for (uint32_t file = 0; file < documents.files().size(); ++file) {
      const auto result =
          documents.Scan(file, [&](const DocumentPlace& place, std::string_view text) {
            texts.emplace_back(text);
            EXPECT_EQ(documents.Read(place), text);
          });
      EXPECT_TRUE(result.is_text || result.documents == 0);
    }
    return texts;
  }

  static std::string ErrorOf(const DocumentOptions& options) {
    try {
      ReadAll(options);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  std::string directory_;
};

using Texts = std::vector<std::string>;

TEST_F(DocumentsTest, AFileIsADocumentOrSeveral) {
  const std::string path = Write("a.txt", "one\n<end>two<end>\n <end>\xC3\xA9");
  EXPECT_EQ(ReadAll({{path}}).size(), 1u);
  EXPECT_EQ(ReadAll({{path}, "text", "<end>"}), (Texts{"one\n", "two", "\xC3\xA9"}));
}

TEST_F(DocumentsTest, LongTextIsCutAtLinesAndNeverInsideACharacter) {
  std::string lines;
  while (lines.size() < 5 * Documents::kMaxTextBytes / 2) lines += "a line of some length\n";
  std::string one_line;
  while (one_line.size() < 5 * Documents::kMaxTextBytes / 2) one_line += "\xE4\xB8\xAD";
  for (const std::string& text : {lines, one_line}) {
    const Texts parts = ReadAll({{Write("long.txt", text)}});
    ASSERT_EQ(parts.size(), 3u);
    EXPECT_EQ(parts[0] + parts[1] + parts[2], text);
    for (const std::string& part : parts) EXPECT_LE(part.size(), Documents::kMaxTextBytes);
  }
  EXPECT_EQ(ReadAll({{Write("long.txt", lines)}})[0].back(), '\n');
  EXPECT_EQ(ReadAll({{Write("long.txt", one_line)}})[1].substr(0, 3), "\xE4\xB8\xAD");
}

TEST_F(DocumentsTest, JsonLines) {
  const std::string path =
      Write("a.jsonl",
            "{\"text\": \"a\\n\\u00e9\", \"code\": \"b\"}\n\n"
            "{\"code\": \"c\", \"text\": \"\"}\n{\"text\":\"d\",\"code\":\"e\"}");
  EXPECT_EQ(ReadAll({{path}}), (Texts{"a\n\xC3\xA9", "d"}));
  EXPECT_EQ(ReadAll({{path}, "code"}), (Texts{"b", "c", "e"}));
}

TEST_F(DocumentsTest, DirectoriesAndGlobs) {
  Write("src/b.py", "b");
  Write("src/a.py", "a");
  Write("src/deep/er/c.py", "c");
  Write("src/data.jsonl", "{\"text\": \"j\"}\n");
  Write("src/.git/d.py", "hidden");
  Write("src/picture.bin", std::string_view("\x89\0PNG", 5));
  Write("src/empty.py", "");
  EXPECT_EQ(ReadAll({{directory_ + "/src"}}), (Texts{"a", "b", "j", "c"}));
  EXPECT_EQ(ReadAll({{directory_ + "/src/*.py"}}), (Texts{"a", "b"}));
  EXPECT_EQ(ReadAll({{directory_ + "/src/**/*.py"}}), (Texts{"a", "b", "c"}));
  EXPECT_EQ(ReadAll({{directory_ + "/src/[bc].py", directory_ + "/src"}}),
            (Texts{"b", "a", "j", "c"}));  // no file twice
}

TEST_F(DocumentsTest, Globs) {
  EXPECT_TRUE(MatchesGlob("a/**/b", "a/b"));
  EXPECT_TRUE(MatchesGlob("a/**/b", "a/x/y/b"));
  EXPECT_TRUE(MatchesGlob("/a/**", "/a/x/y"));
  EXPECT_FALSE(MatchesGlob("a/*/b", "a/x/y/b"));
  EXPECT_FALSE(MatchesGlob("a/*", "/a/x"));
  EXPECT_FALSE(MatchesGlob("a/**/b", "a/.x/b"));
  EXPECT_TRUE(MatchesGlob("a/.x/?", "a/.x/b"));
  EXPECT_FALSE(MatchesGlob("**/*.py", "a/b.pyc"));
}

TEST_F(DocumentsTest, WhatIsNamedMustBeText) {
  const std::string zero = Write("zero.txt", std::string_view("a\0b", 3));
  const std::string latin = Write("latin.txt", "caf\xE9 au lait");
  EXPECT_NE(ErrorOf({{zero}}).find("zero.txt: a zero byte at 1"), std::string::npos);
  EXPECT_NE(ErrorOf({{latin}}).find("byte 3 is not UTF-8"), std::string::npos);
  EXPECT_NE(ErrorOf({{Write("empty.txt", "")}}).find("the file is empty"), std::string::npos);
  EXPECT_NE(ErrorOf({{Write("blank.txt", " \n\n")}}).find("white space"), std::string::npos);
  EXPECT_NE(ErrorOf({{directory_ + "/none"}}).find("no such file"), std::string::npos);
  EXPECT_NE(ErrorOf({{directory_ + "/*.none"}}).find("no file matches"), std::string::npos);
  EXPECT_NE(ErrorOf({}).find("no data is named"), std::string::npos);
  EXPECT_EQ(ErrorOf({{directory_}}), "");  // there they are passed over
}

TEST_F(DocumentsTest, BrokenJsonLinesAreNamed) {
  const auto error_of = [&](std::string_view line) {
    return ErrorOf({{Write("a.jsonl", "{\"text\": \"good\"}\n" + std::string(line))}});
  };
  EXPECT_NE(error_of("{\"text\": ").find("a.jsonl, line 2: not valid JSON"), std::string::npos);
  EXPECT_NE(error_of("{\"body\": \"x\"}").find("has no field \"text\""), std::string::npos);
  EXPECT_NE(error_of("{\"text\": 1}").find("\"text\" is not a string"), std::string::npos);
  EXPECT_NE(error_of("[1]").find("expected a JSON object"), std::string::npos);
}

TEST_F(DocumentsTest, AFileThatShrankIsSeen) {
  const std::string path = Write("a.txt", "some text");
  const Documents documents({{path}});
  DocumentPlace place;
  documents.Scan(0, [&](const DocumentPlace& found, std::string_view) { place = found; });
  Write("a.txt", "some");
  EXPECT_THROW(documents.Read(place), Error);
}

}  // namespace
}  // namespace baleen
