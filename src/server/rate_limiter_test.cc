#include "server/rate_limiter.h"

#include <gtest/gtest.h>

namespace baleen {
namespace {

using std::chrono::seconds;

KeyInfo Key(const std::string& name, int64_t requests, int64_t tokens) {
  KeyInfo key;
  key.name = name;
  key.limits = {.requests_per_minute = requests, .tokens_per_minute = tokens};
  return key;
}

TEST(RateLimiterTest, RequestsComeBackEvenly) {
  RateLimiter limiter;
  const KeyInfo key = Key("a", 3, 0), other = Key("b", 3, 0);
  RateLimiter::Time now{};
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(limiter.Admit(key, now).allowed);
  const RateLimiter::Verdict refused = limiter.Admit(key, now);
  EXPECT_FALSE(refused.allowed);
  EXPECT_NEAR(refused.retry_after_seconds, 20, 1e-9);
  EXPECT_TRUE(limiter.Admit(other, now).allowed);
  EXPECT_FALSE(limiter.Admit(key, now + seconds(19)).allowed);
  EXPECT_TRUE(limiter.Admit(key, now + seconds(21)).allowed);
  // Who waits an hour has a minute's worth.
  now += seconds(3600);
  EXPECT_NEAR(limiter.Admit(key, now).remaining[RateLimiter::kRequests], 2, 1e-9);
}

TEST(RateLimiterTest, TokensAreOwed) {
  RateLimiter limiter;
  const KeyInfo key = Key("a", 0, 600);
  const RateLimiter::Time now{};
  EXPECT_TRUE(limiter.Admit(key, now).allowed);
  limiter.Charge(key, 900, 0, now);
  const RateLimiter::Verdict refused = limiter.Admit(key, now);
  EXPECT_FALSE(refused.allowed);
  EXPECT_NEAR(refused.retry_after_seconds, 30.1, 1e-9);  // 301 tokens at 10 a second
  EXPECT_FALSE(limiter.Admit(key, now + seconds(30)).allowed);
  EXPECT_TRUE(limiter.Admit(key, now + seconds(31)).allowed);
}

TEST(RateLimiterTest, MachineSecondsAreOwed) {
  RateLimiter limiter;
  KeyInfo key = Key("a", 0, 0);
  key.limits.machine_seconds_per_minute = 6;
  const RateLimiter::Time now{};
  EXPECT_TRUE(limiter.Admit(key, now).allowed);
  limiter.Charge(key, 1000, 9, now);
  const RateLimiter::Verdict refused = limiter.Admit(key, now);
  EXPECT_FALSE(refused.allowed);
  EXPECT_NEAR(refused.retry_after_seconds, 30.01, 1e-9);  // 3.001 s at a tenth a second
  EXPECT_NEAR(refused.reset_seconds[RateLimiter::kMachineSeconds], 90, 1e-9);
  EXPECT_TRUE(limiter.Admit(key, now + seconds(31)).allowed);
}

TEST(RateLimiterTest, NewLimitsCountAtOnce) {
  RateLimiter limiter;
  KeyInfo key = Key("a", 0, 0);
  EXPECT_TRUE(limiter.Admit(key, {}).allowed);
  key.limits.requests_per_minute = 2;
  EXPECT_TRUE(limiter.Admit(key, {}).allowed);
  EXPECT_TRUE(limiter.Admit(key, {}).allowed);
  EXPECT_FALSE(limiter.Admit(key, {}).allowed);
}

TEST(RateLimiterTest, NoLimitIsNone) {
  RateLimiter limiter;
  const KeyInfo key = Key("a", 0, 0);
  for (int i = 0; i < 1000; ++i) {
    EXPECT_TRUE(limiter.Admit(key, {}).allowed);
    limiter.Charge(key, 1 << 20, 1e6, {});
  }
}

}  // namespace
}  // namespace baleen
