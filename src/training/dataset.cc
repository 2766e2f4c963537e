#include "training/dataset.h"

#include <algorithm>
#include <charconv>
#include <numeric>
#include <optional>
#include <string_view>

#include "base/error.h"
#include "base/random.h"
#include "base/sha256.h"
#include "tensor/mapped_file.h"
#include "training/documents.h"
#include "training/fim.h"
#include "training/near_duplicates.h"

namespace baleen {

namespace {

// FNV-1a.
uint64_t HashBytes(std::string_view bytes, uint64_t hash = 0xcbf29ce484222325u) {
  for (const char c : bytes) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  }
  return hash;
}

// Where a part of `text` that begins at `begin` ends: after the last line that fits, else after the
// last character that does.
size_t EndOfPart(std::string_view text, size_t begin, size_t max_bytes) {
  if (max_bytes == 0 || text.size() - begin <= max_bytes) return text.size();
  const size_t line_end = text.rfind('\n', begin + max_bytes - 1);
  if (line_end != std::string_view::npos && line_end >= begin) return line_end + 1;
  size_t end = begin + max_bytes;
  while (end > begin + 1 && (static_cast<uint8_t>(text[end]) & 0xC0) == 0x80) --end;
  return end;
}

class PackedDocuments final : public Dataset {
 public:
  PackedDocuments(const DatasetOptions& options, const Tokenizer& tokenizer)
      : options_(options),
        tokenizer_(tokenizer),
        documents_({options.paths, options.text_field, options.separator}) {
    if (options.fim_rate > 0) fim_.emplace(tokenizer, options.fim_line_share);
    ReadAll();
    if (parts_.empty()) {
      Throw(ErrorCode::kInvalidArgument,
            "there is nothing to train on: {} files, {} documents held out, {} passed over",
            documents_.files().size(), info_.held_out_documents, info_.dropped_documents);
    }
    StartEpoch(0);
  }

  const DatasetInfo& info() const override { return info_; }
  std::span<const int32_t> held_out() const override { return held_out_; }

  void Next(std::span<int32_t> tokens) override {
    for (size_t i = 0; i < tokens.size(); ++i) {
      tokens[i] = current_[token_];
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
    if (good && values[1] < parts_.size()) {
      StartEpoch(values[0]);
      document_ = values[1];
      Load();
    }
    if (!good || values[1] >= parts_.size() || values[2] >= current_.size()) {
      Throw(ErrorCode::kCorruption, "\"{}\" is no position in this data", position);
    }
    token_ = values[2];
  }

 private:
  // What is trained on at a time: a document, or a part of one.
  struct Part {
    DocumentPlace place;
    uint32_t begin, size;  // in the document's text
    uint32_t check;        // of the part's text
  };

  static uint32_t Check(std::string_view text) { return static_cast<uint32_t>(HashBytes(text)); }

  // ---- opening: one pass over everything

  void ReadAll() {
    fingerprint_ = HashBytes(
        fmt::format("{} {} {} {} {} {}", options_.seed, options_.held_out_share, options_.fim_rate,
                    options_.fim_line_share, options_.bos_token_id, options_.eos_token_id));
    for (const std::string& path : options_.paths) info_.sources.push_back({.path = path});
    std::vector<std::string> listings(options_.paths.size());
    for (uint32_t file = 0; file < documents_.files().size(); ++file) {
      const SourceFile& source = documents_.files()[file];
      const Documents::ScanResult result = documents_.Scan(
          file, [this](const DocumentPlace& place, std::string_view text) { Add(place, text); });
      info_.dropped_documents += result.empty + (result.is_text ? 0 : 1);
      DataSource& summary = info_.sources[source.path_idx];
      summary.bytes += result.bytes;
      summary.documents += result.documents;
      const MappedFile mapped(source.path);
      const std::string digest =
          Sha256Hex({reinterpret_cast<const char*>(mapped.bytes().data()), mapped.bytes().size()});
      if (source.is_named) {
        summary.sha256 = digest;
      } else {
        listings[source.path_idx] += fmt::format("{}  {}\n", digest, source.path);
      }
    }
    for (size_t i = 0; i < listings.size(); ++i) {
      if (!listings[i].empty()) info_.sources[i].sha256 = Sha256Hex(listings[i]);
    }
    info_.held_out_tokens = held_out_.size();
    info_.fingerprint = fmt::format("{:016x}", fingerprint_);
    near_duplicates_ = {};
  }

  void Add(const DocumentPlace& place, std::string_view text) {
    if (options_.drop_near_duplicates && near_duplicates_.Seen(text)) {
      ++info_.dropped_documents;
      return;
    }
    // Follows from the text alone, so that more files never move a document to the other side.
    const bool is_held_out = Random(HashBytes(text)).UniformDouble() < options_.held_out_share;
    if (is_held_out) {
      AppendWhole(text, &held_out_);
      ++info_.held_out_documents;
      info_.held_out_bytes += text.size();
      return;
    }
    ++info_.documents;
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = EndOfPart(text, begin, options_.max_document_bytes);
      const std::string_view part = text.substr(begin, end - begin);
      current_.clear();
      AppendWhole(part, &current_);
      for (const int32_t id : current_) {
        fingerprint_ = (fingerprint_ ^ static_cast<uint32_t>(id)) * 0x100000001b3u;
      }
      info_.tokens += current_.size();
      parts_.push_back(
          {place, static_cast<uint32_t>(begin), static_cast<uint32_t>(part.size()), Check(part)});
      begin = end;
    }
  }

  void AppendWhole(std::string_view text, std::vector<int32_t>* ids) const {
    if (options_.bos_token_id >= 0) ids->push_back(options_.bos_token_id);
    const std::vector<int32_t> encoded = tokenizer_.Encode(text, /*parse_special=*/false);
    ids->insert(ids->end(), encoded.begin(), encoded.end());
    if (options_.eos_token_id >= 0) ids->push_back(options_.eos_token_id);
  }

  // ---- training

  // Fisher-Yates, the same for a seed and an epoch.
  void StartEpoch(uint64_t epoch) {
    epoch_ = epoch;
    document_ = 0;
    order_.resize(parts_.size());
    std::iota(order_.begin(), order_.end(), uint32_t{0});
    Random random(options_.seed, epoch);
    for (size_t i = order_.size(); i > 1; --i) std::swap(order_[i - 1], order_[random.Below(i)]);
    Load();
  }

  void Advance() {
    if (++token_ < current_.size()) return;
    if (++document_ < order_.size()) return Load();
    StartEpoch(epoch_ + 1);
  }

  // Reads the document at hand, from its beginning.
  void Load() {
    const Part& part = parts_[order_[document_]];
    const std::string document = documents_.Read(part.place);
    const std::string_view text =
        std::string_view(document).substr(std::min<size_t>(part.begin, document.size()), part.size);
    if (text.size() != part.size || Check(text) != part.check) {
      Throw(ErrorCode::kCorruption, "{}: changed since training began",
            documents_.files()[part.place.file].path);
    }
    token_ = 0;
    current_.clear();
    // A generator for each time that a document comes, so that a position says all.
    Random random(options_.seed ^ kFimSalt, epoch_ << 32 | order_[document_]);
    if (!fim_ || random.UniformDouble() >= options_.fim_rate) return AppendWhole(text, &current_);
    if (options_.bos_token_id >= 0) current_.push_back(options_.bos_token_id);
    fim_->Append(text, &random, &current_);
    if (options_.eos_token_id >= 0) current_.push_back(options_.eos_token_id);
  }

  static constexpr uint64_t kFimSalt = 0x46494D;  // else the draws would be those of StartEpoch

  const DatasetOptions options_;
  const Tokenizer& tokenizer_;
  const Documents documents_;
  std::optional<FimEncoder> fim_;
  NearDuplicates near_duplicates_;  // while opening

  DatasetInfo info_;
  uint64_t fingerprint_ = 0;
  std::vector<Part> parts_;
  std::vector<int32_t> held_out_;

  uint64_t epoch_ = 0;
  std::vector<uint32_t> order_;   // of this epoch
  size_t document_ = 0;           // the next token: which of `order_`,
  std::vector<int32_t> current_;  // its tokens,
  size_t token_ = 0;              // and where in them
};

void RequireShare(const char* what, double share, double limit) {
  if (share < 0 || share > limit || share != share) {
    Throw(ErrorCode::kInvalidArgument, "{} must be from 0 to {}, found {}", what, limit, share);
  }
}

}  // namespace

std::unique_ptr<Dataset> OpenDataset(const DatasetOptions& options, const Tokenizer& tokenizer) {
  RequireShare("the held-out share", options.held_out_share, 0.99);
  RequireShare("the rate of fill-in-the-middle", options.fim_rate, 1);
  RequireShare("the share of lines in fill-in-the-middle", options.fim_line_share, 1);
  return std::make_unique<PackedDocuments>(options, tokenizer);
}

}  // namespace baleen
