#include "server/rate_limiter.h"

#include <algorithm>

namespace baleen {

namespace {

// What must be there for a request to begin: a whole request, and anything of the others, whose
// costs are not known yet.
constexpr double kNeeded[] = {1, 1, 0.001};
static_assert(std::size(kNeeded) == RateLimiter::kNumKinds);

}  // namespace

// A limit that was changed counts at once; what is left stays, up to the new limit.
RateLimiter::Buckets& RateLimiter::Fill(const KeyInfo& key, Time now) {
  const std::array<double, kNumKinds> limit = {static_cast<double>(key.limits.requests_per_minute),
                                               static_cast<double>(key.limits.tokens_per_minute),
                                               key.limits.machine_seconds_per_minute};
  const auto [it, is_new] = buckets_.try_emplace(key.name, Buckets{limit, limit, now});
  Buckets& buckets = it->second;
  const double minutes = std::chrono::duration<double>(now - buckets.filled).count() / 60;
  for (size_t i = 0; i < kNumKinds; ++i) {
    // One that had no limit begins with a full bucket.
    if (buckets.limit[i] == 0) buckets.left[i] = limit[i];
    buckets.left[i] = std::min(limit[i], buckets.left[i] + minutes * limit[i]);
  }
  buckets.limit = limit;
  buckets.filled = now;
  return buckets;
}

RateLimiter::Verdict RateLimiter::Admit(const KeyInfo& key, Time now) {
  const std::lock_guard lock(mutex_);
  Buckets& buckets = Fill(key, now);
  Verdict verdict;
  verdict.limit = buckets.limit;
  for (size_t i = 0; i < kNumKinds; ++i) {
    const double limit = buckets.limit[i];
    // Tokens and seconds: whatever is left will do.
    const bool enough = i == kRequests ? buckets.left[i] >= kNeeded[i] : buckets.left[i] > 0;
    if (limit == 0 || enough) continue;
    verdict.allowed = false;
    verdict.retry_after_seconds =
        std::max(verdict.retry_after_seconds, (kNeeded[i] - buckets.left[i]) * 60 / limit);
  }
  if (verdict.allowed) buckets.left[kRequests] -= 1;
  for (size_t i = 0; i < kNumKinds; ++i) {
    verdict.remaining[i] = std::max(0.0, buckets.left[i]);
    if (buckets.limit[i] > 0) {
      verdict.reset_seconds[i] = (buckets.limit[i] - buckets.left[i]) * 60 / buckets.limit[i];
    }
  }
  return verdict;
}

void RateLimiter::Charge(const KeyInfo& key, size_t tokens, double machine_seconds, Time now) {
  const std::lock_guard lock(mutex_);
  Buckets& buckets = Fill(key, now);
  buckets.left[kTokens] -= static_cast<double>(tokens);
  buckets.left[kMachineSeconds] -= machine_seconds;
}

}  // namespace baleen
