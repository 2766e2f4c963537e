// baleen/measure.h: what a machine can do, and what a computation asked of it.
//
// Plain data; the standard library only.
#ifndef BALEEN_MEASURE_H_
#define BALEEN_MEASURE_H_

#include <cstdint>

namespace baleen {

// Measured, not looked up: plain reading of memory, and loops of nothing but products, with all
// threads of an engine.
struct Roof {
  double read_gb_per_s = 0;
  double gflops_f32 = 0;
  double gflops_bf16 = 0;  // 0: the target has no BF16 products
  double gops_i8 = 0;      // 0: none
  // Of reading experts that memory lacks now, around the page cache; 0: there are none.
  double disk_gb_per_s = 0;
};

// What an engine has computed since it was opened. roof_seconds is the sum over operations of
// max(bytes / read bandwidth, operations / peak of that operation's arithmetic), by the last
// Engine::MeasureRoof; 0 before the first.
struct Work {
  uint64_t weight_bytes = 0;  // of weights and cache rows read, each once an operation
  uint64_t operations = 0;    // a multiplication and an addition are two
  double roof_seconds = 0;
  // With a memory limit under which not all weights fit; else 0.
  uint64_t expert_uses = 0;  // experts that a layer computed with, each once a pass
  uint64_t expert_hits = 0;  // of these, in memory already
  uint64_t disk_bytes = 0;   // read for the others
};

}  // namespace baleen

#endif  // BALEEN_MEASURE_H_
