#include "cli/progress.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <cstdio>

#include "cli/output.h"

namespace baleen {

namespace {

constexpr std::chrono::milliseconds kPatience{2000};
constexpr std::chrono::milliseconds kTerminalPeriod{250};
constexpr std::chrono::milliseconds kLinePeriod{10000};

std::string Words(std::chrono::seconds time) {
  const int64_t seconds = time.count();
  if (seconds < 120) return fmt::format("{} s", seconds);
  if (seconds < 7200) return fmt::format("{} min", seconds / 60);
  return fmt::format("{} h {} min", seconds / 3600, seconds / 60 % 60);
}

// Return to the first column and erase to the end of the line.
constexpr const char* kEraseLine = "\r\x1b[K";

}  // namespace

Progress::Progress(std::string what)
    : what_(std::move(what)), terminal_(StderrIsTerminal()), thread_([this] { Loop(); }) {}

Progress::~Progress() {
  Finish();
  thread_.join();
}

void Progress::Update(size_t done, size_t total) {
  const std::lock_guard lock(mutex_);
  if (total_ == 0) begin_ = {done, std::chrono::steady_clock::now()};
  done_ = done;
  total_ = total;
}

void Progress::Finish() {
  const std::lock_guard lock(mutex_);
  if (finished_) return;
  finished_ = true;
  if (shown_ && terminal_) fmt::print(stderr, "{}", kEraseLine);
  changed_.notify_all();
}

void Progress::Loop() {
  const auto begin = std::chrono::steady_clock::now();
  std::unique_lock lock(mutex_);
  auto pause = kPatience;
  while (!changed_.wait_for(lock, pause, [&] { return finished_; })) {
    Show(
        std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - begin));
    shown_ = true;
    pause = terminal_ ? kTerminalPeriod : kLinePeriod;
  }
}

void Progress::Show(std::chrono::seconds elapsed) {
  std::string line = fmt::format("{}: {}", what_, Words(elapsed));
  if (total_ > 0) {
    line = fmt::format("{}: {} of {} ({} %), {}", what_, done_, total_, done_ * 100 / total_,
                       Words(elapsed));
    if (done_ > begin_.done && done_ < total_) {
      const std::chrono::duration<double> since = std::chrono::steady_clock::now() - begin_.time;
      const double left = since.count() * static_cast<double>(total_ - done_) /
                          static_cast<double>(done_ - begin_.done);
      line += fmt::format(", about {} left", Words(std::chrono::seconds(std::lround(left))));
    }
  }
  if (terminal_) {
    fmt::print(stderr, "{}{}", kEraseLine, line);
    std::fflush(stderr);
  } else {
    Note(line);
  }
}

}  // namespace baleen
