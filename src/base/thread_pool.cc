#include "base/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <chrono>

#include "base/check.h"

namespace baleen {

namespace {

void CpuRelax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#endif
}

// Waits until `value` differs from `old`: spins first, then sleeps.
template <typename T>
T AwaitChange(const std::atomic<T>& value, T old) {
  const auto deadline =
      std::chrono::steady_clock::now() + std::chrono::microseconds(ThreadPool::kSpinMicroseconds);
  do {
    for (int i = 0; i < 64; ++i) {
      const T now = value.load(std::memory_order_acquire);
      if (now != old) return now;
      CpuRelax();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  value.wait(old, std::memory_order_acquire);
  return value.load(std::memory_order_acquire);
}

void PinTo(pthread_t thread, int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  // A refusal (a container's policy) costs speed, not correctness.
  pthread_setaffinity_np(thread, sizeof(set), &set);
}

}  // namespace

ThreadPool::ThreadPool(size_t num_threads, std::vector<int> cpus) : cpus_(std::move(cpus)) {
  BALEEN_CHECK(num_threads >= 1);
  BALEEN_CHECK(cpus_.empty() || cpus_.size() == num_threads);
  for (size_t thread = 1; thread < num_threads; ++thread) {
    workers_.emplace_back([this, thread] { WorkerLoop(thread); });
    if (!cpus_.empty()) PinTo(workers_.back().native_handle(), cpus_[thread]);
  }
}

void ThreadPool::PinCaller() {
  if (!cpus_.empty()) PinTo(pthread_self(), cpus_[0]);
}

ThreadPool::~ThreadPool() {
  stop_.store(true, std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::ParallelFor(size_t num_tasks, FunctionRef<void(size_t, size_t)> task) {
  if (num_tasks == 0) return;
  if (num_tasks == 1 || workers_.empty()) {
    for (size_t i = 0; i < num_tasks; ++i) task(i, 0);
    return;
  }
  task_ = &task;
  num_tasks_ = num_tasks;
  next_task_.store(0, std::memory_order_relaxed);
  entry_.store(kOpen, std::memory_order_release);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  TakeTasks(0);
  // Who has entered must leave before the next call may reuse the shared fields. Who has not is not
  // waited for: its CPU may belong to another program for many milliseconds.
  uint32_t inside = entry_.fetch_and(~kOpen, std::memory_order_acq_rel) & ~kOpen;
  while (inside != 0) inside = AwaitChange(entry_, inside);
}

void ThreadPool::ParallelFor(size_t num_first, FunctionRef<void(size_t, size_t)> first,
                             size_t num_second, FunctionRef<void(size_t, size_t)> second) {
  // Numbers are handed out in order, so whoever waits here waits for threads that are at work.
  std::atomic<size_t> num_done = 0;
  ParallelFor(num_first + num_second, [&](size_t task, size_t thread) {
    if (task < num_first) {
      first(task, thread);
      num_done.fetch_add(1, std::memory_order_release);
      return;
    }
    while (num_done.load(std::memory_order_acquire) < num_first) std::this_thread::yield();
    second(task - num_first, thread);
  });
}

void ThreadPool::TakeTasks(size_t thread) {
  for (;;) {
    const size_t i = next_task_.fetch_add(1, std::memory_order_relaxed);
    if (i >= num_tasks_) return;
    (*task_)(i, thread);
  }
}

void ThreadPool::WorkerLoop(size_t thread) {
  uint32_t seen = 0;
  for (;;) {
    seen = AwaitChange(epoch_, seen);
    if (stop_.load(std::memory_order_relaxed)) return;
    if (!Enter()) continue;
    TakeTasks(thread);
    if (entry_.fetch_sub(1, std::memory_order_acq_rel) == 1) entry_.notify_one();
  }
}

bool ThreadPool::Enter() {
  uint32_t entry = entry_.load(std::memory_order_relaxed);
  while ((entry & kOpen) != 0) {
    if (entry_.compare_exchange_weak(entry, entry + 1, std::memory_order_acq_rel,
                                     std::memory_order_relaxed)) {
      return true;
    }
  }
  return false;
}

}  // namespace baleen
