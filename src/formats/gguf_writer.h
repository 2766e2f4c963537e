// formats/gguf_writer.h: writes GGUF files of version 3.
//
// Keys and the names, types and shapes of all tensors come first, data follows in pieces and in any
// order, so a model larger than memory can be written. The space is reserved at the start: a disk
// that is too small is found before hours of work, not after. The file appears under its name only
// when it is whole (base/output_file.h).
#ifndef BALEEN_FORMATS_GGUF_WRITER_H_
#define BALEEN_FORMATS_GGUF_WRITER_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/output_file.h"
#include "formats/gguf.h"
#include "formats/tensor_spec.h"

namespace baleen {

// The keys of a file, in the order in which they are added. No key may be added twice.
class GgufKeys {
 public:
  void AddUint(std::string_view key, uint32_t value);
  void AddFloat(std::string_view key, float value);
  void AddBool(std::string_view key, bool value);
  void AddString(std::string_view key, std::string_view value);
  void AddStrings(std::string_view key, std::span<const std::string> values);
  void AddInts(std::string_view key, std::span<const int32_t> values);

  uint64_t count() const { return count_; }
  const std::string& bytes() const { return bytes_; }

 private:
  void AddKey(std::string_view key, GgufType type);

  uint64_t count_ = 0;
  std::string bytes_;  // as in the file
};

class GgufWriter {
 public:
  // Names are unique, of 1 to 64 bytes; shapes have one to four dimensions, none 0. The tensors lie
  // in the file in this order. With `sync`, Finish waits for the disk.
  // Errors: those of OutputFile, here and below.
  GgufWriter(std::string path, const GgufKeys& keys, const std::vector<TensorSpec>& tensors,
             bool sync = true);

  // Bytes of the tensor at that index from `offset` on. Every byte of every tensor must be written,
  // once. Threads: may run at the same time.
  void Write(size_t tensor, uint64_t offset, std::span<const std::byte> bytes);

  // Gives the file its name, replacing an older one.
  void Finish();

  uint64_t file_bytes() const { return file_bytes_; }

 private:
  struct Region {
    uint64_t begin, size;
  };

  OutputFile file_;
  bool sync_;
  std::vector<Region> regions_;
  uint64_t file_bytes_ = 0;
  uint64_t tensor_bytes_ = 0;
  std::atomic<uint64_t> written_bytes_ = 0;
};

}  // namespace baleen

#endif  // BALEEN_FORMATS_GGUF_WRITER_H_
