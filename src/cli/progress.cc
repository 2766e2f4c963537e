#include "cli/progress.h"

#include <fmt/format.h>

#include <cstdio>

#include "cli/output.h"

namespace baleen {

namespace {

constexpr std::chrono::milliseconds kPatience{2000};
constexpr std::chrono::milliseconds kTerminalPeriod{250};
constexpr std::chrono::milliseconds kLinePeriod{10000};

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
  std::string line = fmt::format("{}: {} s", what_, elapsed.count());
  if (total_ > 0) {
    line = fmt::format("{}: {} of {} ({} %), {} s", what_, done_, total_, done_ * 100 / total_,
                       elapsed.count());
  }
  if (terminal_) {
    fmt::print(stderr, "{}{}", kEraseLine, line);
    std::fflush(stderr);
  } else {
    Note(line);
  }
}

}  // namespace baleen
