// Loads a Hugging Face tokenizer.json (the `tokenizers` library's own format).
//
// What cannot change an id or a byte of text is not looked at: truncation, padding, post_processor
// (it may add a beginning-of-text token, which is not this class's business).

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/quote.h"
#include "tokenizer/pre_tokenizer_patterns.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/tokenizer_builder.h"
#include "tokenizer/tokenizer_json_reader.h"

namespace baleen {
namespace {

using simdjson::dom::array;
using simdjson::dom::element;
using simdjson::dom::object;

class JsonLoader {
 public:
  JsonLoader(std::string_view json, std::string source)
      : num_file_bytes_(json.size()),
        document_(JsonDocument::Parse(json, std::move(source))),
        reader_(document_.source()),
        root_(document_.object()) {}

  std::unique_ptr<Tokenizer> Load() {
    CheckNormalizer();
    CheckDecoder();
    const PreTokenizer pre_tokenizer = ReadPreTokenizer();
    const object model = reader_.Get<object>(root_, "model", "an object");
    const bool ignore_merges = ReadModelOptions(model);
    const object vocab = reader_.Get<object>(model, "vocab", "an object");
    const array merges = reader_.Get<array>(model, "merges", "an array");
    TokenizerBuilder builder(source(), num_file_bytes_, vocab.size(), merges.size());
    for (const auto [spelling, id] : vocab) {
      builder.AddTextToken(reader_.As<int64_t>(id, "an id in model.vocab", "an integer"), spelling);
    }
    ReadAddedTokens(&builder);
    for (const element merge : merges) ReadMerge(merge, &builder);
    return std::move(builder).Build(pre_tokenizer, ignore_merges);
  }

 private:
  const std::string& source() const { return document_.source(); }

  std::string_view TypeOf(object value) const {
    return reader_.Get<std::string_view>(value, "type", "a string");
  }

  void CheckNormalizer() const {
    const std::optional<element> value = reader_.GetOptional(root_, "normalizer");
    if (!value) return;
    const object normalizer = reader_.As<object>(*value, "normalizer", "an object");
    const std::string_view type = TypeOf(normalizer);
    if (type == "Sequence" && reader_.Get<array>(normalizer, "normalizers", "an array").size() == 0)
      return;
    Throw(ErrorCode::kUnimplemented, "{}: normalizer {} is not supported", source(), Quote(type));
  }

  void CheckDecoder() const {
    const object decoder = reader_.Get<object>(root_, "decoder", "an object");
    const std::string_view type = TypeOf(decoder);
    if (type == "ByteLevel") return;
    Throw(ErrorCode::kUnimplemented, "{}: decoder {} is not supported, only byte-level BPE is",
          source(), Quote(type));
  }

  PreTokenizer ReadPreTokenizer() const {
    std::vector<PreTokenizerStep> steps;
    const object outer = reader_.Get<object>(root_, "pre_tokenizer", "an object");
    if (TypeOf(outer) == "Sequence") {
      for (const element step : reader_.Get<array>(outer, "pretokenizers", "an array")) {
        steps.push_back(ReadStep(reader_.As<object>(step, "a step of pre_tokenizer", "an object")));
      }
    } else {
      steps.push_back(ReadStep(outer));
    }
    const std::optional<PreTokenizer> known = RecognizePreTokenizer(steps);
    if (known) return *known;
    std::string listing;
    for (size_t i = 0; i < steps.size() && i < 8; ++i) {
      const PreTokenizerStep& step = steps[i];
      listing += listing.empty() ? "" : ", ";
      listing += step.kind == PreTokenizerStep::Kind::kSplit ? Quote(step.pattern) : step.Name();
    }
    Throw(ErrorCode::kUnimplemented,
          "{}: the pre_tokenizer is none of DeepSeek-V2's, DeepSeek-V3's or Kimi's: {}", source(),
          listing);
  }

  PreTokenizerStep ReadStep(object step) const {
    using Kind = PreTokenizerStep::Kind;
    const std::string_view type = TypeOf(step);
    if (type == "Split") {
      const object pattern = reader_.Get<object>(step, "pattern", "an object");
      const auto behavior = reader_.Get<std::string_view>(step, "behavior", "a string");
      element regex;
      if (pattern["Regex"].get(regex) || behavior != "Isolated" ||
          reader_.GetFlag(step, "invert", false)) {
        Throw(ErrorCode::kUnimplemented,
              "{}: pre_tokenizer has a Split that is not by Regex, Isolated, not inverted",
              source());
      }
      return {Kind::kSplit, std::string(reader_.As<std::string_view>(regex, "Regex", "a string"))};
    }
    if (type == "Digits" && reader_.GetFlag(step, "individual_digits", false))
      return {Kind::kDigits, ""};
    if (type == "ByteLevel" && !reader_.GetFlag(step, "add_prefix_space", true) &&
        !reader_.GetFlag(step, "use_regex", true)) {
      return {Kind::kByteLevel, ""};
    }
    Throw(ErrorCode::kUnimplemented, "{}: pre_tokenizer step {} with its options is not supported",
          source(), Quote(type));
  }

  // Refuses options that would change ids. Returns ignore_merges.
  bool ReadModelOptions(object model) const {
    if (const std::string_view type = TypeOf(model); type != "BPE") {
      Throw(ErrorCode::kUnimplemented, "{}: model type {} is not supported, only BPE is", source(),
            Quote(type));
    }
    bool ignore_merges = false;
    for (const auto [key, value] : model) {
      bool is_supported = false;
      if (key == "type" || key == "vocab" || key == "merges") {
        is_supported = true;
      } else if (key == "ignore_merges") {
        ignore_merges = reader_.As<bool>(value, key, "true or false");
        is_supported = true;
      } else if (key == "unk_token" || key == "fuse_unk") {
        is_supported = true;  // all bytes have tokens (checked at the end), so nothing is unknown
      } else if (key == "dropout") {
        double dropout = 0.0;
        is_supported = value.is_null() || (!value.get(dropout) && dropout == 0.0);
      } else if (key == "byte_fallback") {
        is_supported = !reader_.As<bool>(value, key, "true or false");
      } else if (key == "continuing_subword_prefix" || key == "end_of_word_suffix") {
        is_supported =
            value.is_null() || reader_.As<std::string_view>(value, key, "a string").empty();
      }
      if (!is_supported) {
        Throw(ErrorCode::kUnimplemented, "{}: model option {} is not supported with this value",
              source(), Quote(key));
      }
    }
    return ignore_merges;
  }

  void ReadAddedTokens(TokenizerBuilder* builder) const {
    const std::optional<element> value = reader_.GetOptional(root_, "added_tokens");
    if (!value) return;
    for (const element item : reader_.As<array>(*value, "added_tokens", "an array")) {
      const object token = reader_.As<object>(item, "an item of added_tokens", "an object");
      const auto id = reader_.Get<int64_t>(token, "id", "an integer");
      const TokenizerBuilder::Added added = reader_.ReadAddedToken(id, token);
      builder->CheckIdOfName(added);
      builder->AddAddedToken(added);
    }
  }

  // "left right" in files up to 2024, ["left", "right"] since.
  void ReadMerge(element merge, TokenizerBuilder* builder) const {
    std::string_view pair;
    if (!merge.get(pair)) return builder->AddMerge(pair);
    const array parts = reader_.As<array>(merge, "an item of model.merges", "a string or an array");
    if (parts.size() != 2) {
      Throw(ErrorCode::kCorruption, "{}: an item of model.merges has {} parts, not 2", source(),
            parts.size());
    }
    builder->AddMerge(reader_.As<std::string_view>(parts.at(0), "part of a merge", "a string"),
                      reader_.As<std::string_view>(parts.at(1), "part of a merge", "a string"));
  }

  size_t num_file_bytes_;
  JsonDocument document_;
  JsonReader reader_;
  object root_;
};

}  // namespace

std::unique_ptr<Tokenizer> Tokenizer::FromJson(std::string_view json, std::string source) {
  return JsonLoader(json, std::move(source)).Load();
}

}  // namespace baleen
