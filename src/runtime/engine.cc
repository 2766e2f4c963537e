// runtime/engine.cc: Engine over one model, one thread pool and one latent cache.
//
// One thread computes: it takes submitted requests, lets the scheduler plan a step, runs the model,
// and hands each wanted row of logits to its sequence, which samples (generation.cc) or scores
// (scoring.cc). Everything that callers touch is behind mutex_ or in the sequences' own locks.
#include "baleen/engine.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <mutex>
#include <random>
#include <thread>

#include "base/error.h"
#include "base/machine.h"
#include "base/thread_pool.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/locate_experts.h"
#include "checkpoint/repack.h"
#include "kernels/registry.h"
#include "kernels/roof.h"
#include "model/forward.h"
#include "runtime/block_pool.h"
#include "runtime/fim.h"
#include "runtime/generation.h"
#include "runtime/grammars.h"
#include "runtime/plan_memory.h"
#include "runtime/scheduler.h"
#include "runtime/scoring.h"
#include "runtime/text.h"
#include "tensor/direct_file.h"

namespace baleen {

namespace {

// Rows whose logits are held at once: 32 x 129,280 floats are 17 MB.
constexpr size_t kLogitsRows = 32;
// Of a chunk of prompts that others wait for.
constexpr size_t kMinChunkRows = 64;
// How much of the longest wait one layer of such a chunk is planned to take: how long it takes is
// estimated by the chunk before it, which saw a shorter context.
constexpr double kLayerShare = 0.75;
constexpr double kDiskSeconds = 1;  // of measuring

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

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
  EngineImpl(Checkpoint checkpoint, const EngineOptions& options, ExpertMap experts,
             std::string note);
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
  std::vector<int32_t> EncodeFim(const FimPrompt& prompt) const override {
    return text_.EncodeFim(prompt);
  }
  EncodedChat RenderChat(std::span<const ChatMessage> messages,
                         const ChatOptions& options) const override {
    return text_.RenderChat(messages, options);
  }
  std::unique_ptr<ReasoningSplitter> MakeReasoningSplitter(
      const EncodedChat& prompt) const override {
    return text_.MakeReasoningSplitter(prompt);
  }

  std::shared_ptr<const Grammar> CompileGrammar(const GrammarSpec& spec) const override {
    text_.tokenizer();  // there must be one
    return grammars_.Compile(spec);
  }

  std::shared_ptr<Generation> Submit(Request request, ChunkCallback on_chunk,
                                     EndCallback on_end) override;
  Score ScoreTokens(ScoreRequest request) override;
  Roof MeasureRoof() override;
  Work TotalWork() const override;
  EngineStats Stats() const override;

 private:
  class StepObserver;
  void TakeMemory(const EngineOptions& options, ExpertMap experts);
  struct AbandonedStep {};  // thrown out of a pass that nobody waits for any more

  void CheckToken(int32_t id) const;
  void CheckTokens(const std::vector<int32_t>& ids) const;
  void RequireWeights() const;
  void Enqueue(std::shared_ptr<Sequence> sequence);
  void Loop();
  void RemoveCancelled();
  void RemoveEnded();
  void RunTurn();
  void RunStep(const Step& step, ForwardObserver* observer);
  void ShareTime(const Step& step, double seconds) const;
  size_t MaxPromptRows() const;
  double SecondsPerLayer(size_t rows) const;
  void BetweenLayers(const Step& step);
  void GiveLogits(const Step& step, const float* hidden);
  void Publish();

  Text text_;
  ModelInfo info_;
  Model model_;
  mutable Grammars grammars_;  // guards itself
  CacheLayout cache_;
  ThreadPool pool_;
  kernels::KernelContext ctx_;
  std::unique_ptr<BlockPool> blocks_;     // null without weights
  std::unique_ptr<Scheduler> scheduler_;  // the engine thread's
  bool has_weights_;
  double max_decode_wait_seconds_;
  size_t max_waiting_tokens_;

  // The engine thread's: how prompts and those that generate share it.
  Clock::time_point last_decode_end_;
  double last_decode_seconds_ = 0;
  uint64_t num_generated_tokens_ = 0;
  double seconds_in_decodes_ = 0;             // since the step of prompts began
  double seconds_in_inner_steps_ = 0;         // of those that ran within the one that runs
  double seconds_per_prompt_row_ = HUGE_VAL;  // not yet known: slow

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::shared_ptr<Sequence>> incoming_;  // guarded by mutex_
  std::function<void()> errand_;                     // guarded by mutex_; runs between steps
  bool stop_ = false;                                // guarded by mutex_
  Work work_;                                        // guarded by mutex_
  EngineStats stats_;                                // guarded by mutex_
  std::thread thread_;
};

// `experts`: without layers if they cannot be read one by one, or need not be. `note`: for the
// user, from the opening; may be empty.
EngineImpl::EngineImpl(Checkpoint checkpoint, const EngineOptions& options, ExpertMap experts,
                       std::string note)
    : text_(std::move(checkpoint.text)),
      model_(checkpoint.config.model, std::move(checkpoint.weights)),
      grammars_(text_.shared_tokenizer(), model_.config().vocab_size),
      pool_(options.num_threads == 0 ? CpusFor(options).size() : options.num_threads,
            CpusFor(options)),
      ctx_{.table = kernels::SelectKernels(options.isa),
           .pool = pool_,
           .allow_bf16_products = options.precision != Precision::kF32,
           .allow_i8_products = options.precision != Precision::kF32},
      has_weights_(checkpoint.source != nullptr),
      max_decode_wait_seconds_(options.max_decode_wait_seconds),
      max_waiting_tokens_(options.max_waiting_tokens) {
  const ModelConfig& config = model_.config();
  cache_ = CacheLayoutFor(config, options);

  info_.path = checkpoint.path.directory;
  info_.name = checkpoint.path.name;
  info_.model_type = config.model_type;
  info_.cache_bytes_per_token = cache_.row_bytes * cache_.num_layers;
  info_.vocab_size = config.vocab_size;
  info_.num_layers = config.num_hidden_layers;
  info_.num_experts = config.n_routed_experts;
  info_.num_experts_per_tok = config.n_routed_experts > 0 ? config.num_experts_per_tok : 0;
  info_.isa = ctx_.table.name;
  info_.num_threads = pool_.num_threads();
  for (const std::string& key : checkpoint.config.ignored_keys) {
    info_.notes.push_back("config.json: " + key + " is not used");
  }
  if (!note.empty()) info_.notes.push_back(std::move(note));
  text_.Describe(info_);
  info_.knows_fim = info_.has_fim_tokens && (info_.knows_fim || IsKnownForFim(info_.name));
  if (!has_weights_) return;

  TakeMemory(options, std::move(experts));
  thread_ = std::thread([this] { Loop(); });
}

// Shares memory among weights, cache and slots of experts.
void EngineImpl::TakeMemory(const EngineOptions& options, ExpertMap experts) {
  const ModelConfig& config = model_.config();
  const ParameterCount count = CountParameters(config, model_.weights());
  info_.parameters = count.total;
  info_.active_parameters = count.active;
  info_.weight_bytes = count.total_bytes;
  info_.quantization = count.main_dtype;
  const WeightSizes sizes = {.total_bytes = count.total_bytes,
                             .resident_bytes = count.resident_bytes,
                             .num_experts = experts.num_experts(),
                             .expert_bytes = experts.slot_bytes,
                             .experts_of_a_layer = config.num_experts_per_tok};
  const MemoryPlan plan = PlanMemory(
      options, config.max_position_embeddings, cache_, sizes,
      options.memory_limit_bytes > 0 ? options.memory_limit_bytes : AvailableMemoryBytes());
  info_.max_context_tokens = plan.max_context_tokens;
  info_.notes.insert(info_.notes.end(), plan.notes.begin(), plan.notes.end());
  if (plan.num_expert_slots > 0) {
    info_.num_expert_slots = plan.num_expert_slots;
    model_.set_expert_store(std::make_unique<ExpertStore>(
        std::move(experts), ExpertStoreOptions{.num_slots = plan.num_expert_slots}));
  }
  blocks_ = std::make_unique<BlockPool>(cache_.block_bytes(), plan.num_blocks);
  scheduler_ = std::make_unique<Scheduler>(
      *blocks_, SchedulerOptions{.block_tokens = kBlockTokens,
                                 .max_sequences = options.max_sequences,
                                 .max_prompt_rows = options.prefill_chunk_tokens,
                                 .prefix_reuse = options.prefix_reuse});
  stats_.cache_tokens = plan.num_blocks * kBlockTokens;
}

EngineImpl::~EngineImpl() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void EngineImpl::CheckToken(int32_t id) const {
  if (id < 0 || static_cast<size_t>(id) >= info_.vocab_size) {
    Throw(ErrorCode::kInvalidArgument, "token id {} is outside the vocabulary of {}", id,
          info_.vocab_size);
  }
}

void EngineImpl::CheckTokens(const std::vector<int32_t>& ids) const {
  RequireWeights();
  if (ids.empty()) Throw(ErrorCode::kInvalidArgument, "the prompt is empty: no tokens");
  for (int32_t id : ids) CheckToken(id);
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
    const size_t waiting = stats_.waiting_tokens + sequence->num_prompt_tokens;
    if (max_waiting_tokens_ > 0 && stats_.waiting_tokens > 0 && waiting > max_waiting_tokens_) {
      Throw(ErrorCode::kResourceExhausted,
            "too much to do: prompts of {} tokens wait already, and {} may; try again later",
            stats_.waiting_tokens, max_waiting_tokens_);
    }
    stats_.waiting_tokens = waiting;
    ++stats_.waiting_requests;
    incoming_.push_back(std::move(sequence));
  }
  wake_.notify_all();
}

std::shared_ptr<Generation> EngineImpl::Submit(Request request, ChunkCallback on_chunk,
                                               EndCallback on_end) {
  CheckTokens(request.prompt_token_ids);
  CheckSamplingParams(request.sampling);
  for (const TokenBias& item : request.sampling.logit_bias) CheckToken(item.token_id);
  for (const int32_t id : request.logprob_token_ids) CheckToken(id);
  if (request.prompt_logprobs_from == 0) {
    Throw(ErrorCode::kInvalidArgument, "prompt_logprobs_from must be at least 1");
  }
  if (request.assumed_tokens > 0 && (request.assumed_tokens >= request.prompt_token_ids.size() ||
                                     request.num_prompt_logprobs >= 0)) {
    Throw(ErrorCode::kInvalidArgument,
          "assumed_tokens must leave a token of the prompt to compute, and goes with no "
          "num_prompt_logprobs");
  }
  if (request.prompt_token_ids.size() == info_.max_context_tokens &&
      request.max_tokens != size_t{0}) {
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
      std::random_device{}(), std::move(on_chunk), std::move(on_end));
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
    Roof measured = kernels::MeasureRoof(pool_, ctx_.table);
    if (const ExpertStore* experts = model_.expert_store()) {
      measured.disk_gb_per_s = MeasureDirectReads(experts->RangesOnDisk(), kDiskSeconds);
    }
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
    RemoveCancelled();
    try {
      RunTurn();
    } catch (...) {
      // Out of memory, or a result that is not a number: what ran is lost, the engine is not.
      const std::exception_ptr error = std::current_exception();
      for (const auto& sequence : scheduler_->Remove([](Sequence&) { return true; })) {
        sequence->OnEnd(error);
      }
    }
    Publish();
  }
  for (const auto& sequence : scheduler_->Remove([](Sequence&) { return true; })) {
    sequence->cancelled = true;
    sequence->OnEnd(nullptr);
  }
}

void EngineImpl::RemoveCancelled() {
  for (const auto& sequence : scheduler_->Remove([](Sequence& s) { return s.cancelled.load(); })) {
    sequence->OnEnd(nullptr);
  }
}

void EngineImpl::RemoveEnded() {
  for (const auto& sequence : scheduler_->Remove([](Sequence& s) { return s.ended; })) {
    sequence->OnEnd(nullptr);
  }
}

// Sees a pass of prompts from inside.
class EngineImpl::StepObserver final : public ForwardObserver {
 public:
  StepObserver(EngineImpl& engine, const Step& step)
      : engine_(engine), step_(step), routing_(step) {}
  void OnHidden(size_t /*stage*/, const float* /*hidden*/, size_t /*rows*/) override {
    engine_.BetweenLayers(step_);
  }
  void OnRouting(size_t layer, const int32_t* experts, const float* weights, size_t rows,
                 size_t experts_per_row) override {
    if (routing_.wanted()) routing_.OnRouting(layer, experts, weights, rows, experts_per_row);
  }

 private:
  EngineImpl& engine_;
  const Step& step_;
  RoutingObserver routing_;
};

// The next chunk of prompts, and a token for each that generates: in one pass if that is short,
// else the tokens come in between the chunk's layers (BetweenLayers).
void EngineImpl::RunTurn() {
  Step step;
  scheduler_->PlanPrompts(step, MaxPromptRows());
  const size_t prompt_rows = step.token_ids.size();
  const double estimate = static_cast<double>(prompt_rows) * seconds_per_prompt_row_;
  if (prompt_rows == 0 || estimate <= max_decode_wait_seconds_) scheduler_->PlanDecodes(step);
  if (step.token_ids.empty()) return;
  seconds_in_decodes_ = 0;
  const Clock::time_point begin = Clock::now();
  if (prompt_rows == 0) {
    RunStep(step, nullptr);
    last_decode_seconds_ = SecondsSince(begin);
    last_decode_end_ = Clock::now();
    return;
  }
  try {
    StepObserver observer(*this, step);
    RunStep(step, &observer);
  } catch (const AbandonedStep&) {
    return;
  }
  seconds_per_prompt_row_ =
      (SecondsSince(begin) - seconds_in_decodes_) / static_cast<double>(step.token_ids.size());
  if (prompt_rows < step.token_ids.size()) last_decode_end_ = Clock::now();
}

double EngineImpl::SecondsPerLayer(size_t rows) const {
  return static_cast<double>(rows) * seconds_per_prompt_row_ /
         static_cast<double>(model_.config().num_hidden_layers);
}

// So many that one layer of them takes no longer than a token may wait. A chunk of few rows reads
// every expert for one or two of them, so there is a least number, whatever the wait.
size_t EngineImpl::MaxPromptRows() const {
  if (!scheduler_->has_decodes()) return SIZE_MAX;
  const double rows = kLayerShare * max_decode_wait_seconds_ / SecondsPerLayer(1);
  return std::max(kMinChunkRows, static_cast<size_t>(std::min(rows, 1e9)));
}

// Lets those that generate have a step while a chunk of prompts is computed. Both sides get the
// same time, as long as no token waits longer than the bound: if it would by the end of the next
// layer, it is served before.
void EngineImpl::BetweenLayers(const Step& step) {
  if (std::ranges::all_of(step.owners, [](Sequence* s) { return s->cancelled.load(); })) {
    throw AbandonedStep();
  }
  if (!scheduler_->has_decodes()) return;
  const double wait = std::min(max_decode_wait_seconds_ - SecondsPerLayer(step.token_ids.size()),
                               last_decode_seconds_);
  if (SecondsSince(last_decode_end_) < wait) return;
  RemoveCancelled();
  Step decodes;
  scheduler_->PlanDecodes(decodes);
  if (decodes.token_ids.empty()) return;
  const Clock::time_point begin = Clock::now();
  RunStep(decodes, nullptr);
  last_decode_end_ = Clock::now();
  last_decode_seconds_ = SecondsSince(begin);
  seconds_in_decodes_ += last_decode_seconds_;
}

// One pass in the order of the token's path: model -> sample or score -> commit.
void EngineImpl::RunStep(const Step& step, ForwardObserver* observer) {
  const Clock::time_point begin = Clock::now();
  const double outer = std::exchange(seconds_in_inner_steps_, 0);
  try {
    ArenaScope scope(ctx_.arena);
    const Batch batch = {
        .token_ids = step.token_ids, .slices = step.slices, .output_rows = step.output_rows};
    float* hidden =
        ctx_.arena.Allocate<float>(step.output_rows.size() * model_.config().hidden_size);
    model_.Forward(batch, cache_, hidden, ctx_, observer);
    scheduler_->Commit(step);
    Publish();
    GiveLogits(step, hidden);
    Publish();
  } catch (...) {
    scheduler_->Abandon(step);
    ShareTime(step, SecondsSince(begin) - seconds_in_inner_steps_);
    seconds_in_inner_steps_ = outer + SecondsSince(begin);
    throw;
  }
  ShareTime(step, SecondsSince(begin) - seconds_in_inner_steps_);
  seconds_in_inner_steps_ = outer + SecondsSince(begin);
  RemoveEnded();
}

void EngineImpl::ShareTime(const Step& step, double seconds) const {
  const double per_row = seconds / static_cast<double>(step.token_ids.size());
  for (size_t i = 0; i < step.slices.size(); ++i) {
    Sequence& sequence = *step.owners[i];
    const bool in_prompt = step.slices[i].first_position < sequence.num_prompt_tokens;
    (in_prompt ? sequence.prompt_machine_seconds : sequence.answer_machine_seconds) +=
        per_row * static_cast<double>(step.slices[i].num_rows);
  }
}

// Before anybody hears of a step: who measures between two tokens must not miss it.
void EngineImpl::Publish() {
  std::lock_guard lock(mutex_);
  work_ = ctx_.work;
  if (const ExpertStore* experts = model_.expert_store()) {
    const ExpertStore::Counts counts = experts->counts();
    work_.expert_uses = counts.uses;
    work_.expert_hits = counts.hits;
    work_.disk_bytes = counts.bytes_read;
  }
  stats_.running_requests = scheduler_->num_running();
  stats_.waiting_requests = scheduler_->num_waiting() + incoming_.size();
  stats_.waiting_tokens = scheduler_->waiting_tokens();
  for (const auto& sequence : incoming_) stats_.waiting_tokens += sequence->num_prompt_tokens;
  stats_.cache_used_tokens = scheduler_->num_used_blocks() * kBlockTokens;
  stats_.preemptions = scheduler_->num_preemptions();
  stats_.prompt_tokens = scheduler_->num_prompt_tokens();
  stats_.cached_tokens = scheduler_->num_cached_tokens();
  stats_.generated_tokens = num_generated_tokens_;
}

EngineStats EngineImpl::Stats() const {
  std::lock_guard lock(mutex_);
  return stats_;
}

void EngineImpl::GiveLogits(const Step& step, const float* hidden) {
  const size_t vocab = info_.vocab_size;
  float* logits = ctx_.arena.Allocate<float>(std::min(kLogitsRows, step.outputs.size()) * vocab);
  for (size_t begin = 0; begin < step.outputs.size(); begin += kLogitsRows) {
    const size_t rows = std::min(kLogitsRows, step.outputs.size() - begin);
    model_.Logits(hidden + begin * model_.config().hidden_size, rows, logits, ctx_);
    Publish();
    for (size_t i = 0; i < rows; ++i) {
      const auto [sequence, position] = step.outputs[begin + i];
      const std::span<float> row(logits + i * vocab, vocab);
      if (!std::all_of(row.begin(), row.end(), [](float x) { return std::isfinite(x); })) {
        Throw(ErrorCode::kFailed,
              "the model computed a value that is not a number after {} tokens; are the weights "
              "damaged?",
              position + 1);
      }
      const size_t tokens = sequence->token_ids.size();
      sequence->ended = sequence->OnLogits(position, row);
      num_generated_tokens_ += sequence->token_ids.size() - tokens;
    }
  }
}

}  // namespace

std::unique_ptr<Engine> Engine::Open(const std::string& model, const EngineOptions& options) {
  kernels::SelectKernels(options.isa);  // refuses before anything is read
  if (options.max_sequences == 0 || options.prefill_chunk_tokens == 0) {
    Throw(ErrorCode::kInvalidArgument, "max_sequences and prefill_chunk_tokens must not be 0");
  }
  Checkpoint checkpoint = OpenCheckpoint(
      model, options.tokenizer_only ? CheckpointPart::kTextOnly : CheckpointPart::kForRepack);
  std::string note;
  ExpertMap experts;
  if (!options.tokenizer_only) {
    TileCacheOptions cache;
    cache.num_threads = options.num_threads > 0 ? options.num_threads : CpusFor(options).size();
    const bool limited = options.memory_limit_bytes > 0;
    // Of what is repacked into memory nothing can be left on disk.
    if (limited) cache.min_file_bytes = 0;
    note = RepackWeights(checkpoint, cache);
    if (limited) {
      experts = LocateExperts(checkpoint.weights, *checkpoint.source, checkpoint.tile_file.get());
    }
  }
  return std::make_unique<EngineImpl>(std::move(checkpoint), options, std::move(experts),
                                      std::move(note));
}

}  // namespace baleen
