// server/rate_limiter.h: how many requests and tokens a key may have in a minute.
//
// Two buckets for each key, which fill up evenly and hold a minute's worth. A request takes one
// from the first when it comes; its tokens are taken from the second when it has ended and they are
// known, so that one may run into debt, and waits for it.
// Threads: any. Time comes from the caller.
#ifndef BALEEN_SERVER_RATE_LIMITER_H_
#define BALEEN_SERVER_RATE_LIMITER_H_

#include <chrono>
#include <map>
#include <mutex>
#include <string>

#include "server/keys.h"

namespace baleen {

class RateLimiter {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // What a key has left. Limits of 0 do not exist; their figures mean nothing.
  struct Verdict {
    bool allowed = true;
    double retry_after_seconds = 0;  // when not allowed
    double remaining_requests = 0;
    double remaining_tokens = 0;
  };

  // A request has come.
  Verdict Admit(const KeyInfo& key, Time now);
  // It took so many tokens.
  void Charge(const KeyInfo& key, size_t tokens, Time now);

 private:
  struct Buckets {
    double requests = 0;
    double tokens = 0;
    Time filled = {};
  };
  Buckets& Fill(const KeyInfo& key, Time now);  // mutex_ is held

  std::mutex mutex_;
  std::map<std::string, Buckets> buckets_;  // guarded by mutex_; by the key's name
};

}  // namespace baleen

#endif  // BALEEN_SERVER_RATE_LIMITER_H_
