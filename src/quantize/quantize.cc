#include "quantize/quantize.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <mutex>

#include "base/error.h"
#include "base/json.h"
#include "base/machine.h"
#include "base/sha256.h"
#include "checkpoint/checkpoint.h"
#include "formats/safetensors.h"
#include "kernels/registry.h"
#include "quantize/directory.h"
#include "quantize/layer_plan.h"
#include "quantize/layer_quantizer.h"
#include "quantize/report.h"

namespace baleen {

namespace {

namespace fs = std::filesystem;

Checkpoint OpenSource(const std::string& source) {
  Checkpoint checkpoint = OpenCheckpoint(source);
  if (checkpoint.path.is_gguf) {
    Throw(ErrorCode::kUnimplemented,
          "{}: a GGUF file cannot be quantized; give the directory that "
          "it was made from",
          source);
  }
  if (checkpoint.config.quantization == WeightQuantization::kGptq) {
    Throw(ErrorCode::kUnimplemented,
          "{}: is quantized already; give the model that it was made from", source);
  }
  return checkpoint;
}

// The three texts that pass through the layers: what calibrates, and what is held out, through the
// layers as they were and as they became.
struct Streams {
  std::optional<TokenStream> calibration, before, after;

  std::vector<std::pair<std::string, TokenStream*>> All() {
    std::vector<std::pair<std::string, TokenStream*>> all;
    if (calibration) all.emplace_back("calibration", &*calibration);
    all.emplace_back("before", &*before);
    all.emplace_back("after", &*after);
    return all;
  }
};

// Lets go of the pages of a mapped file that lie wholly within `matrix`: they count no longer as
// this process's memory, and load again when they are used again.
void ReleasePages(const Matrix& matrix) {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto data = reinterpret_cast<uintptr_t>(matrix.data);
  const uintptr_t begin = (data + page - 1) / page * page;
  const uintptr_t end = (data + matrix.size_bytes()) / page * page;
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

class Quantizer {
 public:
  Quantizer(const std::string& source, const std::string& destination,
            const QuantizeOptions& options);
  QuantizeReport Run();

 private:
  bool gptq() const { return options_.rounding.method == QuantizeMethod::kGptq; }
  void Plan();
  void Prepare();
  void QuantizeLayer(size_t l);
  void CheckCancelled() const;

  const QuantizeOptions& options_;
  std::vector<int> cpus_;
  ThreadPool pool_;
  kernels::KernelContext ctx_;
  Checkpoint checkpoint_;
  Model model_;
  CalibrationText text_;
  CalibrationWindows windows_;
  QuantizedDirectory directory_;
  Streams streams_;
  QuantizeReport report_;
  std::mutex mutex_;  // guards done_
  uint64_t done_ = 0, total_ = 0;
};

std::vector<int> CpusFor(size_t num_threads) {
  std::vector<int> cpus = ComputeCpus();
  if (num_threads > cpus.size()) return {};
  if (num_threads > 0) cpus.resize(num_threads);
  return cpus;
}

CalibrationText TextOf(const QuantizeOptions& options) {
  if (options.calibration) return *options.calibration;
  return {.name = "shipped", .text = std::string(ShippedCalibrationText())};
}

// What a run depends on: two with the same can be one run, interrupted.
std::string Fingerprint(const Checkpoint& checkpoint, const QuantizeOptions& options,
                        const std::string& text_sha256) {
  const RoundingOptions& r = options.rounding;
  std::string all = fmt::format(
      "{} {} {} {} {} {} {} {} {} {} {} ", fs::weakly_canonical(checkpoint.path.directory).string(),
      r.scale.bits, r.scale.symmetric, r.scale.search, r.group_cols, static_cast<int>(r.method),
      static_cast<int>(r.order), r.damp, options.window_tokens, options.max_tokens,
      options.max_held_out_tokens);
  all += fmt::format("{} ", static_cast<int>(options.small_projections));
  all += text_sha256 + BALEEN_VERSION;
  for (const auto& entry : fs::directory_iterator(checkpoint.path.directory)) {
    if (!entry.is_regular_file()) continue;
    all += fmt::format(" {} {} {}", entry.path().filename().string(), entry.file_size(),
                       entry.last_write_time().time_since_epoch().count());
  }
  return Sha256Hex(all);
}

Quantizer::Quantizer(const std::string& source, const std::string& destination,
                     const QuantizeOptions& options)
    : options_(options),
      cpus_(CpusFor(options.num_threads)),
      pool_(options.num_threads > 0 ? options.num_threads : cpus_.size(), cpus_),
      ctx_{.table = kernels::SelectKernels(options.isa), .pool = pool_},
      checkpoint_(OpenSource(source)),
      model_(checkpoint_.config.model, std::move(checkpoint_.weights)),
      text_(TextOf(options)),
      directory_(destination) {}

void Quantizer::CheckCancelled() const {
  if (options_.cancelled && options_.cancelled()) {
    Throw(ErrorCode::kCancelled, "interrupted; the same command goes on from here");
  }
}

// Which tensors become what, before anything is written.
void Quantizer::Plan() {
  for (size_t l = 0; l < NumQuantizedLayers(model_); ++l) {
    for (const LinearTarget& target : LayerTargets(model_.LayerOf(l), l, options_)) {
      const GptqShape shape = ShapeOf(*target.matrix, target.rounding);
      if (CanQuantize(*target.matrix, target.rounding)) {
        directory_.AddQuantized(l, target.name, shape);
        total_ += uint64_t{shape.rows} * shape.cols;
      } else {
        report_.kept.push_back(target.name);
      }
    }
  }
  if (total_ == 0) {
    Throw(ErrorCode::kInvalidArgument,
          "{}: no matrix has rows that groups of {} fill; try --group-size 32",
          checkpoint_.path.directory, options_.rounding.group_cols);
  }
  directory_.AddKept(*checkpoint_.source, model_);
}

void Quantizer::Prepare() {
  report_.calibration_name = text_.name;
  report_.calibration_sha256 = Sha256Hex(text_.text);
  const size_t window = std::min(options_.window_tokens, model_.config().max_position_embeddings);
  windows_ = MakeCalibrationWindows(text_, checkpoint_.text, window, options_.max_tokens,
                                    options_.max_held_out_tokens);
  if (gptq()) streams_.calibration.emplace(model_, windows_.training, ctx_);
  streams_.before.emplace(model_, windows_.held_out, ctx_);
  streams_.after.emplace(model_, windows_.held_out, ctx_);
  uint64_t state_bytes = 0;
  for (const auto& [name, stream] : streams_.All())
    state_bytes += stream->x().size() * sizeof(float);
  report_.calibration_tokens = gptq() ? streams_.calibration->num_tokens() : 0;
  report_.held_out_tokens = streams_.before->num_tokens();
  directory_.Open(Fingerprint(checkpoint_, options_, report_.calibration_sha256), state_bytes);
}

void Quantizer::QuantizeLayer(size_t l) {
  const LayerWeights& stored = model_.LayerOf(l);
  const auto writer = directory_.OpenLayer(l);
  LayerQuantizer layer(model_, l, options_, ctx_,
                       [&](const std::string& name, const RoundedMatrix& rounded) {
                         CheckCancelled();
                         WriteGptq(name, rounded.matrix, GptqVersion::kV1, *writer);
                         const std::lock_guard lock(mutex_);
                         done_ += rounded.matrix.codes.size();
                         if (options_.on_progress) options_.on_progress(done_, total_);
                       });
  TokenStream* calibration = streams_.calibration ? &*streams_.calibration : nullptr;
  // What the model says of a text does not depend on its MTP module: only the calibration enters.
  std::optional<TokenStream> entered;
  std::vector<std::pair<std::string, TokenStream*>> streams = streams_.All();
  if (l == model_.config().num_hidden_layers) {
    streams.clear();
    if (calibration != nullptr) {
      entered.emplace(calibration->EnterMtp(ctx_));
      calibration = &*entered;
      streams.emplace_back("calibration", calibration);
    }
  }
  layer.QuantizeAttention(calibration);
  for (const auto& [name, stream] : streams) {
    stream->Attend(l, stream == &*streams_.before ? stored : layer.weights(), ctx_);
  }
  layer.QuantizeFeedForward(calibration);
  for (const auto& [name, stream] : streams) {
    CheckCancelled();
    stream->FeedForward(l, stream == &*streams_.before ? stored : layer.weights(), ctx_);
  }
  directory_.WriteKeptOfLayer(l, *writer, *checkpoint_.source);
  writer->Finish();
  for (TensorReport& report : layer.TakeReports()) report_.tensors.push_back(std::move(report));
  for (const LinearTarget& target : LayerTargets(stored, l, options_)) {
    ReleasePages(*target.matrix);
  }
}

QuantizeReport Quantizer::Run() {
  const auto begin = std::chrono::steady_clock::now();
  Plan();
  Prepare();
  const size_t num_layers = NumQuantizedLayers(model_);
  size_t next = 0;
  if (const auto state = directory_.LoadState()) {
    next = state->next_layer;
    report_.resumed_layers = next;
    report_.tensors = ParseTensorsJson(state->tensors_json, directory_.partial());
    for (const auto& [name, stream] : streams_.All()) state->Load(name, stream->x());
    for (size_t l = 0; l < next; ++l) done_ += directory_.QuantizedWeights(l);
  }
  for (size_t l = next; l < num_layers; ++l) {
    CheckCancelled();
    QuantizeLayer(l);
    if (l + 1 == num_layers) break;
    std::vector<std::pair<std::string, const std::vector<float>*>> values;
    for (const auto& [name, stream] : streams_.All()) values.emplace_back(name, &stream->x());
    directory_.SaveState(l + 1, TensorsJson(report_.tensors), values);
  }
  report_.perplexity_before = streams_.before->Perplexity(ctx_);
  report_.perplexity_after = streams_.after->Perplexity(ctx_);
  directory_.WriteRest(*checkpoint_.source);
  report_.bytes_before = directory_.source_bytes();
  report_.bytes_after = directory_.total_bytes();
  report_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  directory_.Finish(checkpoint_.path.directory, options_, report_.kept,
                    ReportJson(report_, options_), ReportHtml(report_, options_));
  return std::move(report_);
}

}  // namespace

QuantizeReport Quantize(const std::string& source, const std::string& destination,
                        const QuantizeOptions& options) {
  return Quantizer(source, destination, options).Run();
}

}  // namespace baleen
