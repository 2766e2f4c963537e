#include "cli/flags.h"

#include <charconv>
#include <cmath>
#include <optional>

#include "base/error.h"
#include "base/quote.h"

namespace baleen {

namespace {

// Beyond this a double no longer counts bytes exactly; no machine has so many.
constexpr double kMaxByteCount = 0x1p53;

std::string_view Trim(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  const size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return "";
  return text.substr(begin, text.find_last_not_of(kBlanks) - begin + 1);
}

Precision ParsePrecision(std::string_view text) {
  if (text == "auto") return Precision::kAuto;
  if (text == "f32") return Precision::kF32;
  if (text == "bf16") return Precision::kBf16;
  Throw(ErrorCode::kInvalidArgument, "--precision {}: not one of f32, bf16, auto", Quote(text));
}

CacheDType ParseCacheDType(std::string_view text) {
  if (text.empty()) return CacheDType::kAuto;
  if (text == "f32") return CacheDType::kF32;
  if (text == "bf16") return CacheDType::kBf16;
  if (text == "int8") return CacheDType::kInt8;
  Throw(ErrorCode::kInvalidArgument, "--cache-dtype {}: not one of f32, bf16, int8", Quote(text));
}

// What the letters after a number multiply it by.
std::optional<double> UnitFactor(std::string_view unit) {
  double factor = 1;
  if (!unit.empty()) {
    constexpr std::string_view kLetters = "KMGT";
    const size_t power = kLetters.find(static_cast<char>(unit[0] & ~0x20));
    if (power != std::string_view::npos) {
      factor = std::pow(1024.0, static_cast<double>(power + 1));
      unit.remove_prefix(1);
    }
  }
  if (unit.empty() || unit == "B" || (factor > 1 && unit == "iB")) return factor;
  return std::nullopt;
}

}  // namespace

void EngineFlags::AddTo(Verb verb, const std::string& or_else) {
  const std::string help =
      "Directory, weights file, or hub id in the local Hugging Face cache" + or_else;
  Flag model = verb.Add("MODEL", model_, help.c_str());
  if (or_else.empty()) model.Required();
  verb.Add("--threads", num_threads_, "Compute threads; default: one for each core")
      .Type("N")
      .Range(1, 1024);
  verb.Add("--isa", isa_, "Instruction set to use, or refuse; baleen doctor lists them")
      .Type("NAME");
  verb.Add("--precision", precision_, "Arithmetic: f32, bf16 or auto (weights as stored)")
      .Type("NAME");
  verb.Add("--cache-dtype", cache_dtype_,
           "Latent cache: f32, bf16 or int8; default: f32 with --precision f32, else bf16")
      .Type("NAME");
  verb.Add("--memory-limit", memory_limit_,
           "For weights, cache and all else, such as 24G; experts beyond it stay on disk; default: "
           "what is free")
      .Type("BYTES");
}

EngineOptions EngineFlags::ToOptions() const {
  EngineOptions options;
  options.num_threads = num_threads_;
  options.isa = isa_;
  options.precision = ParsePrecision(precision_);
  options.cache_dtype = ParseCacheDType(cache_dtype_);
  if (!memory_limit_.empty()) {
    options.memory_limit_bytes = ParseByteCount("--memory-limit", memory_limit_);
  }
  return options;
}

uint64_t ParseByteCount(std::string_view flag, std::string_view text) {
  const std::string_view trimmed = Trim(text);
  double number = 0;
  const char* end = trimmed.data() + trimmed.size();
  const auto [rest, error] = std::from_chars(trimmed.data(), end, number);
  const auto factor = UnitFactor(Trim({rest, static_cast<size_t>(end - rest)}));
  if (error != std::errc() || !factor || !(number > 0) || number * *factor > kMaxByteCount) {
    Throw(ErrorCode::kInvalidArgument, "{} {}: not a number of bytes such as 24G or 1500M", flag,
          Quote(text));
  }
  return static_cast<uint64_t>(number * *factor);
}

std::vector<int32_t> ParseTokenIds(std::string_view flag, std::string_view text) {
  std::vector<int32_t> ids;
  while (true) {
    const size_t comma = text.find(',');
    const std::string_view item = Trim(text.substr(0, comma));
    int32_t id = 0;
    const auto [rest, error] = std::from_chars(item.data(), item.data() + item.size(), id);
    if (error != std::errc() || rest != item.data() + item.size() || id < 0) {
      Throw(ErrorCode::kInvalidArgument, "{}: {} is not a token id; give numbers such as 1,2,3",
            flag, Quote(item));
    }
    ids.push_back(id);
    if (comma == std::string_view::npos) return ids;
    text.remove_prefix(comma + 1);
  }
}

}  // namespace baleen
