#include "formats/safetensors_writer.h"

#include <algorithm>
#include <filesystem>
#include <tuple>
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "formats/file_text.h"

namespace baleen {

namespace {

namespace fs = std::filesystem;

void AppendJsonString(std::string_view text, std::string* out) {
  out->push_back('"');
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out->push_back('\\');
      out->push_back(c);
    } else if (static_cast<unsigned char>(c) < 0x20) {
      *out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      out->push_back(c);
    }
  }
  out->push_back('"');
}

// The length and the JSON, padded with spaces to a multiple of 8. `tensors` in order of the data.
std::string SerializeHeader(const std::vector<TensorSpec>& tensors,
                            const std::map<std::string, std::string>& metadata) {
  std::string json = "{";
  if (!metadata.empty()) {
    json += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata) {
      if (json.back() != '{') json += ",";
      AppendJsonString(key, &json);
      json += ":";
      AppendJsonString(value, &json);
    }
    json += "}";
  }
  uint64_t begin = 0;
  for (const TensorSpec& tensor : tensors) {
    if (json.back() != '{') json += ",";
    AppendJsonString(tensor.name, &json);
    json += fmt::format(R"(:{{"dtype":"{}","shape":{},"data_offsets":[{},{}]}})",
                        DTypeName(tensor.dtype), ShapeToString(tensor.shape), begin,
                        begin + tensor.size_bytes());
    begin += tensor.size_bytes();
  }
  json += "}";
  json.append((8 - json.size() % 8) % 8, ' ');

  std::string header;
  for (size_t i = 0; i < 8; ++i) header.push_back(static_cast<char>(json.size() >> (8 * i)));
  return header + json;
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(std::string path, std::vector<TensorSpec> tensors,
                                     const SafetensorsOptions& options)
    : file_(std::move(path)), sync_(options.sync) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorSpec& a, const TensorSpec& b) {
    return std::tuple(DTypeSize(b.dtype), std::string_view(a.name)) <
           std::tuple(DTypeSize(a.dtype), std::string_view(b.name));
  });
  const std::string header = SerializeHeader(tensors, options.metadata);
  uint64_t offset = header.size();
  for (const TensorSpec& tensor : tensors) {
    const uint64_t end = offset + tensor.size_bytes();
    const bool inserted = regions_.emplace(tensor.name, Region{offset, end}).second;
    BALEEN_CHECK(inserted);
    offset = end;
  }
  file_.Reserve(offset);
  file_.WriteAt(0, AsBytes(header));
}

void SafetensorsWriter::Write(std::string_view name, std::span<const std::byte> bytes) {
  const auto found = regions_.find(std::string(name));
  BALEEN_CHECK(found != regions_.end());
  Region& region = found->second;
  BALEEN_CHECK(bytes.size() <= region.end - region.offset);
  file_.WriteAt(region.offset, bytes);
  region.offset += bytes.size();
}

void SafetensorsWriter::Finish() {
  for (const auto& [name, region] : regions_) BALEEN_CHECK(region.offset == region.end);
  file_.Commit(sync_);
}

CheckpointWriter::CheckpointWriter(const std::string& directory, std::vector<TensorSpec> tensors,
                                   const SafetensorsOptions& options, uint64_t max_shard_bytes)
    : directory_(directory) {
  for (const char* name : {"model.safetensors", "model.safetensors.index.json"}) {
    if (fs::exists(fs::path(directory) / name)) {
      Throw(ErrorCode::kInvalidArgument, "{}: already holds a model ({}); name another directory",
            directory, name);
    }
  }
  std::vector<std::vector<TensorSpec>> shards(1);
  uint64_t shard_bytes = 0;
  for (TensorSpec& tensor : tensors) {
    const uint64_t bytes = tensor.size_bytes();
    if (!shards.back().empty() && shard_bytes + bytes > max_shard_bytes) {
      shards.emplace_back();
      shard_bytes = 0;
    }
    shard_bytes += bytes;
    total_bytes_ += bytes;
    const bool inserted = shard_of_.emplace(tensor.name, shards.size() - 1).second;
    BALEEN_CHECK(inserted);
    shards.back().push_back(std::move(tensor));
  }
  RequireDiskSpace(directory + "/", total_bytes_);
  for (size_t i = 0; i < shards.size(); ++i) {
    shard_names_.push_back(
        shards.size() == 1 ? std::string("model.safetensors")
                           : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size()));
    shards_.push_back(std::make_unique<SafetensorsWriter>(directory + "/" + shard_names_.back(),
                                                          std::move(shards[i]), options));
  }
}

CheckpointWriter::~CheckpointWriter() {
  if (finished_) return;
  // Shards that Finish had already named when it failed.
  std::error_code ignored;
  for (size_t i = 0; i < shards_.size(); ++i) {
    if (shards_[i] == nullptr) fs::remove(fs::path(directory_) / shard_names_[i], ignored);
  }
}

void CheckpointWriter::Write(std::string_view name, std::span<const std::byte> bytes) {
  const auto found = shard_of_.find(name);
  BALEEN_CHECK(found != shard_of_.end());
  shards_[found->second]->Write(name, bytes);
}

void CheckpointWriter::Finish() {
  for (std::unique_ptr<SafetensorsWriter>& shard : shards_) {
    shard->Finish();
    shard.reset();
  }
  if (shards_.size() > 1) WriteIndex();
  finished_ = true;
}

void CheckpointWriter::WriteIndex() const {
  std::string json = fmt::format(
      "{{\n  \"metadata\": {{\n    \"total_size\": {}\n  }},\n"
      "  \"weight_map\": {{",
      total_bytes_);
  const char* separator = "\n    ";
  for (const auto& [name, shard] : shard_of_) {
    json += std::exchange(separator, ",\n    ");
    AppendJsonString(name, &json);
    json += fmt::format(": \"{}\"", shard_names_[shard]);
  }
  json += "\n  }\n}\n";
  WriteFile(directory_ + "/model.safetensors.index.json", json);
}

}  // namespace baleen
