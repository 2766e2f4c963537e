#include "quantize/directory.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "base/error.h"
#include "base/json.h"
#include "base/output_file.h"
#include "quantize/layer_plan.h"

namespace baleen {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr size_t kMaxConfigBytes = size_t{16} << 20;
constexpr uint64_t kSpareBytes = uint64_t{64} << 20;  // for tokenizer, report and file system
constexpr uint64_t kOneFileBytes = uint64_t{256}
                                   << 20;  // up to here there are no shards in the end
constexpr const char* kStateFile = "/state.safetensors";
constexpr const char* kFingerprintFile = "/quantizing";

// A pattern of `name`; the experts of a layer, which are all of one shape, share one.
std::string PatternOf(std::string_view name) {
  constexpr std::string_view kExperts = ".experts.";
  std::string pattern;
  for (size_t i = 0; i < name.size(); ++i) {
    if (name[i] != '.') {
      pattern += name[i];
      continue;
    }
    pattern += R"(\.)";
    const size_t end = name.find('.', i + 1);
    if (name.substr(0, i + 1).ends_with(kExperts) && end != name.npos) {
      pattern += R"(\d+)";  // instead of the expert's number
      i = end - 1;
    }
  }
  return pattern;
}

// The layer that a tensor belongs to, if it is one of the first `num_layers`.
std::optional<size_t> LayerOf(std::string_view name, size_t num_layers) {
  constexpr std::string_view kPrefix = "model.layers.";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  size_t layer = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), layer);
  if (error != std::errc() || layer >= num_layers) return std::nullopt;
  return layer;
}

// All experts of a layer in one tensor.
bool IsPacked(std::string_view name) {
  return name.ends_with("mlp.experts.gate_up_proj") || name.ends_with("mlp.experts.down_proj");
}

bool IsFp8Scale(std::string_view name) { return name.ends_with("_scale_inv"); }

// An FP8 tensor with its scales, one for each block of 128 x 128, as BF16.
std::vector<uint16_t> Fp8ToBf16(const std::string& name, const TensorView& view,
                                const WeightSource& source) {
  const size_t cols = view.shape[1], block = kernels::kF8Block;
  const size_t block_cols = (cols + block - 1) / block;
  const std::vector<float> values = ToF32(view);
  const std::vector<float> scales = ToF32(*source.Find(name + "_scale_inv"));
  std::vector<uint16_t> out(values.size());
  for (size_t i = 0; i < out.size(); ++i) {
    const size_t row = i / cols, col = i % cols;
    out[i] = F32ToBf16(values[i] * scales[row / block * block_cols + col / block]);
  }
  return out;
}

// What a checkpoint has beside its weights and that still holds: tokenizer, templates, licence.
bool IsCopied(const fs::path& path) {
  const std::string name = path.filename().string(), extension = path.extension().string();
  if (name == "config.json" || name == "quantize_config.json" || name.ends_with(".index.json")) {
    return false;
  }
  return extension == ".json" || extension == ".jinja" || extension == ".model" ||
         extension == ".py" || name.starts_with("LICENSE") || name.starts_with("NOTICE");
}

}  // namespace

void QuantizedDirectory::State::Load(const std::string& name, std::vector<float>& values) const {
  const TensorView* view = file->Find(name);
  if (view == nullptr || view->dtype != DType::kF32 || view->num_elements() != values.size()) {
    Throw(ErrorCode::kCorruption, "{}: does not hold what this run needs; remove the directory",
          file->path());
  }
  std::memcpy(values.data(), view->data, view->size_bytes());
}

QuantizedDirectory::QuantizedDirectory(const std::string& destination) : destination_(destination) {
  while (destination_.size() > 1 && destination_.ends_with('/')) destination_.pop_back();
  partial_ = destination_ + ".partial";
  std::error_code ignored;
  if (fs::exists(destination_, ignored)) {
    Throw(ErrorCode::kInvalidArgument, "{}: exists already; give another name or remove it",
          destination_);
  }
}

void QuantizedDirectory::AddQuantized(size_t layer, const std::string& name,
                                      const GptqShape& shape) {
  if (shards_.size() <= layer) shards_.resize(layer + 1);
  for (TensorSpec& spec : GptqTensorSpecs(name, shape)) {
    shards_[layer].tensors.push_back(std::move(spec));
  }
  shards_[layer].quantized_weights += uint64_t{shape.rows} * shape.cols;
  quantized_.push_back(name);
}

void QuantizedDirectory::AddKept(const WeightSource& source, const Model& model) {
  const size_t num_layers = NumQuantizedLayers(model);
  shards_.resize(num_layers + 1);
  std::unordered_set<std::string> replaced;
  for (const std::string& name : quantized_) replaced.insert(name + ".weight");
  for (const std::string& name : source.Names()) {
    const TensorView& view = *source.Find(name);
    source_bytes_ += view.size_bytes();
    if (replaced.contains(name) || IsFp8Scale(name)) continue;
    const size_t shard = LayerOf(name, num_layers).value_or(num_layers);
    if (IsPacked(name) && shard < num_layers) {
      const std::string expert = name.substr(0, name.rfind('.')) + ".0.down_proj.weight";
      if (replaced.contains(expert)) continue;
      Throw(ErrorCode::kUnimplemented,
            "{}: groups of this size do not fill its rows, and experts in "
            "one tensor cannot stay as they are; try --group-size 32",
            name);
    }
    const DType dtype = view.dtype == DType::kF8E4M3 ? DType::kBF16 : view.dtype;
    shards_[shard].tensors.push_back({name, dtype, view.shape});
    shards_[shard].kept.push_back(name);
  }
}

uint64_t QuantizedDirectory::total_bytes() const {
  uint64_t bytes = 0;
  for (const Shard& shard : shards_) {
    for (const TensorSpec& spec : shard.tensors) bytes += spec.size_bytes();
  }
  return bytes;
}

std::string QuantizedDirectory::ShardName(size_t index) const {
  return fmt::format("model-{:05}-of-{:05}.safetensors", index + 1, shards_.size());
}

void QuantizedDirectory::Open(const std::string& fingerprint, uint64_t state_bytes) {
  const std::string marker = partial_ + kFingerprintFile;
  std::error_code error;
  if (fs::exists(partial_, error)) {
    if (!fs::exists(marker, error) || ReadFile(marker, kMaxConfigBytes) != fingerprint) {
      Throw(ErrorCode::kInvalidArgument,
            "{}: is the beginning of other work (another source, other options or another text); "
            "remove it",
            partial_);
    }
  } else if (!fs::create_directories(partial_, error)) {
    Throw(ErrorCode::kInvalidArgument, "{}: cannot be created: {}", partial_, error.message());
  }
  uint64_t there = 0;
  for (size_t i = 0; i < shards_.size(); ++i) {
    const uintmax_t size = fs::file_size(partial_ + "/" + ShardName(i), error);
    if (!error) there += size;
  }
  // Two states at once: the next is whole before the last one goes.
  const uint64_t joined = total_bytes() <= kOneFileBytes ? total_bytes() : 0;
  const uint64_t needed = total_bytes() + joined + 2 * state_bytes + kSpareBytes;
  try {
    RequireDiskSpace(marker, needed - std::min(needed, there));
  } catch (const Error&) {
    if (there == 0) fs::remove(partial_, error);  // if it is empty
    throw;
  }
  WriteFile(marker, fingerprint);
}

std::unique_ptr<SafetensorsWriter> QuantizedDirectory::OpenLayer(size_t layer) const {
  return std::make_unique<SafetensorsWriter>(partial_ + "/" + ShardName(layer),
                                             shards_[layer].tensors);
}

void QuantizedDirectory::WriteKept(const Shard& shard, SafetensorsWriter& writer,
                                   const WeightSource& source) const {
  for (const std::string& name : shard.kept) {
    const TensorView& view = *source.Find(name);
    if (view.dtype == DType::kF8E4M3) {
      const std::vector<uint16_t> values = Fp8ToBf16(name, view, source);
      writer.Write(name, std::as_bytes(std::span(values)));
    } else {
      writer.Write(name, {view.data, view.size_bytes()});
    }
  }
}

void QuantizedDirectory::WriteKeptOfLayer(size_t layer, SafetensorsWriter& writer,
                                          const WeightSource& source) const {
  WriteKept(shards_[layer], writer, source);
}

void QuantizedDirectory::WriteRest(const WeightSource& source) const {
  const auto writer = OpenLayer(shards_.size() - 1);
  WriteKept(shards_.back(), *writer, source);
  writer->Finish();
}

std::optional<QuantizedDirectory::State> QuantizedDirectory::LoadState() const {
  const std::string path = partial_ + kStateFile;
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return std::nullopt;
  State state;
  state.file = std::make_shared<const SafetensorsFile>(path);
  const auto& metadata = state.file->metadata();
  const auto next = metadata.find("next_layer"), tensors = metadata.find("tensors");
  if (next == metadata.end() || tensors == metadata.end()) {
    Throw(ErrorCode::kCorruption, "{}: is not a state of a quantization; remove the directory",
          path);
  }
  std::from_chars(next->second.data(), next->second.data() + next->second.size(), state.next_layer);
  state.tensors_json = tensors->second;
  if (state.next_layer >= shards_.size()) {
    Throw(ErrorCode::kCorruption, "{}: names layer {}, which there is none; remove the directory",
          path, state.next_layer);
  }
  for (size_t i = 0; i < state.next_layer; ++i) {
    // Interrupted while the shards were joined: all of it is done again.
    if (!fs::exists(partial_ + "/" + ShardName(i), ignored)) return std::nullopt;
  }
  return state;
}

void QuantizedDirectory::SaveState(size_t next_layer, const std::string& tensors_json,
                                   const Values& values) const {
  std::vector<TensorSpec> specs;
  for (const auto& [name, data] : values) specs.push_back({name, DType::kF32, {data->size()}});
  SafetensorsWriter writer(
      partial_ + kStateFile, std::move(specs),
      {.metadata = {{"next_layer", std::to_string(next_layer)}, {"tensors", tensors_json}}});
  for (const auto& [name, data] : values) writer.Write(name, std::as_bytes(std::span(*data)));
  writer.Finish();
}

void QuantizedDirectory::WriteIndex() const {
  Json map = Json::object();
  for (size_t i = 0; i < shards_.size(); ++i) {
    for (const TensorSpec& spec : shards_[i].tensors) map[spec.name] = ShardName(i);
  }
  const Json index = {{"metadata", {{"total_size", total_bytes()}}}, {"weight_map", map}};
  WriteFile(partial_ + "/model.safetensors.index.json", index.dump(1) + "\n");
}

void QuantizedDirectory::JoinShards() const {
  std::vector<TensorSpec> all;
  for (const Shard& shard : shards_) {
    all.insert(all.end(), shard.tensors.begin(), shard.tensors.end());
  }
  SafetensorsWriter writer(partial_ + "/model.safetensors", std::move(all));
  for (size_t i = 0; i < shards_.size(); ++i) {
    const SafetensorsFile shard(partial_ + "/" + ShardName(i));
    for (const auto& tensor : shard.tensors()) {
      writer.Write(tensor.name, {tensor.view.data, tensor.view.size_bytes()});
    }
  }
  writer.Finish();
  for (size_t i = 0; i < shards_.size(); ++i) fs::remove(partial_ + "/" + ShardName(i));
}

std::string QuantizationConfigJson(const QuantizeOptions& options,
                                   const std::vector<std::string>& kept) {
  const RoundingOptions& r = options.rounding;
  const bool gptq = r.method == QuantizeMethod::kGptq;
  // Engines that quantize every linear layer they know must be told which ones stay, or differ.
  Json dynamic = {{R"(-:.*\.mlp\.gate$)", Json::object()}};
  const std::string small = R"(:.*\.self_attn\.(kv_a_proj_with_mqa|kv_b_proj|q_a_proj)$)";
  if (options.small_projections == SmallProjections::kStored) {
    dynamic["-" + small] = Json::object();
  } else if (const RoundingOptions rounding = SmallRounding(options);
             rounding.scale.bits != r.scale.bits) {
    dynamic["+" + small] = {{"bits", rounding.scale.bits}};
  }
  for (const std::string& name : kept) dynamic["-:" + PatternOf(name) + "$"] = Json::object();
  const Json config = {
      {"bits", r.scale.bits},
      {"group_size", r.group_cols == 0 ? int64_t{-1} : static_cast<int64_t>(r.group_cols)},
      {"desc_act", gptq && r.order == ColumnOrder::kDescAct},
      {"sym", r.scale.symmetric},
      {"lm_head", false},
      {"quant_method", "gptq"},
      {"checkpoint_format", "gptq"},
      {"pack_dtype", "int32"},
      {"damp_percent", r.damp},
      {"true_sequential", true},
      {"static_groups", gptq && r.order == ColumnOrder::kActivation},
      {"dynamic", dynamic},
      {"meta", {{"quantizer", {"baleen:" BALEEN_VERSION}}, {"method", gptq ? "gptq" : "rtn"}}}};
  return config.dump(2);
}

void QuantizedDirectory::Finish(const std::string& source_directory, const QuantizeOptions& options,
                                const std::vector<std::string>& kept,
                                const std::string& report_json,
                                const std::string& report_html) const {
  if (total_bytes() <= kOneFileBytes) {
    JoinShards();
  } else {
    WriteIndex();
  }
  const std::string config_path = source_directory + "/config.json";
  Json config = Json::parse(ReadFile(config_path, kMaxConfigBytes));
  config["quantization_config"] = Json::parse(QuantizationConfigJson(options, kept));
  WriteFile(partial_ + "/config.json", config.dump(2) + "\n");
  WriteFile(partial_ + "/quantize_config.json", QuantizationConfigJson(options, kept) + "\n");
  WriteFile(partial_ + "/quantize_report.json", report_json);
  WriteFile(partial_ + "/quantize_report.html", report_html);
  for (const auto& entry : fs::directory_iterator(source_directory)) {
    if (!entry.is_regular_file() || !IsCopied(entry.path())) continue;
    fs::copy_file(entry.path(), fs::path(partial_) / entry.path().filename(),
                  fs::copy_options::overwrite_existing);
  }
  fs::remove(partial_ + kStateFile);
  fs::remove(partial_ + kFingerprintFile);
  std::error_code error;
  fs::rename(partial_, destination_, error);
  if (error) {
    Throw(ErrorCode::kFailed, "{}: is whole, but cannot be renamed to {}: {}", partial_,
          destination_, error.message());
  }
}

}  // namespace baleen
