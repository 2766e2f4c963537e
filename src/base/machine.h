// base/machine.h: what this process may use of the machine. Linux: affinity, cgroups, /proc, /sys.
#ifndef BALEEN_BASE_MACHINE_H_
#define BALEEN_BASE_MACHINE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace baleen {

// The model name of the CPU, as the kernel reports it.
std::string CpuName();

// CPUs for compute threads: those that affinity allows, one for each physical core, no more than
// the cgroup's quota (rounded up). Never empty.
std::vector<int> ComputeCpus();

// Memory that can be taken without swapping: what the kernel calls available, no more than what
// the cgroup's limit leaves.
uint64_t AvailableMemoryBytes();

uint64_t TotalMemoryBytes();

// Memory that this process has now, and has had at most; 0 if unknown.
uint64_t ResidentBytes();
uint64_t PeakResidentBytes();

// Bytes of the largest cache, 0 if unknown.
size_t LastLevelCacheBytes();

// Asks the kernel for pages of 2 MiB for what of [data, data + bytes) is whole ones. To be called
// before the memory is first touched: arrays of many megabytes that are read by columns otherwise
// wait for the translation of addresses, most of all in a virtual machine.
void AdviseHugePages(void* data, size_t bytes);

}  // namespace baleen

#endif  // BALEEN_BASE_MACHINE_H_
