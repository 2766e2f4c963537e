// tensor/direct_file.h: a file that is read around the page cache.
#ifndef BALEEN_TENSOR_DIRECT_FILE_H_
#define BALEEN_TENSOR_DIRECT_FILE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace baleen {

// Reads with O_DIRECT: what is read lies in the caller's memory only. Where the file system knows
// no such reads (tmpfs), they go through the page cache, which is then asked to forget the pages.
// Movable. Threads: any may read.
class DirectFile {
 public:
  // Of offsets, lengths and memory: no less than any disk asks for.
  static constexpr size_t kAlignment = 4096;

  // Error{kNotFound}: cannot be opened.
  explicit DirectFile(const std::string& path);
  ~DirectFile();
  DirectFile(DirectFile&& other) noexcept;
  DirectFile& operator=(DirectFile&& other) = delete;

  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }  // when it was opened
  bool is_direct() const { return direct_; }

  // Fills `out` from `offset` on; all three are aligned. The file may end inside, but not before
  // `needed` bytes. Errors: kFailed, the disk cannot read; kCorruption, the file has become
  // shorter.
  void Read(uint64_t offset, std::span<std::byte> out, size_t needed) const;

 private:
  std::string path_;
  int fd_ = -1;
  uint64_t size_ = 0;
  bool direct_ = true;
};

// How direct reads are split, and how many are under way together: enough for the disk to be busy.
inline constexpr size_t kDirectReadBytes = size_t{1} << 20;
inline constexpr size_t kDirectReaders = 8;

// Bytes of a file; all numbers are multiples of kAlignment, and the end may be behind the file's.
struct FileRange {
  std::string path;
  uint64_t offset = 0;
  size_t bytes = 0;
};

// GB/s of direct reads of these ranges, in random order, the best tenth of a second of `seconds`;
// 0 without any. Errors: as DirectFile.
double MeasureDirectReads(std::span<const FileRange> ranges, double seconds);

}  // namespace baleen

#endif  // BALEEN_TENSOR_DIRECT_FILE_H_
