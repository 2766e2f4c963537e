// base/output_file.h: a file that appears under its name only when it is whole.
//
// Until Commit the bytes are in NAME.partial, which goes away with the object. (After SIGKILL it
// stays, and the next writer of that name replaces it.) A lock keeps two processes apart.
#ifndef BALEEN_BASE_OUTPUT_FILE_H_
#define BALEEN_BASE_OUTPUT_FILE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace baleen {

// Errors of all methods: kResourceExhausted, the disk (or a quota, or a limit on the size of files)
// is full; kInvalidArgument, the file can't be created or another process is writing it; kFailed,
// the disk fails otherwise.
// Threads: WriteAt may run at the same time; else one at a time.
class OutputFile {
 public:
  explicit OutputFile(std::string path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  const std::string& path() const { return path_; }

  // Makes sure that `bytes` will fit, as far as the file system can promise that.
  void Reserve(uint64_t bytes);

  void WriteAt(uint64_t offset, std::span<const std::byte> bytes);

  // Gives the file its name, replacing an older one. With `sync`, waits for the disk first, so that
  // the file is whole even after a power cut. Nothing may be written afterwards.
  void Commit(bool sync);

 private:
  [[noreturn]] void Fail(int error_number, const char* action) const;

  std::string path_;
  std::string partial_path_;
  int fd_ = -1;
};

// Throws Error{kResourceExhausted} if fewer than `bytes` are free where `path` lies.
void RequireDiskSpace(const std::string& path, uint64_t bytes);

// Writes a small file, whole or not at all.
void WriteFile(const std::string& path, std::string_view content);

}  // namespace baleen

#endif  // BALEEN_BASE_OUTPUT_FILE_H_
