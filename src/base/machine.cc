#include "base/machine.h"

#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <set>
#include <sstream>

namespace baleen {

namespace {

// The first line of a small file of the kernel; "" when there is none.
std::string FirstLine(const std::string& path) {
  std::ifstream stream(path);
  std::string line;
  std::getline(stream, line);
  return line;
}

// The value of "key: value" in a file of such lines.
std::string Field(const std::string& path, const std::string& key) {
  std::ifstream stream(path);
  for (std::string line; std::getline(stream, line);) {
    if (line.compare(0, key.size(), key) != 0) continue;
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

uint64_t KibibytesOf(const std::string& key) {
  return std::strtoull(Field("/proc/meminfo", key).c_str(), nullptr, 10) * 1024;
}

// The folder of this process's cgroup (version 2), where limits are written.
std::string CgroupFolder() {
  const std::string line = FirstLine("/proc/self/cgroup");  // "0::/path"
  const size_t colon = line.rfind(':');
  return "/sys/fs/cgroup" + (colon == std::string::npos ? "" : line.substr(colon + 1));
}

// CPUs that the quota is worth; infinity without one.
double CgroupCpuQuota() {
  std::istringstream line(FirstLine(CgroupFolder() + "/cpu.max"));  // "max 100000", "150000 100000"
  double quota = 0, period = 0;
  if (line >> quota >> period && quota > 0 && period > 0) return quota / period;
  return std::numeric_limits<double>::infinity();
}

uint64_t CgroupMemoryLeft() {
  const std::string folder = CgroupFolder();
  char* end = nullptr;
  const std::string limit_text = FirstLine(folder + "/memory.max");  // "max" or bytes
  const uint64_t limit = std::strtoull(limit_text.c_str(), &end, 10);
  if (end == limit_text.c_str()) return std::numeric_limits<uint64_t>::max();
  const uint64_t used = std::strtoull(FirstLine(folder + "/memory.current").c_str(), nullptr, 10);
  return limit > used ? limit - used : 0;
}

}  // namespace

std::string CpuName() {
  const std::string name = Field("/proc/cpuinfo", "model name");
  return name.empty() ? "unknown CPU" : name;
}

std::vector<int> ComputeCpus() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  std::vector<int> cpus;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) {
    std::set<std::string> cores;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (!CPU_ISSET(cpu, &allowed)) continue;
      const std::string siblings = FirstLine("/sys/devices/system/cpu/cpu" + std::to_string(cpu) +
                                             "/topology/thread_siblings_list");
      if (siblings.empty() || cores.insert(siblings).second) cpus.push_back(cpu);
    }
  }
  if (cpus.empty()) cpus.push_back(0);
  const double quota = CgroupCpuQuota();
  if (quota < static_cast<double>(cpus.size())) {
    cpus.resize(std::max<size_t>(1, static_cast<size_t>(std::ceil(quota))));
  }
  return cpus;
}

uint64_t AvailableMemoryBytes() {
  return std::min(KibibytesOf("MemAvailable"), CgroupMemoryLeft());
}

uint64_t TotalMemoryBytes() { return KibibytesOf("MemTotal"); }

namespace {

uint64_t OwnKibibytes(const std::string& key) {
  return std::strtoull(Field("/proc/self/status", key).c_str(), nullptr, 10) << 10;
}

}  // namespace

uint64_t ResidentBytes() { return OwnKibibytes("VmRSS"); }
uint64_t PeakResidentBytes() { return OwnKibibytes("VmHWM"); }

size_t LastLevelCacheBytes() {
  const long l3 = sysconf(_SC_LEVEL3_CACHE_SIZE);
  const long l2 = sysconf(_SC_LEVEL2_CACHE_SIZE);
  return static_cast<size_t>(std::max({l3, l2, 0L}));
}

void AdviseHugePages(void* data, size_t bytes) {
  constexpr uintptr_t kHugePage = uintptr_t{2} << 20;
  const auto address = reinterpret_cast<uintptr_t>(data);
  const uintptr_t begin = (address + kHugePage - 1) / kHugePage * kHugePage;
  const uintptr_t end = (address + bytes) / kHugePage * kHugePage;
  // A kernel without them refuses, and nothing is lost.
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
}

}  // namespace baleen
