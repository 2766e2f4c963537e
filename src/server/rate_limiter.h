// server/rate_limiter.h: how many requests, tokens and seconds of the machine a key may have in a
// minute.
//
// A bucket for each, which fills up evenly and holds a minute's worth. A request takes one from the
// first when it comes; its tokens and seconds are taken when it has ended and they are known, so
// that one may run into debt, and waits for it.
// Threads: any. Time comes from the caller.
#ifndef BALEEN_SERVER_RATE_LIMITER_H_
#define BALEEN_SERVER_RATE_LIMITER_H_

#include <array>
#include <chrono>
#include <map>
#include <mutex>
#include <string>

#include "server/keys.h"

namespace baleen {

class RateLimiter {
 public:
  using Time = std::chrono::steady_clock::time_point;

  enum Kind { kRequests, kTokens, kMachineSeconds, kNumKinds };

  // What a key has left of each kind. Limits of 0 do not exist; their figures mean nothing.
  struct Verdict {
    bool allowed = true;
    double retry_after_seconds = 0;  // when not allowed
    std::array<double, kNumKinds> limit = {};
    std::array<double, kNumKinds> remaining = {};
    std::array<double, kNumKinds> reset_seconds = {};  // until it is full
  };

  // A request has come.
  Verdict Admit(const KeyInfo& key, Time now);
  // It took so much.
  void Charge(const KeyInfo& key, size_t tokens, double machine_seconds, Time now);

 private:
  struct Buckets {
    std::array<double, kNumKinds> limit = {};
    std::array<double, kNumKinds> left = {};
    Time filled = {};
  };
  Buckets& Fill(const KeyInfo& key, Time now);  // mutex_ is held

  std::mutex mutex_;
  std::map<std::string, Buckets> buckets_;  // guarded by mutex_; by the key's name
};

}  // namespace baleen

#endif  // BALEEN_SERVER_RATE_LIMITER_H_
