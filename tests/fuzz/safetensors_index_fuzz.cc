// ParseSafetensorsIndex: no accepted name may leave the directory.
#include "formats/safetensors.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::map<std::string, std::string> weight_map;
  const auto parse = [&] {
    weight_map = baleen::ParseSafetensorsIndex(baleen::fuzz::Text(data, size), "input");
  };
  if (!baleen::fuzz::Accepts(parse)) return 0;
  BALEEN_CHECK(!weight_map.empty());
  for (const auto& [tensor, shard] : weight_map) {
    BALEEN_CHECK(shard.find_first_of(std::string("/\\\0", 3)) == std::string::npos);
    BALEEN_CHECK(!shard.starts_with('.'));
  }
  return 0;
}
