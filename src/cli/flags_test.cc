#include "cli/flags.h"

#include <gtest/gtest.h>

#include "baleen/error.h"

namespace baleen {
namespace {

TEST(ParseByteCount, ReadsNumbersAsPeopleWriteThem) {
  const std::pair<const char*, uint64_t> cases[] = {
      {"1", 1},
      {"4096", 4096},
      {"512B", 512},
      {"2K", 2048},
      {"3k", 3072},
      {"1.5M", 1572864},
      {"24G", 25769803776},
      {"24GB", 25769803776},
      {" 24 GiB ", 25769803776},
      {"1T", 1099511627776},
  };
  for (const auto& [text, bytes] : cases) {
    EXPECT_EQ(ParseByteCount("--memory-limit", text), bytes) << text;
  }
}

TEST(ParseByteCount, RefusesWhatIsNoNumberOfBytes) {
  for (const char* text :
       {"", "G", "-1", "0", "12Q", "1e30", "inf", "nan", "5GG", "5 iB", "0x10"}) {
    try {
      ParseByteCount("--memory-limit", text);
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument) << text;
      EXPECT_NE(std::string(error.what()).find("--memory-limit"), std::string::npos);
    }
  }
}

TEST(ParseTokenIds, ReadsLists) {
  EXPECT_EQ(ParseTokenIds("--ids", "7"), (std::vector<int32_t>{7}));
  EXPECT_EQ(ParseTokenIds("--ids", "1, 2,\n30 "), (std::vector<int32_t>{1, 2, 30}));
}

TEST(ParseTokenIds, RefusesWhatIsNoList) {
  for (const char* text : {"", ",", "1,", "1 2", "1,x", "-1", "99999999999", "1.5"}) {
    EXPECT_THROW(ParseTokenIds("--ids", text), Error) << text;
  }
}

}  // namespace
}  // namespace baleen
