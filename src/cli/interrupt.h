// cli/interrupt.h: Ctrl-C, which ends the program outside of a scope and is an event within one.
#ifndef BALEEN_CLI_INTERRUPT_H_
#define BALEEN_CLI_INTERRUPT_H_

#include <atomic>
#include <functional>
#include <thread>

namespace baleen {

// From here on SIGINT ends the program with exit code 130 unless a scope is open.
void HandleInterrupts();

// From here on SIGTERM does what SIGINT does.
void HandleTerminations();

// While it lives, the first SIGINT calls `on_interrupt` (on a thread of the scope) and sets
// interrupted(); a second one ends the program as if there were no scope. At most one at a time.
class InterruptScope {
 public:
  explicit InterruptScope(std::function<void()> on_interrupt = {});
  ~InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;

  bool interrupted() const { return interrupted_; }

 private:
  void Watch();

  std::function<void()> on_interrupt_;
  std::atomic<bool> interrupted_ = false;
  int event_fd_;  // the handler adds 1, the destructor kStop
  std::thread thread_;
};

}  // namespace baleen

#endif  // BALEEN_CLI_INTERRUPT_H_
