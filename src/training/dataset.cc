#include "training/dataset.h"

#include <algorithm>
#include <charconv>
#include <numeric>

#include "base/error.h"
#include "base/json.h"
#include "base/random.h"

namespace baleen {

namespace {

constexpr size_t kMaxFileBytes = Tokenizer::kMaxTextBytes;

// FNV-1a.
uint64_t HashBytes(std::string_view bytes, uint64_t hash = 0xcbf29ce484222325u) {
  for (const char c : bytes) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  }
  return hash;
}

std::string Hex(uint64_t value) { return fmt::format("{:016x}", value); }

// Whole files, one document each.
class TextFiles final : public Dataset {
 public:
  TextFiles(const DatasetOptions& options, const Tokenizer& tokenizer) : seed_(options.seed) {
    uint64_t hash = HashBytes(fmt::format("{} {}", options.seed, options.held_out_share));
    for (const std::string& path : options.paths) {
      const std::string text = ReadFile(path, kMaxFileBytes);
      if (text.find('\0') != std::string::npos) {
        Throw(ErrorCode::kCorruption, "{}: a zero byte; this is not text", path);
      }
      hash = HashBytes(text, hash);
      info_.sources.push_back({.path = path, .bytes = text.size(), .documents = 1});
      if (text.empty()) {
        ++info_.dropped_documents;
        continue;
      }
      Add(options, tokenizer, text);
    }
    if (documents_.empty()) {
      Throw(ErrorCode::kInvalidArgument, "there is no text to train on: {} files, all empty",
            options.paths.size());
    }
    info_.documents = documents_.size();
    for (const auto& document : documents_) info_.tokens += document.size();
    info_.held_out_tokens = held_out_.size();
    info_.fingerprint = Hex(hash);
    StartEpoch(0);
  }

  const DatasetInfo& info() const override { return info_; }
  std::span<const int32_t> held_out() const override { return held_out_; }

  void Next(std::span<int32_t> tokens) override {
    for (size_t i = 0; i < tokens.size(); ++i) {
      tokens[i] = documents_[order_[document_]][token_];
      if (i + 1 < tokens.size()) Advance();
    }
  }

  std::string Position() const override {
    return fmt::format("{} {} {}", epoch_, document_, token_);
  }

  void Seek(const std::string& position) override {
    uint64_t values[3];
    const char* at = position.data();
    const char* end = at + position.size();
    bool good = true;
    for (uint64_t& value : values) {
      const auto [next, error] = std::from_chars(at, end, value);
      good = good && error == std::errc();
      at = next + (next < end ? 1 : 0);
    }
    if (good) StartEpoch(values[0]);
    if (!good || values[1] >= order_.size() || values[2] >= documents_[order_[values[1]]].size()) {
      Throw(ErrorCode::kCorruption, "\"{}\" is no position in this data", position);
    }
    document_ = values[1];
    token_ = values[2];
  }

 private:
  void Add(const DatasetOptions& options, const Tokenizer& tokenizer, const std::string& text) {
    std::vector<int32_t> ids;
    if (options.bos_token_id >= 0) ids.push_back(options.bos_token_id);
    const std::vector<int32_t> encoded = tokenizer.Encode(text, false);
    ids.insert(ids.end(), encoded.begin(), encoded.end());
    if (options.eos_token_id >= 0) ids.push_back(options.eos_token_id);
    // Whether a document is held out follows from its text, so more files never move it.
    const double draw = Random(HashBytes(text)).UniformDouble();
    if (draw < options.held_out_share) {
      held_out_.insert(held_out_.end(), ids.begin(), ids.end());
      ++info_.held_out_documents;
      info_.held_out_bytes += text.size();
    } else {
      documents_.push_back(std::move(ids));
    }
  }

  // Fisher-Yates, the same for a seed and an epoch.
  void StartEpoch(uint64_t epoch) {
    epoch_ = epoch;
    document_ = token_ = 0;
    order_.resize(documents_.size());
    std::iota(order_.begin(), order_.end(), size_t{0});
    Random random(seed_, epoch);
    for (size_t i = order_.size(); i > 1; --i) std::swap(order_[i - 1], order_[random.Below(i)]);
  }

  void Advance() {
    if (++token_ < documents_[order_[document_]].size()) return;
    token_ = 0;
    if (++document_ == order_.size()) StartEpoch(epoch_ + 1);
  }

  uint64_t seed_;
  DatasetInfo info_;
  std::vector<std::vector<int32_t>> documents_;
  std::vector<int32_t> held_out_;

  uint64_t epoch_ = 0;
  std::vector<size_t> order_;  // of this epoch
  size_t document_ = 0;        // the next token: which of `order_`, and where in it
  size_t token_ = 0;
};

}  // namespace

std::unique_ptr<Dataset> OpenDataset(const DatasetOptions& options, const Tokenizer& tokenizer) {
  if (options.paths.empty()) Throw(ErrorCode::kInvalidArgument, "no data is named");
  if (options.held_out_share < 0 || options.held_out_share >= 1) {
    Throw(ErrorCode::kInvalidArgument, "the held-out share must be from 0 to below 1, found {}",
          options.held_out_share);
  }
  if (options.fim_rate != 0) {
    Throw(ErrorCode::kUnimplemented, "fill-in-the-middle is not supported for plain text files");
  }
  return std::make_unique<TextFiles>(options, tokenizer);
}

}  // namespace baleen
