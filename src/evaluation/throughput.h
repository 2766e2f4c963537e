// evaluation/throughput.h: how fast an engine computes, and how near to what its machine can do.
//
// Each run has prompts of its own (random ids), so no cache can answer for the arithmetic. Prefill
// is timed from submission to the first token of the last sequence. Decode is timed while all
// sequences of the batch generate, from the moment the last of them has its first token.
#ifndef BALEEN_EVALUATION_THROUGHPUT_H_
#define BALEEN_EVALUATION_THROUGHPUT_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "baleen/engine.h"

namespace baleen {

struct ThroughputOptions {
  size_t prompt_tokens = 512;   // of a prompt, for prefill
  size_t generate_tokens = 64;  // of an answer, for decode
  // In the context before the first decoded token. 0 is 1: an answer follows at least one token.
  size_t context_tokens = 512;
  // All of that context but its last token is assumed (Request::assumed_tokens), not computed.
  bool assume_context = false;
  size_t batch_size = 1;  // sequences together
  size_t num_repeats = 5;
  uint64_t seed = 1;
  std::function<bool()> cancelled;
  std::function<void(size_t done_runs, size_t total_runs)> on_progress;
};

// The context that an engine must be opened with for these options.
size_t ContextFor(const ThroughputOptions& options);

// Figures of one run.
struct ThroughputRun {
  double tokens_per_s = 0;     // of all sequences together
  double bytes_per_token = 0;  // weights and cache rows read
  double operations_per_token = 0;
  double roofline_share = 0;   // time at the machine's roof / time taken; 0: no roof was measured
  double expert_hit_rate = 1;  // of experts that layers computed with, those that memory had
  double disk_bytes_per_token = 0;  // read for the others
};

// The time that the disk takes for what a run read, and that time and then the roof's, / the time
// taken. Reading and computing overlap: the second may exceed 1.
double DiskShare(const ThroughputRun& run, const Roof& roof);
double PredictedShare(const ThroughputRun& run, const Roof& roof);

struct Throughput {
  std::vector<ThroughputRun> prefill;  // [num_repeats]
  std::vector<ThroughputRun> decode;
};

// A run of each kind to warm up, with 512 tokens of a prompt at most, then num_repeats of both in
// turn. Call Engine::MeasureRoof first for roofline_share. Errors: as Engine::Submit and
// Generation::Wait; kCancelled.
Throughput MeasureThroughput(Engine& engine, const ThroughputOptions& options);

// The middle of the values and their ends; at least one value.
struct Spread {
  double median = 0;
  double min = 0;
  double max = 0;
};
Spread SpreadOf(std::vector<double> values);

}  // namespace baleen

#endif  // BALEEN_EVALUATION_THROUGHPUT_H_
