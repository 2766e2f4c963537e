// baleen-make-checkpoint: writes a model of any shape with random weights, for tests of speed and
// size where the real one is not at hand.
//
//   baleen-make-checkpoint --shape v2-lite --layers 4 /tmp/lite4
//   baleen-make-checkpoint --config config.json --dtype fp8 --seed 7 /tmp/model
//
// The same options give the same bytes, whatever the number of threads.
#include <signal.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "base/json.h"
#include "base/output_file.h"
#include "fill.h"
#include "formats/safetensors_writer.h"
#include "shapes.h"
#include "tensors.h"
#include "tokenizer_files.h"

namespace baleen::make_checkpoint {

namespace {

constexpr size_t kChunkBytes = size_t{1} << 20;  // fits the second-level cache; whole elements
constexpr size_t kMaxConfigBytes = size_t{1} << 20;

std::atomic<bool> interrupted{false};

struct Options {
  std::string shape;
  std::string config_path;
  std::string dtype = "bf16";
  std::string output;
  uint64_t seed = 0;
  size_t num_layers = 0;  // 0: as the shape says
  size_t num_threads = 0;
  bool with_mtp = false;
};

DType WeightDType(const std::string& name) {
  if (name == "f32") return DType::kF32;
  if (name == "f16") return DType::kF16;
  if (name == "fp8") return DType::kF8E4M3;
  return DType::kBF16;
}

Json ReadConfig(const std::string& path) {
  Json config = Json::parse(ReadFile(path, kMaxConfigBytes), nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) Throw(ErrorCode::kCorruption, "{}: not a JSON object", path);
  return config;
}

Json MakeConfig(const Options& options) {
  Json config =
      options.config_path.empty() ? ShapeConfig(options.shape) : ReadConfig(options.config_path);
  if (options.num_layers > 0) config["num_hidden_layers"] = options.num_layers;
  if (!options.with_mtp && config.contains("num_nextn_predict_layers")) {
    config["num_nextn_predict_layers"] = 0u;
  }
  config["torch_dtype"] = options.dtype == "f32"   ? "float32"
                          : options.dtype == "f16" ? "float16"
                                                   : "bfloat16";
  config.erase("quantization_config");
  if (options.dtype == "fp8") {
    config["quantization_config"] = {{"activation_scheme", "dynamic"},
                                     {"fmt", "e4m3"},
                                     {"quant_method", "fp8"},
                                     {"weight_block_size", {128, 128}}};
  }
  return config;
}

// Fills tensors, several at a time.
class Generator {
 public:
  Generator(const std::vector<SyntheticTensor>& tensors, DType dtype, uint64_t seed,
            CheckpointWriter* writer)
      : tensors_(tensors), filler_(dtype), seed_(seed), writer_(writer) {}

  // Rethrows the first error of any thread. Prints a line a second.
  void Run(size_t num_threads, uint64_t total_bytes) {
    std::vector<std::thread> threads;
    num_running_ = num_threads;
    for (size_t i = 0; i < num_threads; ++i) threads.emplace_back([this] { Work(); });
    {
      std::unique_lock lock(mutex_);
      while (
          !ended_.wait_for(lock, std::chrono::seconds(1), [this] { return num_running_ == 0; })) {
        fmt::print(stderr, "{:.1f} of {:.1f} GB\n", bytes_done_ / 1e9, total_bytes / 1e9);
      }
    }
    for (std::thread& thread : threads) thread.join();
    if (error_) std::rethrow_exception(error_);
  }

 private:
  void Work() {
    try {
      std::vector<std::byte> chunk(kChunkBytes);
      for (size_t i = 0; (i = next_tensor_++) < tensors_.size();) FillTensor(i, chunk);
    } catch (...) {
      next_tensor_ = tensors_.size();
      const std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
    const std::lock_guard lock(mutex_);
    --num_running_;
    ended_.notify_one();
  }

  void FillTensor(size_t index, std::span<std::byte> chunk) {
    const SyntheticTensor& tensor = tensors_[index];
    Random random(seed_, index);
    for (uint64_t left = tensor.spec.size_bytes(); left > 0;) {
      if (interrupted) Throw(ErrorCode::kCancelled, "interrupted; nothing was written");
      const std::span<std::byte> part = chunk.first(std::min<uint64_t>(left, chunk.size()));
      filler_.Fill(tensor.spec.dtype, tensor.content, &random, part);
      writer_->Write(tensor.spec.name, part);
      left -= part.size();
      bytes_done_ += part.size();
    }
  }

  const std::vector<SyntheticTensor>& tensors_;
  const Filler filler_;
  const uint64_t seed_;
  CheckpointWriter* const writer_;
  std::atomic<size_t> next_tensor_{0};
  std::atomic<uint64_t> bytes_done_{0};

  std::mutex mutex_;  // of what follows
  std::condition_variable ended_;
  size_t num_running_ = 0;
  std::exception_ptr error_;
};

void WriteCheckpoint(const Options& options) {
  const auto start = std::chrono::steady_clock::now();
  const Json config = MakeConfig(options);
  const DType dtype = WeightDType(options.dtype);
  const std::vector<SyntheticTensor> tensors = ListTensors(config, dtype);
  const bool with_tokenizer = HasRoomForTokenizer(config);
  const Json tokenizer = with_tokenizer ? TokenizerJson(config) : Json();
  std::vector<TensorSpec> specs;
  uint64_t total_bytes = 0;
  for (const SyntheticTensor& tensor : tensors) {
    specs.push_back(tensor.spec);
    total_bytes += tensor.spec.size_bytes();
  }

  std::filesystem::create_directories(options.output);
  CheckpointWriter writer(options.output, std::move(specs), {.sync = false});
  Generator generator(tensors, dtype, options.seed, &writer);
  fmt::print(stderr, "{} tensors, {:.2f} GB\n", tensors.size(), total_bytes / 1e9);
  generator.Run(options.num_threads, total_bytes);
  writer.Finish();
  WriteFile(options.output + "/config.json", config.dump(2) + "\n");
  if (with_tokenizer) {
    WriteFile(options.output + "/tokenizer.json", tokenizer.dump(1) + "\n");
    WriteFile(options.output + "/tokenizer_config.json", TokenizerConfigJson().dump(2) + "\n");
  } else {
    fmt::print(stderr, "no tokenizer: vocab_size has no room for all bytes\n");
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  fmt::print(stderr, "{}: written in {:.1f} s, {:.0f} MB/s\n", options.output, seconds.count(),
             total_bytes / 1e6 / seconds.count());
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app("Writes a checkpoint of any DeepSeek-family shape with random weights.");
  auto* shape = app.add_option("--shape", options.shape, "published shape")
                    ->check(CLI::IsMember(ShapeNames()));
  auto* config = app.add_option("--config", options.config_path, "config.json of another shape");
  shape->excludes(config);
  app.add_option("--layers", options.num_layers, "instead of the shape's own number")
      ->check(CLI::Range(1, 1000));
  app.add_option("--dtype", options.dtype, "of the weights")
      ->check(CLI::IsMember({"bf16", "f16", "f32", "fp8"}))
      ->capture_default_str();
  app.add_option("--seed", options.seed, "same seed, same bytes")->capture_default_str();
  options.num_threads = std::clamp(std::thread::hardware_concurrency(), 1u, 8u);
  app.add_option("--threads", options.num_threads)->check(CLI::Range(1, 64));
  app.add_flag("--mtp", options.with_mtp, "with the layers that predict a second token");
  app.add_option("output", options.output, "directory to write to")->required();
  CLI11_PARSE(app, argc, argv);
  if (options.shape.empty() && options.config_path.empty()) options.shape = "tiny";

  struct sigaction action = {};
  action.sa_handler = [](int) { interrupted = true; };
  sigaction(SIGINT, &action, nullptr);
  try {
    WriteCheckpoint(options);
    return 0;
  } catch (const Error& error) {
    fmt::print(stderr, "baleen-make-checkpoint: {}\n", error.what());
    return static_cast<int>(error.code());
  } catch (const std::exception& error) {
    fmt::print(stderr, "baleen-make-checkpoint: {}\n", error.what());
    return static_cast<int>(ErrorCode::kInternal);
  }
}

}  // namespace

}  // namespace baleen::make_checkpoint

int main(int argc, char** argv) { return baleen::make_checkpoint::Main(argc, argv); }
