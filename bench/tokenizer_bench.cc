// bench/tokenizer_bench.cc: opening a tokenizer, encoding and decoding.
//
//   tokenizer_bench TOKENIZER_JSON TEXT_FILE [--benchmark_filter=REGEX]
//
// Encodes the text, and strings of a megabyte that pre-tokenizers leave in one piece or cut
// nowhere: those must not take more than three times as long for each byte. Rates are by CPU time.
#include <benchmark/benchmark.h>

#include <cctype>
#include <cstdio>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "tokenizer/tokenizer.h"

namespace baleen {
namespace {

constexpr size_t kTextBytes = 1000000;

std::string RandomText(std::string_view alphabet) {
  std::mt19937 random(1);
  std::string text(kTextBytes, ' ');
  for (char& byte : text) byte = alphabet[random() % alphabet.size()];
  return text;
}

std::string LettersOf(std::string_view text) {
  std::string letters;
  for (const char byte : text) {
    if (std::isalpha(static_cast<unsigned char>(byte))) letters += byte;
  }
  return letters.substr(0, kTextBytes);
}

void BenchmarkOpen(benchmark::State& state, const std::string& json) {
  for (auto _ : state) benchmark::DoNotOptimize(Tokenizer::FromJson(json, "tokenizer.json"));
}

void BenchmarkEncode(benchmark::State& state, const Tokenizer& tokenizer, const std::string& text) {
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer.Encode(text, true));
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * text.size()));
}

void BenchmarkDecode(benchmark::State& state, const Tokenizer& tokenizer, const std::string& text) {
  const std::vector<int32_t> ids = tokenizer.Encode(text, true);
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer.Decode(ids, false));
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * text.size()));
}

int Run(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (argc != 3) {
    std::fprintf(stderr, "use: tokenizer_bench TOKENIZER_JSON TEXT_FILE [--benchmark_...]\n");
    return 2;
  }
  const std::string json = ReadFile(argv[1], Tokenizer::kMaxFileBytes);
  const std::string text = ReadFile(argv[2], Tokenizer::kMaxTextBytes);
  const auto tokenizer = Tokenizer::FromJson(json, argv[1]);
  const std::vector<std::pair<const char*, std::string>> texts = {
      {"text", text},
      {"letters_of_text", LettersOf(text)},
      {"random_letters", RandomText("abcdefghijklmnopqrstuvwxyz")},
      {"random_punctuation", RandomText("!?.,;:-=+*/#")},
      {"one_letter", std::string(kTextBytes, 'a')},
      {"spaces", std::string(kTextBytes, ' ')},
  };
  benchmark::RegisterBenchmark("open", BenchmarkOpen, json)->Unit(benchmark::kMillisecond);
  for (const auto& [name, content] : texts) {
    benchmark::RegisterBenchmark((std::string("encode/") + name).c_str(),
                                 [&tokenizer, &content](benchmark::State& state) {
                                   BenchmarkEncode(state, *tokenizer, content);
                                 })
        ->Unit(benchmark::kMillisecond);
  }
  benchmark::RegisterBenchmark("decode/text", [&](benchmark::State& state) {
    BenchmarkDecode(state, *tokenizer, text);
  })->Unit(benchmark::kMillisecond);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace
}  // namespace baleen

int main(int argc, char** argv) { return baleen::Run(argc, argv); }
