#include "base/output_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <limits>
#include <utility>

#include "base/check.h"
#include "base/error.h"

namespace baleen {

OutputFile::OutputFile(std::string path)
    : path_(std::move(path)), partial_path_(path_ + ".partial") {
  const int fd = ::open(partial_path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) {
    Throw(ErrorCode::kInvalidArgument, "{}: cannot be created: {}", path_, std::strerror(errno));
  }
  // A file system without locks is used without them.
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    ::close(fd);
    Throw(ErrorCode::kInvalidArgument, "{}: another process is writing this file", path_);
  }
  if (::ftruncate(fd, 0) != 0) {  // what a killed process left
    const int error = errno;
    ::close(fd);
    Fail(error, "creating");
  }
  fd_ = fd;
}

OutputFile::~OutputFile() {
  if (fd_ < 0) return;
  ::unlink(partial_path_.c_str());  // while the lock is held
  ::close(fd_);
}

void OutputFile::Fail(int error_number, const char* action) const {
  const bool full = error_number == ENOSPC || error_number == EDQUOT || error_number == EFBIG;
  Throw(full ? ErrorCode::kResourceExhausted : ErrorCode::kFailed, "{}: {} failed: {}", path_,
        action, std::strerror(error_number));
}

void OutputFile::Reserve(uint64_t bytes) {
  RequireDiskSpace(path_, bytes);
  if (bytes == 0) return;
  if (::fallocate(fd_, 0, 0, static_cast<off_t>(bytes)) == 0) return;
  if (errno != EOPNOTSUPP) Fail(errno, "reserving space");
}

void OutputFile::WriteAt(uint64_t offset, std::span<const std::byte> bytes) {
  BALEEN_CHECK(fd_ >= 0);
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0) {
      if (errno == EINTR) continue;
      Fail(errno, "writing");
    }
    bytes = bytes.subspan(static_cast<size_t>(written));
    offset += static_cast<uint64_t>(written);
  }
}

void OutputFile::Commit(bool sync) {
  BALEEN_CHECK(fd_ >= 0);
  if (sync && ::fdatasync(fd_) != 0) Fail(errno, "writing");
  if (::rename(partial_path_.c_str(), path_.c_str()) != 0) Fail(errno, "renaming");
  ::close(fd_);
  fd_ = -1;
}

void RequireDiskSpace(const std::string& path, uint64_t bytes) {
  const std::filesystem::path directory = std::filesystem::path(path).parent_path();
  struct statvfs status;
  // Where the file system does not tell, writing will.
  if (::statvfs(directory.empty() ? "." : directory.c_str(), &status) != 0) return;
  const uint64_t available = uint64_t{status.f_bavail} * status.f_frsize;
  if (bytes <= available && bytes <= std::numeric_limits<off_t>::max()) return;
  Throw(ErrorCode::kResourceExhausted, "{}: needs {} bytes of disk, {} are free", path, bytes,
        available);
}

void WriteFile(const std::string& path, std::string_view content) {
  OutputFile file(path);
  file.WriteAt(0, std::as_bytes(std::span(content.data(), content.size())));
  file.Commit(/*sync=*/true);
}

}  // namespace baleen
