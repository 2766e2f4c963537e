#include "server/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <mutex>

namespace baleen {

namespace {

using Labels = prometheus::Labels;
using Buckets = prometheus::Histogram::BucketBoundaries;

// vLLM's bounds, in seconds.
const Buckets kLatency = {0.3, 0.5, 0.8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                          30,  40,  50,  60, 120, 240, 480, 960, 1920, 7680};
const Buckets kFirstToken = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
                             1,     2.5,   5,    7.5,  10,   20,   40,   80,  160,  640, 2560};
const Buckets kTokenGap = {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5,
                           0.75, 1,     2.5,  5,     7.5, 10,   20,  40,  80};
const Buckets kChoices = {1, 2, 5, 10, 20};

// 1, 2, 5, 10, ... up to the context.
Buckets TokenBuckets(size_t max_tokens) {
  Buckets buckets;
  for (double power = 1; power <= static_cast<double>(max_tokens); power *= 10) {
    for (const double digit : {1.0, 2.0, 5.0}) {
      if (digit * power <= static_cast<double>(max_tokens)) buckets.push_back(digit * power);
    }
  }
  return buckets;
}

}  // namespace

struct Metrics::Figures {
  Labels labels;
  prometheus::Registry registry;
  std::mutex mutex;
  EngineStats last;  // guarded by mutex: what the counters already hold

  prometheus::Gauge& AddGauge(const char* name, const char* help) {
    return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add(labels);
  }
  prometheus::Counter& AddCounter(const char* name, const char* help) {
    return prometheus::BuildCounter().Name(name).Help(help).Register(registry).Add(labels);
  }
  prometheus::Histogram& AddHistogram(const char* name, const char* help, const Buckets& buckets) {
    return prometheus::BuildHistogram().Name(name).Help(help).Register(registry).Add(labels,
                                                                                     buckets);
  }

  Figures(const std::string& model_name, size_t max_tokens)
      : labels({{"model_name", model_name}, {"engine", "0"}}),
        token_buckets(TokenBuckets(max_tokens)) {}

  const Buckets token_buckets;
  prometheus::Gauge& running = AddGauge("vllm:num_requests_running", "Requests that are computed");
  prometheus::Gauge& waiting = AddGauge("vllm:num_requests_waiting", "Requests that wait");
  prometheus::Gauge& cache_usage =
      AddGauge("vllm:kv_cache_usage_perc", "Share of the latent cache in use, 0 to 1");
  prometheus::Counter& prompt_tokens =
      AddCounter("vllm:prompt_tokens_total", "Tokens of prompts that were begun");
  prometheus::Counter& generation_tokens =
      AddCounter("vllm:generation_tokens_total", "Tokens of answers");
  prometheus::Counter& cache_queries =
      AddCounter("vllm:prefix_cache_queries_total", "Tokens of prompts that were looked up");
  prometheus::Counter& cache_hits =
      AddCounter("vllm:prefix_cache_hits_total", "... and found in the prefix cache");
  prometheus::Counter& preemptions =
      AddCounter("vllm:num_preemptions_total", "Requests that gave way to others");
  prometheus::Family<prometheus::Counter>& success = prometheus::BuildCounter()
                                                         .Name("vllm:request_success_total")
                                                         .Help("Requests that have ended")
                                                         .Register(registry);
  prometheus::Histogram& first_token =
      AddHistogram("vllm:time_to_first_token_seconds", "From request to first token", kFirstToken);
  prometheus::Histogram& token_gap =
      AddHistogram("vllm:inter_token_latency_seconds", "Between tokens of an answer", kTokenGap);
  prometheus::Histogram& total =
      AddHistogram("vllm:e2e_request_latency_seconds", "From request to end", kLatency);
  prometheus::Histogram& queue =
      AddHistogram("vllm:request_queue_time_seconds", "Waited before the work began", kLatency);
  prometheus::Histogram& prefill =
      AddHistogram("vllm:request_prefill_time_seconds", "From then to the first token", kLatency);
  prometheus::Histogram& decode =
      AddHistogram("vllm:request_decode_time_seconds", "From then to the last token", kLatency);
  prometheus::Histogram& request_prompt =
      AddHistogram("vllm:request_prompt_tokens", "Tokens of a request's prompts", token_buckets);
  prometheus::Histogram& request_generation = AddHistogram(
      "vllm:request_generation_tokens", "Tokens of a request's answers", token_buckets);
  prometheus::Histogram& request_n =
      AddHistogram("vllm:request_params_n", "Answers that a request asked for", kChoices);
};

Metrics::Metrics(const std::string& model_name, size_t max_context_tokens)
    : figures_(std::make_unique<Figures>(model_name, max_context_tokens)) {}
Metrics::~Metrics() = default;

void Metrics::OnAnswer(const AnswerReport& report) {
  Figures& f = *figures_;
  Labels labels = f.labels;
  labels["finished_reason"] = report.finish_reason;
  f.success.Add(labels).Increment();
  if (report.first_token_seconds > 0) f.first_token.Observe(report.first_token_seconds);
  for (const float gap : report.token_gaps) f.token_gap.Observe(gap);
  f.total.Observe(report.total_seconds);
  f.queue.Observe(report.queue_seconds);
  f.prefill.Observe(report.prefill_seconds);
  f.decode.Observe(report.decode_seconds);
  f.request_prompt.Observe(static_cast<double>(report.usage.prompt_tokens));
  f.request_generation.Observe(static_cast<double>(report.usage.completion_tokens));
  f.request_n.Observe(static_cast<double>(report.num_choices));
}

std::string Metrics::Text(const EngineStats& stats) {
  Figures& f = *figures_;
  const std::lock_guard lock(f.mutex);
  f.running.Set(static_cast<double>(stats.running_requests));
  f.waiting.Set(static_cast<double>(stats.waiting_requests));
  f.cache_usage.Set(stats.cache_tokens == 0 ? 0
                                            : static_cast<double>(stats.cache_used_tokens) /
                                                  static_cast<double>(stats.cache_tokens));
  const auto advance = [](prometheus::Counter& counter, uint64_t now, uint64_t before) {
    counter.Increment(static_cast<double>(now - before));
  };
  advance(f.prompt_tokens, stats.prompt_tokens, f.last.prompt_tokens);
  advance(f.generation_tokens, stats.generated_tokens, f.last.generated_tokens);
  advance(f.cache_queries, stats.prompt_tokens, f.last.prompt_tokens);
  advance(f.cache_hits, stats.cached_tokens, f.last.cached_tokens);
  advance(f.preemptions, stats.preemptions, f.last.preemptions);
  f.last = stats;
  return prometheus::TextSerializer().Serialize(f.registry.Collect());
}

}  // namespace baleen
