// Tokenizer::FromJson; a tokenizer that is accepted must also encode and decode.
#include "fuzz.h"
#include "tokenizer/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::unique_ptr<baleen::Tokenizer> tokenizer;
  const auto parse = [&] {
    tokenizer = baleen::Tokenizer::FromJson(baleen::fuzz::Text(data, size), "input");
  };
  if (!baleen::fuzz::Accepts(parse)) return 0;
  const std::string text = "Hello, \xe4\xb8\x96\xe7\x95\x8c 12345\r\n\xff don't";
  for (const bool parse_special : {false, true}) {
    const std::vector<int32_t> ids = tokenizer->Encode(text, parse_special);
    for (const int32_t id : ids) BALEEN_CHECK(id >= 0 && id < tokenizer->vocab_size());
    tokenizer->Decode(ids, false);
  }
  return 0;
}
