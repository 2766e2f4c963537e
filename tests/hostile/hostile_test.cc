#include "hostile/hostile.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <set>
#include <stdexcept>

#include "base/error.h"

namespace baleen::hostile {
namespace {

class HostileTest : public testing::TestWithParam<HostileCase> {};

TEST_P(HostileTest, IsRefusedClearly) {
  EXPECT_EQ(Judge(GetParam(), hostile::Run(GetParam())), "");
}

INSTANTIATE_TEST_SUITE_P(Catalogue, HostileTest, testing::ValuesIn(AllCases()),
                         [](const auto& info) { return info.param.name; });

// The checker itself: each fault that it is there to find is planted once.

HostileCase Case(std::function<void(const std::string&)> open) {
  return {.name = "Planted", .files = {}, .open = std::move(open), .fragments = {"offset 8"}};
}

// An error whose message is not the one line that Error's constructor makes of anything.
class RawError : public Error {
 public:
  explicit RawError(std::string message)
      : Error(ErrorCode::kCorruption, message), message_(std::move(message)) {}
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  std::string message_;
};

std::string Verdict(const HostileCase& hostile) { return Judge(hostile, Run(hostile)); }

TEST(HostileChecker, AcceptsTheRightError) {
  EXPECT_EQ(Verdict(Case([](const std::string& directory) {
              Throw(ErrorCode::kCorruption, "{}: bad at offset 8", directory);
            })),
            "");
}

TEST(HostileChecker, SeesAFileThatIsAccepted) {
  EXPECT_EQ(Verdict(Case([](const std::string&) {})), "was accepted");
}

TEST(HostileChecker, SeesAWrongCode) {
  EXPECT_NE(Verdict(Case([](const std::string&) {
              Throw(ErrorCode::kNotFound, "bad at offset 8");
            })).find("is \"not found\""),
            std::string::npos);
}

TEST(HostileChecker, SeesAVagueMessage) {
  EXPECT_NE(Verdict(Case([](const std::string&) {
              Throw(ErrorCode::kCorruption, "bad file");
            })).find("lacks \"offset 8\""),
            std::string::npos);
}

TEST(HostileChecker, SeesAMessageThatForgesLines) {
  EXPECT_NE(Verdict(Case([](const std::string&) {
              throw RawError("offset 8\nall is well");
            })).find("control characters"),
            std::string::npos);
}

TEST(HostileChecker, SeesAnOverlongMessage) {
  EXPECT_NE(Verdict(Case([](const std::string&) {
              throw RawError("offset 8 " + std::string(5000, 'x'));
            })).find("the message has 5009 bytes"),
            std::string::npos);
}

TEST(HostileChecker, SeesAForeignException) {
  EXPECT_NE(Verdict(Case([](const std::string&) {
              throw std::out_of_range("offset 8");
            })).find("not a baleen::Error"),
            std::string::npos);
}

TEST(HostileChecker, SeesACrash) {
  EXPECT_NE(Verdict(Case([](const std::string&) { raise(SIGKILL); })).find("crashed"),
            std::string::npos);
}

TEST(HostileChecker, SeesTooMuchMemory) {
  EXPECT_NE(Verdict(Case([](const std::string&) {
              std::string hog(2 * kMaxMemoryBytes, 'x');
              Throw(ErrorCode::kCorruption, "offset 8, {}", hog.size());
            })).find("bytes of memory"),
            std::string::npos);
}

TEST(HostileChecker, SeesAnEndlessLoop) {
  EXPECT_NE(Verdict(Case([](const std::string&) { raise(SIGALRM); })).find("took more than"),
            std::string::npos);
}

TEST(HostileCatalogue, NamesAreUnique) {
  std::set<std::string> names;
  for (const HostileCase& hostile : AllCases()) {
    EXPECT_TRUE(names.insert(hostile.name).second) << hostile.name;
  }
}

}  // namespace
}  // namespace baleen::hostile
