// ParseSafetensors. An input that begins with '{' is a header and its data, to which the length is
// put in front, so that the mutator need not keep the length right; any other is a file as it is.
#include "formats/safetensors.h"
#include "fuzz.h"

namespace {

using baleen::SafetensorsHeader;

std::string AsFile(std::string_view input) {
  if (!input.starts_with('{')) return std::string(input);
  const size_t header_size =
      input.rfind('}') == std::string_view::npos ? input.size() : input.rfind('}') + 1;
  std::string file;
  for (size_t i = 0; i < 8; ++i) file.push_back(static_cast<char>(header_size >> (8 * i)));
  file += input;
  return file;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string file = AsFile(baleen::fuzz::Text(data, size));
  const auto bytes = std::as_bytes(std::span(file.data(), file.size()));
  SafetensorsHeader header;
  if (!baleen::fuzz::Accepts([&] { header = baleen::ParseSafetensors(bytes, "input"); })) return 0;
  // What is accepted must be safe to read: the tensors lie in the file and fill it.
  size_t total = 0;
  for (const SafetensorsHeader::Tensor& tensor : header.tensors) {
    const size_t tensor_bytes = tensor.view.size_bytes();
    BALEEN_CHECK(tensor.view.data >= bytes.data());
    BALEEN_CHECK(tensor.view.data + tensor_bytes <= bytes.data() + bytes.size());
    total += tensor_bytes;
  }
  BALEEN_CHECK(header.tensors.empty() || total < bytes.size());
  return 0;
}
