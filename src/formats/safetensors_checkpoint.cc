// OpenSafetensors: a whole model, from one file or from an index and its shards.
#include <algorithm>
#include <filesystem>
#include <unordered_map>

#include "base/check.h"
#include "base/error.h"
#include "base/json.h"
#include "base/quote.h"
#include "formats/safetensors.h"

namespace baleen {

namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxIndexBytes = 100'000'000;
constexpr const char* kSingleName = "model.safetensors";
constexpr const char* kIndexName = "model.safetensors.index.json";

class SafetensorsSource : public WeightSource {
 public:
  explicit SafetensorsSource(std::vector<SafetensorsFile> files) : files_(std::move(files)) {
    size_t num_tensors = 0;
    for (const SafetensorsFile& file : files_) num_tensors += file.tensors().size();
    places_.reserve(num_tensors);
    for (const SafetensorsFile& file : files_) {
      for (const auto& tensor : file.tensors()) places_[tensor.name] = {&tensor.view, &file};
    }
    BALEEN_CHECK(places_.size() == num_tensors);
  }

  const TensorView* Find(const std::string& name) const override {
    const auto found = places_.find(name);
    return found == places_.end() ? nullptr : found->second.view;
  }

  std::vector<std::string> Names() const override {
    std::vector<std::string> names;
    names.reserve(places_.size());
    for (const auto& [name, place] : places_) names.emplace_back(name);
    std::sort(names.begin(), names.end());
    return names;
  }

  std::string FileOf(const std::string& name) const override {
    const auto found = places_.find(name);
    BALEEN_CHECK(found != places_.end());
    return found->second.file->path();
  }

  std::optional<FilePlace> PlaceOf(const std::byte* data) const override {
    for (const SafetensorsFile& file : files_) {
      if (auto place = file.mapped().PlaceOf(data)) return place;
    }
    return std::nullopt;
  }

 private:
  struct Place {
    const TensorView* view;
    const SafetensorsFile* file;
  };

  std::vector<SafetensorsFile> files_;
  std::unordered_map<std::string_view, Place> places_;  // the names live in files_
};

// A name that can only mean a file in the directory of the index.
bool IsPlainShardName(std::string_view name) {
  return name.size() <= 255 && name.ends_with(".safetensors") && !name.starts_with('.') &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

std::unique_ptr<WeightSource> OpenSingle(const fs::path& path) {
  std::vector<SafetensorsFile> files;
  files.emplace_back(path.string());
  return std::make_unique<SafetensorsSource>(std::move(files));
}

// Before any shard is opened: a missing one is the commonest fault, and its name is the cure.
void RequireShards(const fs::path& directory, const std::vector<std::string>& shards) {
  std::string first_missing;
  size_t num_missing = 0;
  for (const std::string& shard : shards) {
    std::error_code error;
    if (fs::exists(directory / shard, error)) continue;
    if (num_missing++ == 0) first_missing = shard;
  }
  if (num_missing == 0) return;
  Throw(ErrorCode::kNotFound, "{}: missing, with {} of the {} shards that {} names; download {}",
        (directory / first_missing).string(), num_missing, shards.size(), kIndexName,
        num_missing == 1 ? "it" : "them");
}

// Both ways: what the index names is in its shard, and a shard holds nothing else.
void CheckAgreement(const std::map<std::string, std::string>& weight_map, const fs::path& index,
                    const SafetensorsFile& file, const std::string& shard) {
  for (const auto& tensor : file.tensors()) {
    const auto found = weight_map.find(tensor.name);
    if (found == weight_map.end()) {
      Throw(ErrorCode::kCorruption, "{}: holds tensor {}, which {} does not name", file.path(),
            Quote(tensor.name), index.string());
    }
    if (found->second != shard) {
      Throw(ErrorCode::kCorruption, "{}: holds tensor {}, which {} places in {}", file.path(),
            Quote(tensor.name), index.string(), Quote(found->second));
    }
  }
}

std::unique_ptr<WeightSource> OpenSharded(const fs::path& index) {
  const std::map<std::string, std::string> weight_map =
      ParseSafetensorsIndex(ReadFile(index.string(), kMaxIndexBytes), index.string());
  std::vector<std::string> shards;
  for (const auto& [tensor, shard] : weight_map) shards.push_back(shard);
  std::sort(shards.begin(), shards.end());
  shards.erase(std::unique(shards.begin(), shards.end()), shards.end());
  RequireShards(index.parent_path(), shards);

  std::vector<SafetensorsFile> files;
  std::unordered_map<std::string_view, const SafetensorsFile*> file_of_shard;
  files.reserve(shards.size());
  for (const std::string& shard : shards) {
    files.emplace_back((index.parent_path() / shard).string());
    CheckAgreement(weight_map, index, files.back(), shard);
    file_of_shard[shard] = &files.back();
  }
  for (const auto& [tensor, shard] : weight_map) {
    if (file_of_shard.at(shard)->Find(tensor) == nullptr) {
      Throw(ErrorCode::kCorruption, "{}: places tensor {} in {}, which does not hold it",
            index.string(), Quote(tensor), shard);
    }
  }
  return std::make_unique<SafetensorsSource>(std::move(files));
}

// Nothing to open: say what is there instead.
[[noreturn]] void RefuseDirectory(const fs::path& directory) {
  std::string shard, pickle, gguf;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    const std::string extension = it->path().extension().string();
    if (extension == ".safetensors") shard = std::max(shard, name);
    if (extension == ".bin" || extension == ".pt" || extension == ".pth") {
      pickle = std::max(pickle, name);
    }
    if (extension == ".gguf") gguf = std::max(gguf, name);
  }
  if (error) {
    Throw(ErrorCode::kNotFound, "{}: cannot be read: {}", directory.string(), error.message());
  }
  if (!shard.empty()) {
    Throw(ErrorCode::kNotFound, "{}: {} is missing, while {} is there; download the index",
          directory.string(), kIndexName, shard);
  }
  if (!gguf.empty()) {
    Throw(ErrorCode::kUnimplemented, "{}: holds {} and no safetensors; name the GGUF file itself",
          directory.string(), gguf);
  }
  if (!pickle.empty()) {
    Throw(ErrorCode::kUnimplemented,
          "{}: holds {} and no safetensors; pickle files run code when they are read and are not "
          "supported: convert the model to safetensors",
          directory.string(), pickle);
  }
  Throw(ErrorCode::kNotFound, "{}: not a model: neither {} nor {} is there", directory.string(),
        kSingleName, kIndexName);
}

}  // namespace

std::map<std::string, std::string> ParseSafetensorsIndex(std::string_view json,
                                                         const std::string& path) {
  if (json.starts_with("version https://git-lfs")) {
    Throw(ErrorCode::kCorruption,
          "{}: is a Git LFS pointer, not the index; fetch it with `git lfs pull`", path);
  }
  const JsonDocument document = JsonDocument::Parse(json, path);
  std::map<std::string, std::string> weight_map;
  bool found = false;
  const simdjson::dom::object root = document.object();
  for (const auto [key, value] : root) {
    if (key != "weight_map") continue;  // "metadata" is advice only
    if (found) Throw(ErrorCode::kCorruption, "{}: weight_map comes twice", path);
    found = true;
    simdjson::dom::object object;
    if (value.get(object)) {
      Throw(ErrorCode::kCorruption, "{}: weight_map is not an object", path);
    }
    for (const auto [tensor, file] : object) {
      std::string_view shard;
      if (file.get(shard)) {
        Throw(ErrorCode::kCorruption, "{}: weight_map of {} is not a string", path, Quote(tensor));
      }
      if (!IsPlainShardName(shard)) {
        Throw(ErrorCode::kCorruption,
              "{}: weight_map of {} names {}, expected the plain name of a .safetensors file in "
              "the same directory",
              path, Quote(tensor), Quote(shard));
      }
      if (!weight_map.emplace(tensor, shard).second) {
        Throw(ErrorCode::kCorruption, "{}: tensor {} comes twice in weight_map", path,
              Quote(tensor));
      }
    }
  }
  if (!found) Throw(ErrorCode::kCorruption, "{}: no weight_map", path);
  if (weight_map.empty()) Throw(ErrorCode::kCorruption, "{}: weight_map is empty", path);
  return weight_map;
}

std::unique_ptr<WeightSource> OpenSafetensors(const std::string& path) {
  const fs::path given(path);
  std::error_code error;
  if (!fs::is_directory(given, error)) {
    if (path.ends_with(".index.json")) return OpenSharded(given);
    return OpenSingle(given);
  }
  if (fs::exists(given / kSingleName, error)) return OpenSingle(given / kSingleName);
  if (fs::exists(given / kIndexName, error)) return OpenSharded(given / kIndexName);
  RefuseDirectory(given);
}

}  // namespace baleen
