#include "base/error.h"

#include <gtest/gtest.h>

#include <string>

namespace baleen {
namespace {

TEST(Error, KeepsAnOrdinaryMessage) {
  const Error error(ErrorCode::kCorruption, "config.json: größe must be a number, found \"a\\b\"");
  EXPECT_EQ(error.code(), ErrorCode::kCorruption);
  EXPECT_STREQ(error.what(), "config.json: größe must be a number, found \"a\\b\"");
}

TEST(Error, IsOneLineWhateverAFileHolds) {
  EXPECT_STREQ(Error(ErrorCode::kCorruption, "key a\nb\x1b[2J\x7f").what(),
               "key a\\x0ab\\x1b[2J\\x7f");
}

TEST(Error, CutsTheMiddleBetweenCharacters) {
  std::string middle;
  for (int i = 0; i < 100'000; ++i) middle += "中";
  const std::string message = Error(ErrorCode::kCorruption, "x" + middle + "; do this").what();
  EXPECT_LE(message.size(), Error::kMaxMessageBytes);
  EXPECT_TRUE(message.starts_with("x中"));
  EXPECT_TRUE(message.ends_with("中; do this"));
  EXPECT_NE(message.find("中 [298"), std::string::npos) << message;
  EXPECT_NE(message.find(" bytes left out] 中"), std::string::npos) << message;
}

}  // namespace
}  // namespace baleen
