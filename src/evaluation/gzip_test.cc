#include "evaluation/gzip.h"

#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"
#include "evaluation/sample.h"

namespace baleen {
namespace {

// What Python's gzip.compress(b"hello\n", 9, mtime=0) gives.
const std::string kHello(
    "\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xcb\x48\xcd\xc9\xc9\xe7\x02\x00\x20\x30\x3a\x36\x06"
    "\x00"
    "\x00\x00",
    26);

void ExpectRefused(const std::string& bytes, size_t max_bytes, const std::string& reason) {
  try {
    Gunzip(bytes, "some.gz", max_bytes);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCorruption);
    EXPECT_NE(std::string(error.what()).find("some.gz"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find(reason), std::string::npos) << error.what();
  }
}

TEST(Gzip, UnpacksMembers) {
  EXPECT_EQ(Gunzip(kHello, "f", 6), "hello\n");
  EXPECT_EQ(Gunzip(kHello + kHello, "f", 12), "hello\nhello\n");
}

TEST(Gzip, RefusesWhatIsNotWhole) {
  for (size_t size = 0; size < kHello.size(); ++size) {
    ExpectRefused(kHello.substr(0, size), 100, "not a whole gzip file");
  }
  ExpectRefused(kHello + "x", 100, "not a whole gzip file");
  // A wrong checksum, and a wrong length.
  for (const size_t position : {18, 22}) {
    std::string bytes = kHello;
    bytes[position] = static_cast<char>(bytes[position] ^ 1);
    ExpectRefused(bytes, 100, "not a whole gzip file");
  }
  ExpectRefused(kHello, 5, "more than the 5 bytes");
}

TEST(Gzip, ReadsFilesPackedOrNot) {
  const std::string path = testing::TempDir() + "/hello";
  std::ofstream(path, std::ios::binary) << kHello;
  EXPECT_EQ(ReadFileOrGzip(path, 100), "hello\n");
  std::ofstream(path, std::ios::binary) << "hello\n";
  EXPECT_EQ(ReadFileOrGzip(path, 100), "hello\n");
}

TEST(Sample, IsSpreadOverTheWhole) {
  const std::vector<int> items = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  EXPECT_EQ(SampleEvenly(items, 4), (std::vector<int>{0, 2, 5, 7}));
  EXPECT_EQ(SampleEvenly(items, 1), (std::vector<int>{0}));
  EXPECT_EQ(SampleEvenly(items, 0), items);
  EXPECT_EQ(SampleEvenly(items, 11), items);
}

}  // namespace
}  // namespace baleen
