// cli/progress.h: tells on standard error that something long is under way, and how far it is.
//
// Nothing is shown in the first two seconds. On a terminal one line is kept up to date and removed
// at the end; elsewhere a plain line comes every ten seconds.
#ifndef BALEEN_CLI_PROGRESS_H_
#define BALEEN_CLI_PROGRESS_H_

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <string>
#include <thread>

namespace baleen {

// Threads: Update and Finish may be called by any.
class Progress {
 public:
  // `what` is a phrase such as "opening the model".
  explicit Progress(std::string what);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // What the first call finds done, by an earlier run perhaps, does not count for the time left.
  void Update(size_t done, size_t total);

  // No line of this object stands on the terminal when this returns, nor comes later.
  void Finish();

 private:
  void Loop();
  void Show(std::chrono::seconds elapsed);

  const std::string what_;
  const bool terminal_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool finished_ = false;  // these are guarded by mutex_
  bool shown_ = false;
  size_t done_ = 0;
  size_t total_ = 0;  // 0: unknown
  struct {
    size_t done = 0;
    std::chrono::steady_clock::time_point time;
  } begin_;
  std::thread thread_;
};

}  // namespace baleen

#endif  // BALEEN_CLI_PROGRESS_H_
