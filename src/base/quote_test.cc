#include "base/quote.h"

#include <gtest/gtest.h>

namespace baleen {
namespace {

TEST(Quote, KeepsOrdinaryNames) {
  EXPECT_EQ(Quote("model.layers.0.mlp"), "\"model.layers.0.mlp\"");
  EXPECT_EQ(Quote("中文"), "\"中文\"");
}

TEST(Quote, EscapesWhatWouldBreakTheLine) {
  EXPECT_EQ(Quote("a\nb\x1b[2J"), "\"a\\nb\\x1b[2J\"");
  EXPECT_EQ(Quote("\xff"), "\"\\xff\"");
}

TEST(Quote, CutsLongNames) {
  const std::string quoted = Quote(std::string(1'000'000, 'x'));
  EXPECT_LT(quoted.size(), 300u);
  EXPECT_NE(quoted.find("(1000000 bytes)"), std::string::npos);
}

}  // namespace
}  // namespace baleen
