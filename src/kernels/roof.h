// kernels/roof.h: what this machine can do at most, measured: the roofs under which kernels work.
#ifndef BALEEN_KERNELS_ROOF_H_
#define BALEEN_KERNELS_ROOF_H_

#include <cstddef>

#include "baleen/measure.h"
#include "base/thread_pool.h"
#include "kernels/table.h"

namespace baleen::kernels {

// Takes about a second and kRoofReadBytes of memory while it runs. The best of several short runs
// counts: whatever else the machine does can only slow it down.
inline constexpr size_t kRoofReadBytes = size_t{256} << 20;
Roof MeasureRoof(ThreadPool& pool, const KernelTable& table);

}  // namespace baleen::kernels

#endif  // BALEEN_KERNELS_ROOF_H_
