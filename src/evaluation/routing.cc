#include "evaluation/routing.h"

#include "base/check.h"
#include "base/error.h"

namespace baleen {

namespace {

// Tables grow a window at a time, layer by layer; they are joined at the end.
class TableBuilder {
 public:
  TableBuilder(Engine& engine, size_t num_tokens) : engine_(engine), num_tokens_(num_tokens) {
    table_.experts_per_token = engine.info().num_experts_per_tok;
  }

  // Traces one window and keeps the rows from `first_row` on.
  void Add(std::vector<int32_t> window, size_t first_row) {
    const std::span<const int32_t> kept = std::span(window).subspan(first_row);
    const Score score = engine_.ScoreTokens({.token_ids = window, .routing = true});
    if (score.routing.empty()) {
      Throw(ErrorCode::kUnimplemented, "{}: no layer of this model has experts; nothing to trace",
            engine_.info().name);
    }
    if (table_.layers.empty()) Allocate(score.routing);
    BALEEN_CHECK(score.routing.size() == table_.layers.size());
    const size_t k = table_.experts_per_token;
    for (size_t i = 0; i < score.routing.size(); ++i) {
      const RoutingTrace& trace = score.routing[i];
      BALEEN_CHECK(trace.experts.size() == window.size() * k);
      BALEEN_CHECK(trace.weights.size() == window.size() * k);
      const size_t to = (i * num_tokens_ + table_.token_ids.size()) * k;
      for (size_t j = 0; j < kept.size() * k; ++j) {
        table_.experts[to + j] = trace.experts[first_row * k + j];
        table_.weights[to + j] = trace.weights[first_row * k + j];
      }
    }
    table_.token_ids.insert(table_.token_ids.end(), kept.begin(), kept.end());
  }

  RoutingTable Finish() {
    BALEEN_CHECK(table_.token_ids.size() == num_tokens_);
    return std::move(table_);
  }

 private:
  void Allocate(const std::vector<RoutingTrace>& traces) {
    for (const RoutingTrace& trace : traces) {
      table_.layers.push_back(static_cast<int32_t>(trace.layer));
    }
    const size_t count = traces.size() * num_tokens_ * table_.experts_per_token;
    table_.experts.resize(count);
    table_.weights.resize(count);
  }

  Engine& engine_;
  size_t num_tokens_;
  RoutingTable table_;
};

}  // namespace

RoutingTable TraceRouting(Engine& engine, std::span<const int32_t> token_ids) {
  TableBuilder builder(engine, token_ids.size());
  builder.Add({token_ids.begin(), token_ids.end()}, 0);
  return builder.Finish();
}

RoutingTable TraceRoutingInWindows(Engine& engine, std::span<const int32_t> token_ids,
                                   const WindowOptions& options) {
  TableBuilder builder(engine, token_ids.size());
  ForEachWindow(engine, token_ids, options,
                [&](std::vector<int32_t> window) { builder.Add(std::move(window), 1); });
  return builder.Finish();
}

}  // namespace baleen
