#include "model_runner.h"

#include <algorithm>
#include <numeric>

#include "checkpoint/repack.h"

namespace baleen {

namespace {

constexpr size_t kBlockTokens = 64;

// The cache of one sequence.
class Cache {
 public:
  Cache(const CacheLayout& layout, size_t tokens) {
    const size_t count = (tokens + layout.block_tokens - 1) / layout.block_tokens;
    for (size_t i = 0; i < count; ++i) {
      // Filled with NaN: a kernel that reads what nobody wrote shows itself.
      memory_.emplace_back(layout.block_bytes(), std::byte{0xff});
      blocks_.push_back(memory_.back().data());
    }
  }
  std::span<std::byte* const> blocks() const { return blocks_; }

 private:
  std::vector<std::vector<std::byte>> memory_;
  std::vector<std::byte*> blocks_;
};

// Collects what concerns the first `rows` rows of each pass.
class Collector final : public ForwardObserver {
 public:
  Collector(const ModelConfig& config, RunResult& result) : config_(config), result_(result) {
    result_.hidden.resize(config.num_hidden_layers + 1);
  }
  void set_rows(size_t rows) { rows_ = rows; }

  void OnHidden(size_t stage, const float* hidden, size_t /*rows*/) override {
    if (stage > config_.num_hidden_layers) return;
    auto& out = result_.hidden[stage];
    out.insert(out.end(), hidden, hidden + rows_ * config_.hidden_size);
  }

  void OnRouting(size_t layer, const int32_t* experts, const float* weights, size_t /*rows*/,
                 size_t k) override {
    auto it = std::ranges::find(result_.routing, layer, &RunResult::Routing::layer);
    if (it == result_.routing.end()) {
      result_.routing.push_back({layer, {}, {}});
      it = result_.routing.end() - 1;
    }
    for (size_t r = 0; r < rows_; ++r) {
      std::vector<size_t> order(k);
      std::iota(order.begin(), order.end(), size_t{0});
      std::ranges::sort(order, {}, [&](size_t i) { return experts[r * k + i]; });
      for (size_t i : order) {
        it->experts.push_back(experts[r * k + i]);
        it->weights.push_back(weights[r * k + i]);
      }
    }
  }

 private:
  const ModelConfig& config_;
  RunResult& result_;
  size_t rows_ = 0;
};

}  // namespace

ModelRunner::ModelRunner(const std::string& directory, bool repack) {
  Checkpoint checkpoint =
      OpenCheckpoint(directory, repack ? CheckpointPart::kForRepack : CheckpointPart::kAll);
  if (repack) RepackWeights(checkpoint, {.min_file_bytes = ~uint64_t{0}});
  model_ = std::make_unique<Model>(checkpoint.config.model, std::move(checkpoint.weights));
}

RunResult ModelRunner::Run(const std::vector<int32_t>& ids, const RunOptions& options) const {
  RunResult result;
  const CacheLayout layout = MakeCacheLayout(config(), options.cache_dtype, kBlockTokens);
  ThreadPool pool(options.num_threads);
  kernels::KernelContext ctx{.table = *options.table,
                             .pool = pool,
                             .allow_bf16_products = options.bf16_products,
                             .allow_i8_products = options.i8_products};
  Cache cache(layout, ids.size());
  Cache company_cache(layout, std::max<size_t>(1, options.company.size()));
  Collector collector(config(), result);

  for (size_t begin = 0; begin < ids.size(); begin += options.chunk) {
    const size_t rows = std::min(options.chunk, ids.size() - begin);
    std::vector<int32_t> batch_ids(ids.begin() + static_cast<ptrdiff_t>(begin),
                                   ids.begin() + static_cast<ptrdiff_t>(begin + rows));
    std::vector<SequenceSlice> slices = {{.first_row = 0,
                                          .num_rows = rows,
                                          .first_position = begin,
                                          .form = options.form,
                                          .blocks = cache.blocks()}};
    if (begin < options.company.size()) {
      const size_t more = std::min(options.chunk, options.company.size() - begin);
      slices.push_back(
          {.first_row = rows,
           .num_rows = more,
           .first_position = begin,
           .form = options.form == MlaForm::kDirect ? MlaForm::kAbsorbed : MlaForm::kDirect,
           .blocks = company_cache.blocks()});
      batch_ids.insert(batch_ids.end(), options.company.begin() + static_cast<ptrdiff_t>(begin),
                       options.company.begin() + static_cast<ptrdiff_t>(begin + more));
    }
    std::vector<int32_t> outputs(rows);
    std::iota(outputs.begin(), outputs.end(), 0);
    std::vector<float> hidden(rows * config().hidden_size);
    std::vector<float> logits(rows * config().vocab_size);
    collector.set_rows(rows);
    model_->Forward({.token_ids = batch_ids, .slices = slices, .output_rows = outputs}, layout,
                    hidden.data(), ctx, &collector);
    model_->Logits(hidden.data(), rows, logits.data(), ctx);
    result.logits.insert(result.logits.end(), logits.begin(), logits.end());
  }
  return result;
}

std::vector<int32_t> ModelRunner::Greedy(const std::vector<int32_t>& prompt, size_t count,
                                         const RunOptions& options) const {
  const CacheLayout layout = MakeCacheLayout(config(), options.cache_dtype, kBlockTokens);
  ThreadPool pool(options.num_threads);
  kernels::KernelContext ctx{.table = *options.table,
                             .pool = pool,
                             .allow_bf16_products = options.bf16_products,
                             .allow_i8_products = options.i8_products};
  Cache cache(layout, prompt.size() + count);
  std::vector<int32_t> ids = prompt;
  std::vector<float> hidden(config().hidden_size), logits(config().vocab_size);
  for (size_t begin = 0; ids.size() < prompt.size() + count;) {
    const size_t rows = ids.size() - begin;
    const SequenceSlice slice = {.first_row = 0,
                                 .num_rows = rows,
                                 .first_position = begin,
                                 .form = begin == 0 ? options.form : MlaForm::kAbsorbed,
                                 .blocks = cache.blocks()};
    const auto output = static_cast<int32_t>(rows - 1);
    model_->Forward({.token_ids = std::span(ids).subspan(begin),
                     .slices = {&slice, 1},
                     .output_rows = {&output, 1}},
                    layout, hidden.data(), ctx);
    model_->Logits(hidden.data(), 1, logits.data(), ctx);
    begin = ids.size();
    const auto best = std::max_element(logits.begin(), logits.end());
    ids.push_back(static_cast<int32_t>(best - logits.begin()));
  }
  return {ids.begin() + static_cast<ptrdiff_t>(prompt.size()), ids.end()};
}

}  // namespace baleen
