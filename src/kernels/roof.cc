#include "kernels/roof.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>

namespace baleen::kernels {

namespace {

constexpr int kRuns = 20;
// Shorter than the slice of a busy scheduler, so that some runs are undisturbed.
constexpr double kRunSeconds = 0.005;
// A task's share of the memory: enough tasks that threads of unequal speed end together.
constexpr size_t kReadTaskBytes = size_t{4} << 20;

template <typename Work>
double SecondsOf(const Work& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// The sum of the words, so that every one has to be read.
uint64_t ReadAll(const std::byte* data, size_t bytes) {
  constexpr size_t kWords = 32;
  uint64_t sums[kWords] = {};
  for (size_t i = 0; i < bytes; i += sizeof(sums)) {
    uint64_t words[kWords];
    std::memcpy(words, data + i, sizeof(words));
    for (size_t w = 0; w < kWords; ++w) sums[w] += words[w];
  }
  uint64_t sum = 0;
  for (uint64_t part : sums) sum += part;
  return sum;
}

double ReadGbPerS(ThreadPool& pool) {
  const auto data = std::make_unique_for_overwrite<std::byte[]>(kRoofReadBytes);
  const size_t num_tasks = kRoofReadBytes / kReadTaskBytes;
  pool.ParallelFor(num_tasks, [&](size_t task, size_t) {
    std::memset(data.get() + task * kReadTaskBytes, static_cast<int>(task), kReadTaskBytes);
  });
  std::atomic<uint64_t> sum = 0;
  double best = 0;
  for (int run = 0; run < kRuns; ++run) {
    const double seconds = SecondsOf([&] {
      pool.ParallelFor(num_tasks, [&](size_t task, size_t) {
        sum += ReadAll(data.get() + task * kReadTaskBytes, kReadTaskBytes);
      });
    });
    best = std::max(best, kRoofReadBytes / seconds / 1e9);
  }
  return best;
}

double PeakGops(ThreadPool& pool, const KernelTable& table, PeakKind kind) {
  const size_t num_threads = pool.num_threads();
  size_t iterations = 1 << 16;
  if (table.peak_loop(kind, 1) == 0) return 0;
  // How many iterations fill a run, from one thread's speed.
  const double seconds = SecondsOf([&] { table.peak_loop(kind, iterations); });
  iterations = static_cast<size_t>(static_cast<double>(iterations) * kRunSeconds / seconds) + 1;
  double best = 0;
  for (int run = 0; run < kRuns; ++run) {
    std::atomic<double> operations = 0;
    const double run_seconds = SecondsOf([&] {
      pool.ParallelFor(num_threads,
                       [&](size_t, size_t) { operations += table.peak_loop(kind, iterations); });
    });
    best = std::max(best, operations / run_seconds / 1e9);
  }
  return best;
}

}  // namespace

Roof MeasureRoof(ThreadPool& pool, const KernelTable& table) {
  return {.read_gb_per_s = ReadGbPerS(pool),
          .gflops_f32 = PeakGops(pool, table, PeakKind::kF32),
          .gflops_bf16 = PeakGops(pool, table, PeakKind::kBF16),
          .gops_i8 = PeakGops(pool, table, PeakKind::kI8)};
}

}  // namespace baleen::kernels
