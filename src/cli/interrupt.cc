#include "cli/interrupt.h"

#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>

#include "baleen/error.h"
#include "base/check.h"

namespace baleen {

namespace {

constexpr uint64_t kStop = uint64_t{1} << 32;

// Where the next SIGINT is reported; -1: it ends the program. Global because handlers are.
std::atomic<int> g_event_fd{-1};
static_assert(std::atomic<int>::is_always_lock_free);

void OnSignal(int) {
  const int fd = g_event_fd.exchange(-1);
  if (fd < 0) _exit(static_cast<int>(ErrorCode::kCancelled));
  const uint64_t one = 1;
  if (write(fd, &one, sizeof(one)) != sizeof(one)) _exit(static_cast<int>(ErrorCode::kCancelled));
}

void Handle(int signal) {
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  action.sa_flags = SA_RESTART;
  BALEEN_CHECK(sigaction(signal, &action, nullptr) == 0);
}

}  // namespace

void HandleInterrupts() { Handle(SIGINT); }
void HandleTerminations() { Handle(SIGTERM); }

InterruptScope::InterruptScope(std::function<void()> on_interrupt)
    : on_interrupt_(std::move(on_interrupt)), event_fd_(eventfd(0, EFD_CLOEXEC)) {
  BALEEN_CHECK(event_fd_ >= 0);
  thread_ = std::thread([this] { Watch(); });
  g_event_fd = event_fd_;
}

InterruptScope::~InterruptScope() {
  g_event_fd = -1;
  BALEEN_CHECK(write(event_fd_, &kStop, sizeof(kStop)) == sizeof(kStop));
  thread_.join();
  close(event_fd_);
}

void InterruptScope::Watch() {
  uint64_t count = 0;
  do {
    BALEEN_CHECK(read(event_fd_, &count, sizeof(count)) == sizeof(count));
    if (count % kStop > 0) {
      interrupted_ = true;
      if (on_interrupt_) on_interrupt_();
    }
  } while (count < kStop);
}

}  // namespace baleen
