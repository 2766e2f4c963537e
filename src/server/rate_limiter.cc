#include "server/rate_limiter.h"

#include <algorithm>

namespace baleen {

RateLimiter::Buckets& RateLimiter::Fill(const KeyInfo& key, Time now) {
  const auto requests = static_cast<double>(key.limits.requests_per_minute);
  const auto tokens = static_cast<double>(key.limits.tokens_per_minute);
  const auto [it, is_new] = buckets_.try_emplace(key.name, Buckets{requests, tokens, now});
  Buckets& buckets = it->second;
  const double minutes = std::chrono::duration<double>(now - buckets.filled).count() / 60;
  buckets.requests = std::min(requests, buckets.requests + minutes * requests);
  buckets.tokens = std::min(tokens, buckets.tokens + minutes * tokens);
  buckets.filled = now;
  return buckets;
}

RateLimiter::Verdict RateLimiter::Admit(const KeyInfo& key, Time now) {
  const std::lock_guard lock(mutex_);
  Buckets& buckets = Fill(key, now);
  Verdict verdict;
  const KeyLimits& limits = key.limits;
  if (limits.requests_per_minute > 0 && buckets.requests < 1) {
    verdict.allowed = false;
    verdict.retry_after_seconds =
        (1 - buckets.requests) * 60 / static_cast<double>(limits.requests_per_minute);
  }
  if (limits.tokens_per_minute > 0 && buckets.tokens <= 0) {
    verdict.allowed = false;
    verdict.retry_after_seconds =
        std::max(verdict.retry_after_seconds,
                 (1 - buckets.tokens) * 60 / static_cast<double>(limits.tokens_per_minute));
  }
  if (verdict.allowed) buckets.requests -= 1;
  verdict.remaining_requests = std::max(0.0, buckets.requests);
  verdict.remaining_tokens = std::max(0.0, buckets.tokens);
  return verdict;
}

void RateLimiter::Charge(const KeyInfo& key, size_t tokens, Time now) {
  const std::lock_guard lock(mutex_);
  Fill(key, now).tokens -= static_cast<double>(tokens);
}

}  // namespace baleen
