// ParseGptqConfig.
#include "formats/gptq.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  baleen::fuzz::Accepts([&] { baleen::ParseGptqConfig(baleen::fuzz::Text(data, size), "input"); });
  return 0;
}
