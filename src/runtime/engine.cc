// runtime/engine.cc: Engine over one model, one thread pool and one latent cache.
//
// One thread computes: it takes submitted requests, lets the scheduler plan a step, runs the model,
// and hands each wanted row of logits to its sequence, which samples (generation.cc) or scores
// (scoring.cc). Everything that callers touch is behind mutex_ or in the sequences' own locks.
#include "baleen/engine.h"

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <mutex>
#include <random>
#include <thread>

#include "base/error.h"
#include "base/machine.h"
#include "base/thread_pool.h"
#include "checkpoint/checkpoint.h"
#include "kernels/registry.h"
#include "kernels/roof.h"
#include "model/forward.h"
#include "runtime/block_pool.h"
#include "runtime/generation.h"
#include "runtime/plan_memory.h"
#include "runtime/scheduler.h"
#include "runtime/scoring.h"
#include "runtime/text.h"

namespace baleen {

namespace {

// Rows whose logits are held at once: 32 x 129,280 floats are 17 MB.
constexpr size_t kLogitsRows = 32;

std::vector<int> CpusFor(const EngineOptions& options) {
  std::vector<int> cpus = ComputeCpus();
  if (options.num_threads == 0) return cpus;
  if (options.num_threads > 1024) {
    Throw(ErrorCode::kInvalidArgument, "--threads must be from 1 to 1024, found {}",
          options.num_threads);
  }
  // More threads than CPUs share them, unpinned.
  if (options.num_threads > cpus.size()) return {};
  cpus.resize(options.num_threads);
  return cpus;
}

class EngineImpl final : public Engine {
 public:
  EngineImpl(Checkpoint checkpoint, const EngineOptions& options);
  ~EngineImpl() override;

  const ModelInfo& info() const override { return info_; }

  std::vector<int32_t> Encode(std::string_view text, const EncodeOptions& options) const override {
    return text_.Encode(text, options);
  }
  std::string Decode(std::span<const int32_t> ids, bool skip_special) const override {
    return text_.tokenizer().Decode(ids, skip_special);
  }
  std::string TokenBytes(int32_t id) const override {
    return std::string(text_.tokenizer().TokenBytes(id));
  }
  EncodedChat RenderChat(std::span<const ChatMessage> messages,
                         const ChatOptions& options) const override {
    return text_.RenderChat(messages, options);
  }
  std::unique_ptr<ReasoningSplitter> MakeReasoningSplitter(
      const EncodedChat& prompt) const override {
    return text_.MakeReasoningSplitter(prompt);
  }

  std::shared_ptr<Generation> Submit(Request request, ChunkCallback on_chunk) override;
  Score ScoreTokens(ScoreRequest request) override;
  Roof MeasureRoof() override;
  Work TotalWork() const override;

 private:
  void CheckTokens(const std::vector<int32_t>& ids) const;
  void RequireWeights() const;
  void Enqueue(std::shared_ptr<Sequence> sequence);
  void Loop();
  void RunStep();
  void GiveLogits(const Step& step, const float* hidden);
  void PublishWork();

  Text text_;
  ModelInfo info_;
  Model model_;
  CacheLayout cache_;
  ThreadPool pool_;
  kernels::KernelContext ctx_;
  std::unique_ptr<BlockPool> blocks_;     // null without weights
  std::unique_ptr<Scheduler> scheduler_;  // the engine thread's
  bool has_weights_;

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::shared_ptr<Sequence>> incoming_;  // guarded by mutex_
  std::function<void()> errand_;                     // guarded by mutex_; runs between steps
  bool stop_ = false;                                // guarded by mutex_
  Work work_;                                        // guarded by mutex_
  std::thread thread_;
};

EngineImpl::EngineImpl(Checkpoint checkpoint, const EngineOptions& options)
    : text_(std::move(checkpoint.text)),
      model_(checkpoint.config.model, std::move(checkpoint.weights)),
      pool_(options.num_threads == 0 ? CpusFor(options).size() : options.num_threads,
            CpusFor(options)),
      ctx_{.table = kernels::SelectKernels(options.isa),
           .pool = pool_,
           .allow_bf16_products = options.precision != Precision::kF32},
      has_weights_(checkpoint.source != nullptr) {
  const ModelConfig& config = model_.config();
  const bool f32_cache =
      options.cache_dtype == CacheDType::kF32 ||
      (options.cache_dtype == CacheDType::kAuto && options.precision == Precision::kF32);
  cache_ = MakeCacheLayout(config, f32_cache ? DType::kF32 : DType::kBF16, kBlockTokens);

  info_.path = checkpoint.path.directory;
  info_.name = checkpoint.path.name;
  info_.model_type = config.model_type;
  info_.cache_bytes_per_token = cache_.row_bytes * cache_.num_layers;
  info_.vocab_size = config.vocab_size;
  info_.num_layers = config.num_hidden_layers;
  info_.num_experts_per_tok = config.n_routed_experts > 0 ? config.num_experts_per_tok : 0;
  info_.isa = ctx_.table.name;
  info_.num_threads = pool_.num_threads();
  for (const std::string& key : checkpoint.config.ignored_keys) {
    info_.notes.push_back("config.json: " + key + " is not used");
  }
  text_.Describe(info_);
  if (!has_weights_) return;

  const ParameterCount count = CountParameters(config, model_.weights());
  info_.parameters = count.total;
  info_.active_parameters = count.active;
  info_.weight_bytes = count.total_bytes;
  info_.quantization = count.main_dtype;
  const MemoryPlan plan = PlanMemory(
      options, config.max_position_embeddings, cache_, count.resident_bytes,
      options.memory_limit_bytes > 0 ? options.memory_limit_bytes : AvailableMemoryBytes());
  info_.max_context_tokens = plan.max_context_tokens;
  if (!plan.note.empty()) info_.notes.push_back(plan.note);
  blocks_ = std::make_unique<BlockPool>(cache_.block_bytes(), plan.num_blocks);
  scheduler_ = std::make_unique<Scheduler>(*blocks_, kBlockTokens, options.max_sequences,
                                           options.prefill_chunk_tokens);
  thread_ = std::thread([this] { Loop(); });
}

EngineImpl::~EngineImpl() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void EngineImpl::CheckTokens(const std::vector<int32_t>& ids) const {
  RequireWeights();
  if (ids.empty()) Throw(ErrorCode::kInvalidArgument, "the prompt is empty: no tokens");
  for (int32_t id : ids) {
    if (id < 0 || static_cast<size_t>(id) >= info_.vocab_size) {
      Throw(ErrorCode::kInvalidArgument, "token id {} is outside the vocabulary of {}", id,
            info_.vocab_size);
    }
  }
  if (ids.size() > info_.max_context_tokens) {
    Throw(ErrorCode::kInvalidArgument,
          "the prompt has {} tokens, but the context holds {}; shorten it or raise --context",
          ids.size(), info_.max_context_tokens);
  }
}

void EngineImpl::RequireWeights() const {
  if (!has_weights_) {
    Throw(ErrorCode::kInvalidArgument, "{} was opened for its tokenizer only", info_.name);
  }
}

void EngineImpl::Enqueue(std::shared_ptr<Sequence> sequence) {
  {
    std::lock_guard lock(mutex_);
    incoming_.push_back(std::move(sequence));
  }
  wake_.notify_all();
}

std::shared_ptr<Generation> EngineImpl::Submit(Request request, ChunkCallback on_chunk) {
  CheckTokens(request.prompt_token_ids);
  CheckSamplingParams(request.sampling);
  if (request.prompt_token_ids.size() == info_.max_context_tokens) {
    Throw(ErrorCode::kInvalidArgument,
          "the prompt fills the context of {} tokens and leaves no room for an answer; shorten it "
          "or raise --context",
          info_.max_context_tokens);
  }
  if (!request.ignore_eos) {
    request.stop_token_ids.insert(request.stop_token_ids.end(), info_.stop_token_ids.begin(),
                                  info_.stop_token_ids.end());
  }
  auto generation = std::make_shared<GenerationSequence>(
      std::move(request), info_.max_context_tokens, text_.shared_tokenizer(),
      std::random_device{}(), std::move(on_chunk));
  Enqueue(generation);
  return generation;
}

Score EngineImpl::ScoreTokens(ScoreRequest request) {
  CheckTokens(request.token_ids);
  auto scoring = std::make_shared<ScoringSequence>(std::move(request), model_.config());
  Enqueue(scoring);
  return scoring->Wait();
}

Roof EngineImpl::MeasureRoof() {
  RequireWeights();
  Roof roof;
  bool done = false;
  std::unique_lock lock(mutex_);
  wake_.wait(lock, [&] { return !errand_; });
  errand_ = [&] {
    const Roof measured = kernels::MeasureRoof(pool_, ctx_.table);
    std::lock_guard inner(mutex_);
    roof = measured;
    ctx_.roof = measured;
    done = true;
  };
  wake_.notify_all();
  wake_.wait(lock, [&] { return done; });
  return roof;
}

Work EngineImpl::TotalWork() const {
  std::lock_guard lock(mutex_);
  return work_;
}

void EngineImpl::Loop() {
  pool_.PinCaller();
  for (;;) {
    std::function<void()> errand;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock,
                 [&] { return stop_ || errand_ || !incoming_.empty() || !scheduler_->idle(); });
      for (auto& sequence : incoming_) scheduler_->Add(std::move(sequence));
      incoming_.clear();
      if (stop_) break;
      errand = std::exchange(errand_, nullptr);
    }
    if (errand) {
      errand();
      wake_.notify_all();
    }
    for (const auto& sequence :
         scheduler_->Remove([](Sequence& s) { return s.cancelled.load(); })) {
      sequence->OnEnd(nullptr);
    }
    try {
      RunStep();
    } catch (...) {
      // Out of memory, or a result that is not a number: what ran is lost, the engine is not.
      const std::exception_ptr error = std::current_exception();
      for (const auto& sequence : scheduler_->Remove([](Sequence&) { return true; })) {
        sequence->OnEnd(error);
      }
    }
  }
  for (const auto& sequence : scheduler_->Remove([](Sequence&) { return true; })) {
    sequence->cancelled = true;
    sequence->OnEnd(nullptr);
  }
}

// One step in the order of the token's path: plan -> model -> sample or score -> commit.
void EngineImpl::RunStep() {
  const Step step = scheduler_->Plan();
  if (step.token_ids.empty()) return;
  ArenaScope scope(ctx_.arena);
  const Batch batch = {
      .token_ids = step.token_ids, .slices = step.slices, .output_rows = step.output_rows};
  float* hidden = ctx_.arena.Allocate<float>(step.output_rows.size() * model_.config().hidden_size);
  RoutingObserver routing(step);
  model_.Forward(batch, cache_, hidden, ctx_, routing.wanted() ? &routing : nullptr);
  PublishWork();
  GiveLogits(step, hidden);
  for (const auto& sequence : scheduler_->Remove([](Sequence& s) { return s.ended; })) {
    sequence->OnEnd(nullptr);
  }
}

void EngineImpl::PublishWork() {
  std::lock_guard lock(mutex_);
  work_ = ctx_.work;
}

void EngineImpl::GiveLogits(const Step& step, const float* hidden) {
  const size_t vocab = info_.vocab_size;
  float* logits = ctx_.arena.Allocate<float>(std::min(kLogitsRows, step.outputs.size()) * vocab);
  for (size_t begin = 0; begin < step.outputs.size(); begin += kLogitsRows) {
    const size_t rows = std::min(kLogitsRows, step.outputs.size() - begin);
    model_.Logits(hidden + begin * model_.config().hidden_size, rows, logits, ctx_);
    {
      // Before anybody hears of the step: who measures between two tokens must not miss it.
      std::lock_guard lock(mutex_);
      work_ = ctx_.work;
    }
    PublishWork();
    for (size_t i = 0; i < rows; ++i) {
      const auto [sequence, position] = step.outputs[begin + i];
      const std::span<float> row(logits + i * vocab, vocab);
      if (!std::all_of(row.begin(), row.end(), [](float x) { return std::isfinite(x); })) {
        Throw(ErrorCode::kFailed,
              "the model computed a value that is not a number after {} tokens; are the weights "
              "damaged?",
              position + 1);
      }
      sequence->ended = sequence->OnLogits(position, row);
    }
  }
}

}  // namespace

std::unique_ptr<Engine> Engine::Open(const std::string& model, const EngineOptions& options) {
  kernels::SelectKernels(options.isa);  // refuses before anything is read
  if (options.max_sequences == 0 || options.prefill_chunk_tokens == 0) {
    Throw(ErrorCode::kInvalidArgument, "max_sequences and prefill_chunk_tokens must not be 0");
  }
  return std::make_unique<EngineImpl>(
      OpenCheckpoint(model,
                     options.tokenizer_only ? CheckpointPart::kTextOnly : CheckpointPart::kAll),
      options);
}

}  // namespace baleen
