#include "cli/output.h"

#include <gtest/gtest.h>

namespace baleen {
namespace {

TEST(ForTerminal, ShowsControlCharactersInsteadOfObeyingThem) {
  EXPECT_EQ(ForTerminal("one\n\ttwo é 世"), "one\n\ttwo é 世");
  EXPECT_EQ(ForTerminal("\x1b[2J"), "␛[2J");
  EXPECT_EQ(ForTerminal(std::string_view("\0\r\x7f", 3)), "␀␍␡");
  EXPECT_EQ(ForTerminal("\xc2\x9b"), "\ufffd");  // CSI in one character
  EXPECT_EQ(ForTerminal("\xc2\xa0\xc2"), "\xc2\xa0\xc2");
}

TEST(Human, RoundsToThreeOrFourDigits) {
  EXPECT_EQ(HumanBytes(999), "999 bytes");
  EXPECT_EQ(HumanBytes(1000), "1.0 kB");
  EXPECT_EQ(HumanBytes(999'949), "999.9 kB");
  EXPECT_EQ(HumanBytes(999'951), "1.0 MB");
  EXPECT_EQ(HumanBytes(31'400'000'000), "31.4 GB");
  EXPECT_EQ(HumanCount(15'706'484'224), "15.7 B");
}

TEST(Join, PutsSeparatorsBetween) {
  EXPECT_EQ(Join(std::vector<int>{1, 2, 3}, ","), "1,2,3");
  EXPECT_EQ(Join(std::vector<int>{}, ","), "");
}

TEST(PrintedJson, HoldsMedianAndEnds) {
  EXPECT_EQ(ToJson(Spread{2, 1, 3}).dump(), R"({"median":2.0,"min":1.0,"max":3.0})");
}

}  // namespace
}  // namespace baleen
