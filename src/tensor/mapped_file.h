// tensor/mapped_file.h: a file mapped read-only.
#ifndef BALEEN_TENSOR_MAPPED_FILE_H_
#define BALEEN_TENSOR_MAPPED_FILE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace baleen {

// Bytes in a file.
struct FilePlace {
  std::string path;
  uint64_t offset = 0;
};

// Owns the mapping; movable. Pages load on first use. A file of zero bytes maps to an empty span.
// Errors: kNotFound, the file can't be opened; kResourceExhausted, the address space is used up.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }
  // Where in the file `data` is; nothing if it is not of the mapping.
  std::optional<FilePlace> PlaceOf(const std::byte* data) const;

 private:
  std::string path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace baleen

#endif  // BALEEN_TENSOR_MAPPED_FILE_H_
