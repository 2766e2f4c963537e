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
  EXPECT_NEAR(limiter.Admit(key, now).remaining_requests, 2, 1e-9);
}

TEST(RateLimiterTest, TokensAreOwed) {
  RateLimiter limiter;
  const KeyInfo key = Key("a", 0, 600);
  const RateLimiter::Time now{};
  EXPECT_TRUE(limiter.Admit(key, now).allowed);
  limiter.Charge(key, 900, now);
  const RateLimiter::Verdict refused = limiter.Admit(key, now);
  EXPECT_FALSE(refused.allowed);
  EXPECT_NEAR(refused.retry_after_seconds, 30.1, 1e-9);  // 301 tokens at 10 a second
  EXPECT_FALSE(limiter.Admit(key, now + seconds(30)).allowed);
  EXPECT_TRUE(limiter.Admit(key, now + seconds(31)).allowed);
}

TEST(RateLimiterTest, NoLimitIsNone) {
  RateLimiter limiter;
  const KeyInfo key = Key("a", 0, 0);
  for (int i = 0; i < 1000; ++i) {
    EXPECT_TRUE(limiter.Admit(key, {}).allowed);
    limiter.Charge(key, 1 << 20, {});
  }
}

}  // namespace
}  // namespace baleen
