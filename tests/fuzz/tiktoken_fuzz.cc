// Tokenizer::FromTiktoken: ranks, a NUL byte, tokenizer_config.json.
#include "fuzz.h"
#include "tokenizer/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input = baleen::fuzz::Text(data, size);
  const size_t end = std::min(input.find('\0'), input.size());
  const std::string_view config = end < input.size() ? input.substr(end + 1) : "{}";
  std::unique_ptr<baleen::Tokenizer> tokenizer;
  const auto parse = [&] {
    tokenizer = baleen::Tokenizer::FromTiktoken(input.substr(0, end), config, "input");
  };
  if (baleen::fuzz::Accepts(parse)) tokenizer->Encode("Hello \xff", true);
  return 0;
}
