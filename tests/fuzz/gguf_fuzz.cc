// ParseGguf, and what is read from the keys afterwards. An input that does not begin with the magic
// is what follows it in a file of version 3.
#include <string>

#include "formats/gguf.h"
#include "fuzz.h"

namespace {

std::string AsFile(std::string_view input) {
  if (input.starts_with("GGUF")) return std::string(input);
  return std::string("GGUF\3\0\0\0", 8) + std::string(input);
}

void ReadKeys(const baleen::GgufMetadata& metadata) {
  for (const auto& [key, value] : metadata.entries()) {
    baleen::fuzz::Accepts([&] { metadata.Uint(key); });
    baleen::fuzz::Accepts([&] { metadata.Number(key); });
    baleen::fuzz::Accepts([&] { metadata.Strings(key); });
    baleen::fuzz::Accepts([&] { metadata.Ints(key); });
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string file = AsFile(baleen::fuzz::Text(data, size));
  const auto bytes = std::as_bytes(std::span(file.data(), file.size()));
  baleen::GgufHeader header;
  if (!baleen::fuzz::Accepts([&] { header = baleen::ParseGguf(bytes, "input"); })) return 0;
  ReadKeys(header.metadata);
  // What is accepted must be safe to read: the tensors lie in the file and do not overlap.
  size_t total = 0;
  for (const baleen::GgufHeader::Tensor& tensor : header.tensors) {
    const size_t tensor_bytes = tensor.view.size_bytes();
    BALEEN_CHECK(tensor_bytes <= bytes.size());
    BALEEN_CHECK(tensor.view.data >= bytes.data());
    BALEEN_CHECK(tensor.view.data + tensor_bytes <= bytes.data() + bytes.size());
    total += tensor_bytes;
  }
  BALEEN_CHECK(total < bytes.size());
  return 0;
}
