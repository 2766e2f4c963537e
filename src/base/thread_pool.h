// base/thread_pool.h: the threads of one engine.
//
// ParallelFor hands out task numbers; which thread takes which task is left to chance, so tasks
// must write disjoint results and must not depend on the thread. The calling thread works too
// (thread 0). Workers spin for at most kSpinMicroseconds after the last work, then sleep: an idle
// engine uses no CPU. A call ends when its tasks are done: a worker that did not come in time,
// since another program has its CPU, is not waited for.
//
// Threads: one caller at a time. Two pools may work side by side.
#ifndef BALEEN_BASE_THREAD_POOL_H_
#define BALEEN_BASE_THREAD_POOL_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

#include "base/function_ref.h"

namespace baleen {

class ThreadPool {
 public:
  static constexpr int kSpinMicroseconds = 50;

  // `num_threads` >= 1, the caller included. With `cpus` (one for each thread), workers are pinned
  // to them; the caller's own thread is left alone until it calls PinCaller.
  explicit ThreadPool(size_t num_threads, std::vector<int> cpus = {});
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Pins the calling thread, which is to call ParallelFor from now on, to the first of the CPUs.
  void PinCaller();

  size_t num_threads() const { return workers_.size() + 1; }

  // Calls task(i, thread) once for each i in [0, num_tasks), thread in [0, num_threads), and
  // returns when all have returned. Tasks must not throw and must not call ParallelFor.
  void ParallelFor(size_t num_tasks, FunctionRef<void(size_t task, size_t thread)> task);

  // Two phases for the price of one call: no task of the second begins before all of the first have
  // returned, and what those wrote is seen.
  void ParallelFor(size_t num_first, FunctionRef<void(size_t task, size_t thread)> first,
                   size_t num_second, FunctionRef<void(size_t task, size_t thread)> second);

 private:
  static constexpr uint32_t kOpen = uint32_t{1} << 31;

  void WorkerLoop(size_t thread);
  void TakeTasks(size_t thread);
  bool Enter();  // false: that call is over

  // Written by the caller before the epoch moves on; read by workers after they saw it move.
  const FunctionRef<void(size_t, size_t)>* task_ = nullptr;
  size_t num_tasks_ = 0;

  alignas(64) std::atomic<uint32_t> epoch_{0};
  alignas(64) std::atomic<size_t> next_task_{0};
  // The workers inside the call, and kOpen while more may enter.
  alignas(64) std::atomic<uint32_t> entry_{0};
  std::atomic<bool> stop_{false};
  std::vector<int> cpus_;
  std::vector<std::thread> workers_;
};

}  // namespace baleen

#endif  // BALEEN_BASE_THREAD_POOL_H_
