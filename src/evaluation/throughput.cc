#include "evaluation/throughput.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <mutex>

#include "base/check.h"
#include "base/error.h"
#include "base/random.h"

namespace baleen {

namespace {

using Clock = std::chrono::steady_clock;

// Of a prompt: enough to read every expert and to wake every thread.
constexpr size_t kWarmUpTokens = 512;

// Sequences of a batch start one after the other; the first may generate this much longer.
size_t StaggerTokens(const ThroughputOptions& options) {
  return options.batch_size == 1 ? 0 : 32 * options.batch_size;
}

// An instant, with what had been computed by then.
struct Mark {
  Clock::time_point time;
  Work work;
};

Mark MarkNow(const Engine& engine) { return {Clock::now(), engine.TotalWork()}; }

ThroughputRun RunBetween(const Mark& begin, const Mark& end, size_t num_tokens) {
  const double seconds = std::chrono::duration<double>(end.time - begin.time).count();
  const double tokens = static_cast<double>(num_tokens);
  ThroughputRun run;
  run.tokens_per_s = tokens / seconds;
  run.bytes_per_token =
      static_cast<double>(end.work.weight_bytes - begin.work.weight_bytes) / tokens;
  run.operations_per_token =
      static_cast<double>(end.work.operations - begin.work.operations) / tokens;
  run.roofline_share = (end.work.roof_seconds - begin.work.roof_seconds) / seconds;
  if (const uint64_t uses = end.work.expert_uses - begin.work.expert_uses; uses > 0) {
    run.expert_hit_rate = static_cast<double>(end.work.expert_hits - begin.work.expert_hits) /
                          static_cast<double>(uses);
  }
  run.disk_bytes_per_token =
      static_cast<double>(end.work.disk_bytes - begin.work.disk_bytes) / tokens;
  return run;
}

// Watches a batch, marks the stretch in which all of its sequences generate, and ends it.
// Shared with the engine's thread, which calls OnTokens.
class DecodeWindow {
 public:
  DecodeWindow(const Engine& engine, size_t batch_size, size_t num_tokens)
      : engine_(engine),
        counts_(batch_size, 0),
        num_waiting_(batch_size),
        num_wanted_(num_tokens) {}

  void OnTokens(size_t sequence, size_t num_tokens, size_t max_tokens) {
    const std::lock_guard lock(mutex_);
    if (closed_) return;
    if (num_waiting_ == 0) {
      num_seen_ += num_tokens;
    } else if (counts_[sequence] == 0 && --num_waiting_ == 0) {
      begin_ = MarkNow(engine_);
    }
    counts_[sequence] += num_tokens;
    // A sequence at its end closes the stretch too: from here on the batch is smaller.
    if (num_seen_ >= num_wanted_ || counts_[sequence] >= max_tokens) Close();
  }

  void Add(std::shared_ptr<Generation> generation) {
    const std::lock_guard lock(mutex_);
    if (closed_) generation->Cancel();
    generations_.push_back(std::move(generation));
  }

  // Waits for the end of all sequences. Errors: of Generation::Wait; kFailed, there was no stretch.
  ThroughputRun Wait() {
    // No lock: only Add changes the list, on this thread.
    for (const auto& generation : generations_) generation->Wait();
    const std::lock_guard lock(mutex_);
    if (num_seen_ == 0) {
      Throw(ErrorCode::kFailed,
            "the sequences of the batch never generated together; use a smaller --batch or a "
            "larger --generate");
    }
    return RunBetween(begin_, end_, num_seen_);
  }

 private:
  void Close() {
    end_ = MarkNow(engine_);
    closed_ = true;
    for (const auto& generation : generations_) generation->Cancel();
  }

  const Engine& engine_;
  std::mutex mutex_;
  std::vector<std::shared_ptr<Generation>> generations_;
  std::vector<size_t> counts_;  // tokens of each sequence
  size_t num_waiting_;          // sequences without a first token
  const size_t num_wanted_;
  size_t num_seen_ = 0;  // tokens since all generate
  bool closed_ = false;
  Mark begin_, end_;
};

class ThroughputRunner {
 public:
  ThroughputRunner(Engine& engine, const ThroughputOptions& options)
      : engine_(engine), options_(options), random_(options.seed) {}

  ThroughputRun Prefill(size_t prompt_tokens) {
    const std::vector<Request> requests = MakeRequests(prompt_tokens, 1);
    const Mark begin = MarkNow(engine_);
    std::vector<std::shared_ptr<Generation>> generations;
    for (const Request& request : requests) generations.push_back(engine_.Submit(request));
    for (const auto& generation : generations) generation->Wait();
    return RunBetween(begin, MarkNow(engine_), prompt_tokens * options_.batch_size);
  }

  ThroughputRun Decode() {
    // The first token of an answer comes from its prompt, so one more than is decoded.
    const size_t max_tokens = options_.generate_tokens + 1 + StaggerTokens(options_);
    const size_t batch_size = options_.batch_size;
    const auto window =
        std::make_shared<DecodeWindow>(engine_, batch_size, options_.generate_tokens * batch_size);
    std::vector<Request> requests = MakeRequests(options_.context_tokens, max_tokens);
    for (size_t i = 0; i < batch_size; ++i) {
      if (options_.assume_context) {
        requests[i].assumed_tokens = requests[i].prompt_token_ids.size() - 1;
      }
      window->Add(engine_.Submit(std::move(requests[i]), [=](const Chunk& chunk) {
        if (!chunk.tokens.empty()) window->OnTokens(i, chunk.tokens.size(), max_tokens);
      }));
    }
    return window->Wait();
  }

 private:
  std::vector<Request> MakeRequests(size_t prompt_tokens, size_t max_tokens) {
    std::vector<Request> requests(options_.batch_size);
    for (Request& request : requests) {
      // An answer follows at least one token.
      request.prompt_token_ids.resize(std::max<size_t>(prompt_tokens, 1));
      for (int32_t& id : request.prompt_token_ids) {
        id = static_cast<int32_t>(random_.Below(engine_.info().vocab_size));
      }
      request.max_tokens = max_tokens;
      request.ignore_eos = true;
    }
    return requests;
  }

  Engine& engine_;
  const ThroughputOptions& options_;
  Random random_;
};

}  // namespace

size_t ContextFor(const ThroughputOptions& options) {
  return std::max(options.prompt_tokens + 1, std::max<size_t>(options.context_tokens, 1) +
                                                 options.generate_tokens + 1 +
                                                 StaggerTokens(options));
}

Throughput MeasureThroughput(Engine& engine, const ThroughputOptions& options) {
  ThroughputRunner runner(engine, options);
  Throughput result;
  for (size_t i = 0; i <= options.num_repeats; ++i) {
    if (options.cancelled && options.cancelled()) Throw(ErrorCode::kCancelled, "interrupted");
    const ThroughputRun prefill = runner.Prefill(
        i == 0 ? std::min(options.prompt_tokens, kWarmUpTokens) : options.prompt_tokens);
    const ThroughputRun decode = runner.Decode();
    if (options.on_progress) options.on_progress(i + 1, options.num_repeats + 1);
    if (i == 0) continue;  // pages were loaded and threads woken
    result.prefill.push_back(prefill);
    result.decode.push_back(decode);
  }
  return result;
}

double DiskShare(const ThroughputRun& run, const Roof& roof) {
  if (roof.disk_gb_per_s == 0) return 0;
  return run.disk_bytes_per_token * run.tokens_per_s / (roof.disk_gb_per_s * 1e9);
}

double PredictedShare(const ThroughputRun& run, const Roof& roof) {
  return DiskShare(run, roof) + run.roofline_share;
}

Spread SpreadOf(std::vector<double> values) {
  BALEEN_CHECK(!values.empty());
  std::ranges::sort(values);
  const size_t middle = values.size() / 2;
  const double median =
      values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
  return {median, values.front(), values.back()};
}

}  // namespace baleen
