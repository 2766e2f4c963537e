#include "training/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <optional>

#include "base/error.h"
#include "base/json.h"
#include "base/machine.h"
#include "base/output_file.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/config_json.h"
#include "formats/safetensors.h"
#include "kernels/registry.h"
#include "kernels/roof.h"
#include "training/dataset.h"
#include "training/initial_weights.h"
#include "training/optimizer.h"
#include "training/parameters.h"
#include "training/pass.h"
#include "training/run_log.h"
#include "training/run_state.h"

namespace baleen {

namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr size_t kMaxConfigBytes = size_t{16} << 20;
constexpr size_t kMaxProvenanceBytes = size_t{16} << 20;
// The experts' load is written so many times in a run, and at least at every so many steps: a run
// without an end in sight, or one that was cut short, has something to show too.
constexpr uint64_t kLoadLines = 200;
constexpr uint64_t kMaxLoadSteps = 100;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// config.json of the architecture: of the checkpoint to go on from, of a file, or the object
// itself.
struct Architecture {
  std::string json;
  ParsedConfig parsed;
};

Architecture ReadArchitecture(const TrainConfig& config) {
  Architecture result;
  std::string source = "model";
  if (!config.init.empty()) {
    const Checkpoint checkpoint = OpenCheckpoint(config.init, CheckpointPart::kTextOnly);
    source = config.init;
    result.json = WithoutQuantization(checkpoint.config_json);
  } else if (config.model.starts_with("{")) {
    result.json = config.model;
  } else {
    source = config.model;
    result.json = ReadFile(source, kMaxConfigBytes);
  }
  result.parsed = ParseConfig(result.json, source);
  const ModelConfig& model = result.parsed.model;
  if (result.parsed.quantization != WeightQuantization::kNone) {
    Throw(ErrorCode::kUnimplemented, "{}: a quantized model is not trained; give it as init",
          source);
  }
  if (model.num_nextn_predict_layers > 1) {
    Throw(ErrorCode::kUnimplemented, "{}: num_nextn_predict_layers {}: one MTP module is trained",
          source, model.num_nextn_predict_layers);
  }
  if (config.sequence_length > model.max_position_embeddings) {
    Throw(ErrorCode::kInvalidArgument, "sequence_length {} is more than max_position_embeddings {}",
          config.sequence_length, model.max_position_embeddings);
  }
  if (config.balance == "bias" && model.n_routed_experts > 0 &&
      model.topk_method != TopkMethod::kNoauxTc) {
    Throw(ErrorCode::kInvalidArgument,
          "balance bias needs topk_method noaux_tc, whose routers have a bias; aux and none work "
          "with all");
  }
  return result;
}

std::string TokenizerDirectory(const TrainConfig& config) {
  if (config.tokenizer.empty()) {
    const ModelPath path = ResolveModel(config.init);
    if (path.is_gguf) {
      Throw(ErrorCode::kInvalidArgument,
            "{}: a trained model has its tokenizer in tokenizer.json, which a GGUF file is not; "
            "give tokenizer",
            config.init);
    }
    return path.directory;
  }
  return fs::is_regular_file(config.tokenizer) ? fs::path(config.tokenizer).parent_path().string()
                                               : config.tokenizer;
}

BalanceOptions BalanceOf(const TrainConfig& c) {
  const Balance method = c.balance == "bias"  ? Balance::kBias
                         : c.balance == "aux" ? Balance::kAux
                                              : Balance::kNone;
  return {.method = method,
          .bias_update_speed = c.bias_update_speed,
          .sequence_alpha = c.sequence_alpha,
          .expert_alpha = c.expert_alpha,
          .device_alpha = c.device_alpha,
          .communication_alpha = c.communication_alpha};
}

ScheduleOptions ScheduleOf(const TrainConfig& c) {
  const Schedule kind = c.schedule == "constant" ? Schedule::kConstant
                        : c.schedule == "step"   ? Schedule::kStep
                                                 : Schedule::kCosine;
  return {.kind = kind,
          .lr = c.lr,
          .min_lr_ratio = c.min_lr_ratio,
          .warmup_steps = c.warmup_steps,
          .total_steps = c.steps};
}

Products ProductsOf(const TrainConfig& c, const kernels::KernelTable& table) {
  if (c.products == "f32") return Products::kF32;
  if (table.bf16_products) return Products::kBF16;
  if (c.products == "auto") return Products::kF32;
  Throw(ErrorCode::kUnimplemented, "products bf16: target {} has no products of BF16", table.name);
}

// Floating-point operations for one token, there and back: 6 for each matrix parameter that works
// on it, and attention over half a sequence on average.
// What the names of the MTP module's parameters begin with.
std::string MtpPrefix(const ModelConfig& config) {
  return fmt::format("model.layers.{}.", config.num_hidden_layers);
}

double OperationsPerToken(const ModelConfig& c, const Parameters& parameters, bool trains_mtp,
                          size_t length) {
  double active = 0;
  for (const Parameter& p : parameters.list()) {
    if (!p.is_matrix() || (p.name == "model.embed_tokens.weight" && !parameters.tied())) continue;
    if (!trains_mtp && p.name.starts_with(MtpPrefix(c))) continue;
    const double share =
        p.name.find(".mlp.experts.") == std::string::npos
            ? 1.0
            : static_cast<double>(c.num_experts_per_tok) / static_cast<double>(c.n_routed_experts);
    active += share * static_cast<double>(p.value.size());
  }
  const size_t modules = trains_mtp ? c.num_nextn_predict_layers : 0;
  if (modules > 0) active += static_cast<double>(c.vocab_size * c.hidden_size);
  const auto layers = static_cast<double>(c.num_hidden_layers + modules);
  const auto per_pair =
      static_cast<double>(c.num_attention_heads * (c.qk_head_dim() + c.v_head_dim));
  return 6 * (active + layers * per_pair * (static_cast<double>(length) + 1) / 2);
}

class Run {
 public:
  Run(const TrainConfig& config, const TrainOptions& options);
  TrainResult Go();

 private:
  void OpenData();
  void CheckMemory();
  void Begin();
  StepReport Step();
  double Validate();
  void Save();
  void WriteModelFiles() const;
  void MarkHoles(std::string& tokenizer_config) const;
  void ReadInitProvenance();
  void WriteProvenance() const;
  void Note(const std::string& text) const {
    if (options_.on_note) options_.on_note(text);
  }
  std::string StatePath() const { return run_directory_ + "/state.safetensors"; }

  const TrainConfig config_;
  const TrainOptions& options_;
  const kernels::KernelTable& table_;
  ThreadPool pool_;
  kernels::KernelContext ctx_;
  Architecture architecture_;
  PassOptions pass_options_;
  Products products_;
  std::string run_directory_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<Dataset> data_;
  std::optional<Parameters> parameters_;
  std::optional<Optimizer> optimizer_;
  std::optional<TrainingPass> pass_;
  std::optional<RunLog> log_;
  double operations_per_token_ = 0;
  double peak_ = 0;  // operations a second
  RunState state_;
  std::string init_provenance_;  // JSON; empty: the weights it began with have none
  TrainResult result_;
};

size_t NumThreads(const TrainOptions& options) {
  return options.num_threads > 0 ? options.num_threads : ComputeCpus().size();
}

Run::Run(const TrainConfig& config, const TrainOptions& options)
    : config_(config),
      options_(options),
      table_(kernels::SelectKernels(options.isa)),
      pool_(NumThreads(options)),
      ctx_{.table = table_, .pool = pool_, .chained_f32_products = true},
      architecture_(ReadArchitecture(config)),
      pass_options_{.num_sequences = config.micro_batch_size,
                    .sequence_length = config.sequence_length,
                    .recompute = config.recompute,
                    .mtp_weight = config.mtp_weight,
                    .balance = BalanceOf(config)},
      products_(ProductsOf(config, table_)),
      run_directory_(config.output + "/run") {
  OpenData();
  if (options_.measure_peak) {
    const Roof roof = kernels::MeasureRoof(pool_, table_);
    peak_ = 1e9 * (products_ == Products::kBF16 ? roof.gflops_bf16 : roof.gflops_f32);
  }
  CheckMemory();
  Begin();
}

void Run::OpenData() {
  const std::string path = TokenizerDirectory(config_) + "/tokenizer.json";
  tokenizer_ = Tokenizer::FromJson(ReadFile(path, Tokenizer::kMaxFileBytes), path);
  const ParsedConfig& parsed = architecture_.parsed;
  if (static_cast<size_t>(tokenizer_->vocab_size()) > parsed.model.vocab_size) {
    Throw(ErrorCode::kInvalidArgument, "{}: {} tokens, but the model's vocab_size is {}", path,
          tokenizer_->vocab_size(), parsed.model.vocab_size);
  }
  data_ = OpenDataset({.paths = config_.data,
                       .seed = config_.seed,
                       .held_out_share = config_.held_out_share,
                       .fim_rate = config_.fim_rate,
                       .bos_token_id = parsed.bos_token_ids.empty() ? -1 : parsed.bos_token_ids[0],
                       .eos_token_id = parsed.eos_token_ids.empty() ? -1 : parsed.eos_token_ids[0],
                       .fim_line_share = config_.fim_line_share,
                       .text_field = config_.text_field,
                       .separator = config_.separator,
                       .max_document_bytes = config_.max_document_bytes,
                       .drop_near_duplicates = config_.drop_near_duplicates},
                      *tokenizer_);
  const DatasetInfo& info = data_->info();
  Note(fmt::format("data: {} documents, {} tokens; {} documents held out, {} dropped",
                   info.documents, info.tokens, info.held_out_documents, info.dropped_documents));
}

void Run::CheckMemory() {
  const ModelConfig& model = architecture_.parsed.model;
  const bool tied = architecture_.parsed.tie_word_embeddings;
  const uint64_t weights = Parameters::Bytes(model, tied, products_);
  const uint64_t moments = Parameters::Bytes(model, tied, Products::kF32);
  const uint64_t activations =
      TrainingPass::Bytes(model, pass_options_, products_, pool_.num_threads());
  // Measuring the peak takes memory as well, and has given it back.
  const uint64_t total = ResidentBytes() + weights + moments + activations;
  result_.estimated_bytes = std::max(total, PeakResidentBytes());
  const uint64_t available = AvailableMemoryBytes();
  constexpr uint64_t kMiB = uint64_t{1} << 20;
  const std::string numbers = fmt::format(
      "{} MiB of weights and gradients, {} MiB of optimizer, {} MiB of activations, {} MiB in all; "
      "{} MiB are free",
      weights / kMiB, moments / kMiB, activations / kMiB, result_.estimated_bytes / kMiB,
      available / kMiB);
  if (weights + moments + activations > available) {
    Throw(ErrorCode::kResourceExhausted,
          "the run does not fit: {}. Lower micro_batch_size, or set recompute", numbers);
  }
  Note("memory: " + numbers);
}

// Weights from where the run goes on: its own state, a checkpoint, or random numbers.
void Run::Begin() {
  const ParsedConfig& parsed = architecture_.parsed;
  parameters_.emplace(parsed.model, parsed.tie_word_embeddings, products_);
  optimizer_.emplace(
      *parameters_,
      OptimizerOptions{
          .muon = config_.optimizer == "muon",
          .beta1 = config_.beta1,
          .beta2 = config_.beta2,
          .eps = config_.eps,
          .weight_decay = config_.weight_decay,
          .frozen_prefix = config_.mtp_weight > 0 ? std::string() : MtpPrefix(parsed.model)});
  pass_.emplace(parsed.model, *parameters_, pass_options_);

  ReadInitProvenance();
  state_.config = ResultKeysJson(config_);
  state_.model = architecture_.json;
  state_.data = data_->info().fingerprint;
  state_.isa = table_.name;
  fs::create_directories(run_directory_);
  if (fs::exists(StatePath())) {
    const RunState saved = LoadRunState(StatePath(), state_, *parameters_, *optimizer_);
    if (saved.isa != state_.isa) {
      Note(
          fmt::format("the run was begun with --isa {} and goes on with {}: its last bits will "
                      "differ from those of an uninterrupted run",
                      saved.isa, state_.isa));
    }
    state_.step = saved.step;
    state_.tokens = saved.tokens;
    state_.seconds = saved.seconds;
    state_.data_position = saved.data_position;
    data_->Seek(state_.data_position);
    Note(fmt::format("goes on after step {}", state_.step));
  } else if (!config_.init.empty()) {
    CopyWeights(OpenCheckpoint(config_.init), *parameters_, ctx_);
  } else {
    double range = 0.02;
    const JsonDocument document = JsonDocument::Parse(architecture_.json, "model");
    if (document.root().at_key("initializer_range").get_double().get(range)) range = 0.02;
    parameters_->Initialize(config_.seed, range);
  }
  parameters_->Publish(ctx_);
  operations_per_token_ = OperationsPerToken(parsed.model, *parameters_, config_.mtp_weight > 0,
                                             config_.sequence_length);
  log_.emplace(run_directory_, state_.step);
  Note(fmt::format("model: {} parameters, {:.1f} MFLOP a token; {}, products in {}, {} threads",
                   parameters_->num_values(), operations_per_token_ / 1e6, table_.name,
                   products_ == Products::kBF16 ? "bf16" : "f32", pool_.num_threads()));
}

StepReport Run::Step() {
  const auto begin = Clock::now();
  const size_t stride = config_.sequence_length + 1;
  std::vector<int32_t> tokens(config_.batch_size * stride);
  for (size_t s = 0; s < config_.batch_size; ++s) {
    data_->Next(std::span(tokens).subspan(s * stride, stride));
  }
  const size_t num_targets = config_.batch_size * config_.sequence_length;
  StepReport report = {.step = state_.step + 1, .total_steps = config_.steps};
  report.lr = LearningRate(ScheduleOf(config_), state_.step);

  parameters_->ClearGradients();
  ExpertLoad load = pass_->EmptyLoad();
  for (size_t s = 0; s < config_.batch_size; s += config_.micro_batch_size) {
    const auto part = std::span(tokens).subspan(s * stride, config_.micro_batch_size * stride);
    const PassResult result = pass_->Run(part, num_targets, config_.batch_size, ctx_, load);
    report.loss += result.loss / static_cast<double>(num_targets);
    report.mtp_loss += result.mtp_loss / static_cast<double>(num_targets);
    report.balance_loss += result.balance_loss / static_cast<double>(config_.batch_size);
  }
  report.grad_norm = GradientNorm(*parameters_, ctx_);
  if (!std::isfinite(report.loss) || !std::isfinite(report.grad_norm)) {
    Throw(ErrorCode::kFailed,
          "step {}: the loss is {} and the gradient's norm {}; the state of the last checkpoint is "
          "kept in {}. A lower lr or max_grad_norm may help",
          report.step, report.loss, report.grad_norm, StatePath());
  }
  const double clip = std::min(1.0, config_.max_grad_norm / (report.grad_norm + 1e-6));
  optimizer_->Step(report.step, report.lr, clip, ctx_);
  if (pass_options_.balance.method == Balance::kBias) {
    const double speed =
        BiasSpeed(config_.bias_update_speed, config_.bias_decay_share, report.step, config_.steps);
    for (size_t l = 0; l < parameters_->router_biases().size(); ++l) {
      UpdateBias(load[l], speed, parameters_->router_biases()[l]);
    }
  }
  parameters_->Publish(ctx_);

  const LoadStatistics statistics = Summarize(load);
  report.max_vio = statistics.max_vio;
  report.entropy = statistics.entropy;
  report.dead_experts = statistics.dead_experts;
  const uint64_t load_steps = std::clamp<uint64_t>(config_.steps / kLoadLines, 1, kMaxLoadSteps);
  if (report.step % load_steps == 0) {
    log_->Load(report.step, load);
  }
  state_.step = report.step;
  state_.tokens += num_targets;
  report.tokens = state_.tokens;
  report.tokens_per_s = static_cast<double>(num_targets) / SecondsSince(begin);
  report.peak_share = peak_ > 0 ? report.tokens_per_s * operations_per_token_ / peak_ : 0;
  return report;
}

// The mean loss of the held-out text, in sequences like those of training; below 0: there is none.
double Run::Validate() {
  const std::span<const int32_t> text = data_->held_out();
  const size_t length = config_.sequence_length;
  const size_t limit = std::max<uint64_t>(config_.validation_tokens, length);
  ExpertLoad load = pass_->EmptyLoad();
  double loss = 0;
  size_t targets = 0;
  std::vector<int32_t> tokens;
  const auto flush = [&] {
    if (tokens.empty()) return;
    const PassResult result = pass_->Evaluate(tokens, ctx_, load);
    loss += result.loss;
    targets += result.num_targets;
    tokens.clear();
  };
  for (size_t at = 0; at + length < text.size() && at + length <= limit; at += length) {
    tokens.insert(tokens.end(), text.begin() + static_cast<ptrdiff_t>(at),
                  text.begin() + static_cast<ptrdiff_t>(at + length + 1));
    if (tokens.size() == config_.micro_batch_size * (length + 1)) flush();
  }
  flush();
  if (targets == 0) return -1;
  const LoadStatistics statistics = Summarize(load);
  result_.validation_max_vio = statistics.max_vio;
  result_.validation_dead_experts = statistics.dead_experts;
  return result_.validation_loss = loss / static_cast<double>(targets);
}

// A vocabulary with the tokens of holes says nothing of who learned to fill them; this key does, to
// the server and to `convert`.
void Run::MarkHoles(std::string& tokenizer_config) const {
  const size_t brace = tokenizer_config.find('{');
  const bool is_marked = tokenizer_config.find("\"fill_in_the_middle\"") != std::string::npos;
  if (config_.fim_rate == 0 || brace == std::string::npos || is_marked) return;
  const size_t next = tokenizer_config.find_first_not_of(" \t\r\n", brace + 1);
  const bool is_empty = next != std::string::npos && tokenizer_config[next] == '}';
  tokenizer_config.insert(brace + 1, is_empty ? "\n  \"fill_in_the_middle\": true\n"
                                              : "\n  \"fill_in_the_middle\": true,");
}

void Run::WriteModelFiles() const {
  const std::string& output = config_.output;
  WriteFile(output + "/config.json", architecture_.json);
  const std::string tokenizer = TokenizerDirectory(config_);
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}) {
    const std::string from = tokenizer + "/" + name;
    if (fs::exists(from)) {
      std::string text = ReadFile(from, Tokenizer::kMaxFileBytes);
      if (name == std::string_view("tokenizer_config.json")) MarkHoles(text);
      WriteFile(output + "/" + name, text);
    }
  }
  const ParsedConfig& parsed = architecture_.parsed;
  std::string generation;
  const auto add = [&](const char* key, const std::vector<int32_t>& ids) {
    if (ids.empty()) return;
    generation += fmt::format("{}\"{}\": {}", generation.empty() ? "" : ", ", key, ids[0]);
  };
  add("bos_token_id", parsed.bos_token_ids);
  add("eos_token_id", parsed.eos_token_ids);
  WriteFile(output + "/generation_config.json", "{" + generation + "}\n");
  SaveModel(output + "/model.safetensors", *parameters_);
}

// What is known of the weights that the run goes on with.
void Run::ReadInitProvenance() {
  const std::string path = config_.init + "/provenance.json";
  if (config_.init.empty() || !fs::exists(path)) return;
  try {
    std::string text = ReadFile(path, kMaxProvenanceBytes);
    (void)JsonDocument::Parse(text, path).object();
    init_provenance_ = std::move(text);
  } catch (const Error& error) {
    Note(fmt::format("the provenance of the weights is left out: {}", error.what()));
  }
}

void Run::WriteProvenance() const {
  std::string sources;
  for (const DataSource& source : data_->info().sources) {
    sources +=
        fmt::format("{}    {{\"path\": {}, \"sha256\": {}, \"bytes\": {}, \"documents\": {}}}",
                    sources.empty() ? "" : ",\n", JsonString(source.path),
                    JsonString(source.sha256), source.bytes, source.documents);
  }
  WriteFile(config_.output + "/provenance.json",
            fmt::format("{{\n  \"program\": {},\n  \"isa\": {},\n  \"products\": \"{}\",\n  "
                        "\"threads\": {},\n  \"steps\": {},\n  \"tokens\": {},\n  "
                        "\"synthetic_share\": {},\n  \"data_fingerprint\": {},\n  \"data\": "
                        "[\n{}\n  ],\n  \"config\": {}{}{}\n}}\n",
                        JsonString("baleen " + options_.version), JsonString(table_.name),
                        products_ == Products::kBF16 ? "bf16" : "f32", pool_.num_threads(),
                        state_.step, state_.tokens, config_.synthetic_share,
                        JsonString(state_.data), sources, ResultKeysJson(config_),
                        init_provenance_.empty() ? "" : ",\n  \"continues\": ", init_provenance_));
}

void Run::Save() {
  state_.data_position = data_->Position();
  SaveRunState(StatePath(), state_, *parameters_, *optimizer_);
  WriteModelFiles();
  WriteProvenance();
  log_->WriteReport(config_.output);
}

TrainResult Run::Go() {
  const double seconds_before = state_.seconds;
  const auto start = Clock::now();
  while (state_.step < config_.steps && !result_.interrupted) {
    StepReport report = Step();
    result_.loss = report.loss;
    state_.seconds = seconds_before + SecondsSince(start);
    const bool last = state_.step == config_.steps;
    if (last || (config_.validate_every > 0 && state_.step % config_.validate_every == 0)) {
      report.validation_loss = Validate();
    }
    log_->Step(report);
    if (options_.on_step) options_.on_step(report);
    result_.interrupted = !last && options_.stop && options_.stop();
    const bool due = last || result_.interrupted ||
                     (config_.checkpoint_every > 0 && state_.step % config_.checkpoint_every == 0);
    if (due) Save();
  }
  result_.steps = state_.step;
  result_.tokens = state_.tokens;
  result_.seconds = state_.seconds;
  result_.peak_bytes = PeakResidentBytes();
  return result_;
}

}  // namespace

TrainResult Train(const TrainConfig& config, const TrainOptions& options) {
  CheckTrainConfig(config);
  return Run(config, options).Go();
}

}  // namespace baleen
