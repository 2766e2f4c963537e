#include "base/thread_pool.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <chrono>
#include <ctime>
#include <numeric>
#include <thread>

namespace baleen {
namespace {

TEST(ThreadPoolTest, EachTaskRunsOnceWhateverTheNumbers) {
  for (size_t threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.num_threads(), threads);
    for (size_t tasks : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> runs(tasks);
      std::atomic<bool> thread_in_range = true;
      pool.ParallelFor(tasks, [&](size_t task, size_t thread) {
        ++runs[task];
        if (thread >= threads) thread_in_range = false;
      });
      for (size_t i = 0; i < tasks; ++i) EXPECT_EQ(runs[i], 1) << i;
      EXPECT_TRUE(thread_in_range);
    }
  }
}

TEST(ThreadPoolTest, ManyShortRegionsInARow) {
  ThreadPool pool(4);
  std::vector<size_t> values(4);
  for (size_t round = 0; round < 2000; ++round) {
    pool.ParallelFor(4, [&](size_t task, size_t) { values[task] += task; });
  }
  EXPECT_EQ(values, (std::vector<size_t>{0, 2000, 4000, 6000}));
}

TEST(ThreadPoolTest, TheSecondPhaseSeesTheFirst) {
  for (size_t threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    for (size_t round = 0; round < 200; ++round) {
      for (const auto& [num_first, num_second] :
           {std::pair(0, 3), std::pair(5, 7), std::pair(9, 0)}) {
        std::vector<size_t> values(static_cast<size_t>(num_first));
        std::vector<size_t> sums(static_cast<size_t>(num_second));
        pool.ParallelFor(
            values.size(), [&](size_t task, size_t) { values[task] = round + task; }, sums.size(),
            [&](size_t task, size_t) {
              sums[task] = task + std::accumulate(values.begin(), values.end(), size_t{0});
            });
        const size_t sum = std::accumulate(values.begin(), values.end(), size_t{0});
        EXPECT_EQ(sum,
                  values.size() * round + values.size() * (values.size() + 1) / 2 - values.size());
        for (size_t i = 0; i < sums.size(); ++i) ASSERT_EQ(sums[i], i + sum);
      }
    }
  }
}

TEST(ThreadPoolTest, WorksAfterItsWorkersFellAsleep) {
  ThreadPool pool(2);
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    std::atomic<int> sum = 0;
    pool.ParallelFor(100, [&](size_t task, size_t) { sum += static_cast<int>(task); });
    EXPECT_EQ(sum, 4950);
  }
}

// A worker that does not get to run, here since a signal holds it, is not waited for.
std::atomic<bool> held = false, let_go = false;

TEST(ThreadPoolTest, ACallDoesNotNeedAWorkerThatCannotCome) {
  ThreadPool pool(2);
  std::atomic<int> inside = 0;
  pthread_t worker = {};
  pool.ParallelFor(2, [&](size_t, size_t thread) {
    if (thread == 1) worker = pthread_self();
    ++inside;
    while (inside != 2) std::this_thread::yield();
  });
  signal(SIGUSR1, [](int) {
    held = true;
    while (!let_go) {
    }
  });
  pthread_kill(worker, SIGUSR1);
  while (!held) std::this_thread::yield();

  std::atomic<bool> done = false;
  std::thread watchdog([&] {
    for (int i = 0; i < 1000 && !done; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    let_go = true;
  });
  std::atomic<int> tasks = 0;
  for (int round = 0; round < 100; ++round) {
    pool.ParallelFor(10, [&](size_t, size_t thread) { tasks += thread == 0; });
  }
  EXPECT_FALSE(let_go) << "the worker was waited for";
  EXPECT_EQ(tasks, 1000);
  done = true;
  watchdog.join();
  signal(SIGUSR1, SIG_DFL);
}

TEST(ThreadPoolTest, AnIdlePoolUsesNoCpu) {
  ThreadPool pool(2);
  pool.ParallelFor(2, [](size_t, size_t) {});
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const auto cpu_seconds = [] {
    timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  };
  const double before = cpu_seconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_LT(cpu_seconds() - before, 0.03);  // a spinning worker would take 0.3
}

}  // namespace
}  // namespace baleen
