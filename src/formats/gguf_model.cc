// GgufModel: one file, or all parts of a split model.
#include <algorithm>

#include "base/check.h"
#include "base/error.h"
#include "base/quote.h"
#include "formats/gguf.h"

namespace baleen {

namespace {

// NAME-00002-of-00005.gguf, as llama.cpp's gguf-split names parts (numbered from 1).
std::string PartSuffix(uint64_t part, uint64_t count) {
  return fmt::format("-{:05}-of-{:05}.gguf", part, count);
}

}  // namespace

GgufModel::GgufModel(const std::string& path) {
  Open(path);
  if (metadata().Uint("split.count").value_or(1) > 1) OpenOtherParts(path);
  IndexTensors();
}

void GgufModel::Open(const std::string& path) {
  MappedFile file(path);
  GgufHeader header = ParseGguf(file.bytes(), path);
  files_.push_back({std::move(file), std::move(header)});
}

void GgufModel::OpenOtherParts(const std::string& path) {
  const uint64_t count = *metadata().Uint("split.count");
  const uint64_t part = metadata().Uint("split.no").value_or(0);
  if (part >= count || count > 99999) {
    Throw(ErrorCode::kCorruption, "{}: keys split.no {} and split.count {} do not fit", path, part,
          count);
  }
  const std::string suffix = PartSuffix(part + 1, count);
  if (!path.ends_with(suffix)) {
    Throw(ErrorCode::kInvalidArgument,
          "{}: part {} of {} of a split model, but the name does not end in {}; give the parts "
          "their names back",
          path, part + 1, count, suffix);
  }
  const std::string stem = path.substr(0, path.size() - suffix.size());
  if (part != 0) {
    Throw(ErrorCode::kInvalidArgument, "{}: part {} of {} of a split model; name the first: {}",
          path, part + 1, count, stem + PartSuffix(1, count));
  }
  for (uint64_t i = 1; i < count; ++i) {
    Open(stem + PartSuffix(i + 1, count));
    const GgufMetadata& other = files_.back().header.metadata;
    if (other.Uint("split.no") != i || other.Uint("split.count") != count) {
      Throw(ErrorCode::kCorruption,
            "{}: says that it is part {} of {}, its name says part {} of {}", other.path(),
            other.Uint("split.no").value_or(0) + 1, other.Uint("split.count").value_or(0), i + 1,
            count);
    }
  }
}

void GgufModel::IndexTensors() {
  for (size_t i = 0; i < files_.size(); ++i) {
    for (const GgufHeader::Tensor& tensor : files_[i].header.tensors) {
      places_.push_back({tensor.name, &tensor.view, i});
    }
  }
  std::ranges::sort(places_, {}, &Place::name);
  const auto twice = std::ranges::adjacent_find(places_, {}, &Place::name);
  if (twice != places_.end()) {
    Throw(ErrorCode::kCorruption, "{}: tensor {} is in {} as well", files_[twice->file].file.path(),
          Quote(twice->name), files_[(twice + 1)->file].file.path());
  }
  const auto promised = metadata().Uint("split.tensors.count");
  if (files_.size() > 1 && promised && *promised != places_.size()) {
    Throw(ErrorCode::kCorruption,
          "{}: key split.tensors.count is {}, but the parts hold {} tensors", files_[0].file.path(),
          *promised, places_.size());
  }
}

const GgufModel::Place* GgufModel::FindPlace(std::string_view name) const {
  const auto found = std::ranges::lower_bound(places_, name, {}, &Place::name);
  return found != places_.end() && found->name == name ? &*found : nullptr;
}

const TensorView* GgufModel::Find(const std::string& name) const {
  const Place* place = FindPlace(name);
  return place == nullptr ? nullptr : place->view;
}

std::optional<FilePlace> GgufModel::PlaceOf(const std::byte* data) const {
  for (const File& file : files_) {
    if (auto place = file.file.PlaceOf(data)) return place;
  }
  return std::nullopt;
}

std::vector<std::string> GgufModel::Names() const {
  std::vector<std::string> names;
  names.reserve(places_.size());
  for (const Place& place : places_) names.emplace_back(place.name);
  return names;
}

std::string GgufModel::FileOf(const std::string& name) const {
  const Place* place = FindPlace(name);
  BALEEN_CHECK(place != nullptr);
  return files_[place->file].file.path();
}

}  // namespace baleen
