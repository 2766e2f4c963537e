#include "tensor/direct_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "base/random.h"

namespace baleen {

namespace {

struct FreeAligned {
  void operator()(std::byte* data) const {
    ::operator delete[](data, std::align_val_t{DirectFile::kAlignment});
  }
};
using AlignedBytes = std::unique_ptr<std::byte[], FreeAligned>;

AlignedBytes AllocateAligned(size_t bytes) {
  return AlignedBytes(
      static_cast<std::byte*>(::operator new[](bytes, std::align_val_t{DirectFile::kAlignment})));
}

}  // namespace

DirectFile::DirectFile(const std::string& path) : path_(path) {
  fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_DIRECT);
  if (fd_ < 0 && errno == EINVAL) {
    direct_ = false;
    fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  }
  if (fd_ < 0) Throw(ErrorCode::kNotFound, "{}: cannot be opened: {}", path, std::strerror(errno));
  struct stat status;
  if (::fstat(fd_, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(fd_);
    Throw(ErrorCode::kNotFound, "{}: not a regular file", path);
  }
  size_ = static_cast<uint64_t>(status.st_size);
  if (!direct_) return;
  // Some file systems take the flag and refuse the read.
  const AlignedBytes probe = AllocateAligned(kAlignment);
  if (::pread(fd_, probe.get(), kAlignment, 0) < 0 && errno == EINVAL) {
    direct_ = false;
    ::fcntl(fd_, F_SETFL, ::fcntl(fd_, F_GETFL) & ~O_DIRECT);
  }
}

DirectFile::~DirectFile() {
  if (fd_ >= 0) ::close(fd_);
}

DirectFile::DirectFile(DirectFile&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      size_(other.size_),
      direct_(other.direct_) {}

void DirectFile::Read(uint64_t offset, std::span<std::byte> out, size_t needed) const {
  BALEEN_CHECK(offset % kAlignment == 0 && out.size() % kAlignment == 0 && needed <= out.size());
  size_t done = 0;
  while (done < needed) {
    const ssize_t count =
        ::pread(fd_, out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      Throw(ErrorCode::kFailed, "{}: cannot be read at byte {}: {}", path_, offset + done,
            std::strerror(errno));
    }
    // A direct read that ends between two blocks has met the end of the file.
    if (count == 0 || (done + static_cast<size_t>(count)) % kAlignment != 0) {
      done += static_cast<size_t>(count);
      break;
    }
    done += static_cast<size_t>(count);
  }
  if (done < needed) {
    Throw(ErrorCode::kCorruption,
          "{}: ends at byte {}, but had {} when it was opened; was it changed or cut?", path_,
          offset + done, size_);
  }
  if (!direct_) {
    ::posix_fadvise(fd_, static_cast<off_t>(offset), static_cast<off_t>(out.size()),
                    POSIX_FADV_DONTNEED);
  }
}

namespace {

// What else the machine does can only slow a disk down: the best of such stretches counts.
constexpr double kStretchSeconds = 0.1;

// Reads of ranges in random order, handed out piece by piece.
class RandomReads {
 public:
  explicit RandomReads(std::span<const FileRange> ranges) : ranges_(ranges) {
    for (const FileRange& range : ranges) files_.try_emplace(range.path, range.path);
  }

  // Bytes read.
  size_t ReadNext(std::span<std::byte> buffer) {
    const DirectFile* file;
    uint64_t offset;
    size_t bytes;
    {
      const std::lock_guard lock(mutex_);
      if (range_ == nullptr || done_ >= range_->bytes) {
        range_ = &ranges_[random_.Below(ranges_.size())];
        done_ = 0;
      }
      file = &files_.at(range_->path);
      offset = range_->offset + done_;
      bytes = std::min(buffer.size(), range_->bytes - done_);
      done_ += bytes;
    }
    const size_t needed = std::min<uint64_t>(bytes, file->size() - std::min(offset, file->size()));
    file->Read(offset, buffer.first(bytes), needed);
    return needed;
  }

 private:
  const std::span<const FileRange> ranges_;
  std::map<std::string, DirectFile> files_;
  std::mutex mutex_;
  Random random_{1};
  const FileRange* range_ = nullptr;
  size_t done_ = 0;  // of the range
};

}  // namespace

double MeasureDirectReads(std::span<const FileRange> ranges, double seconds) {
  if (ranges.empty()) return 0;
  RandomReads reads(ranges);
  std::atomic<uint64_t> bytes = 0;
  std::atomic<bool> stop = false;
  std::exception_ptr error;
  std::mutex mutex;
  const auto read = [&] {
    try {
      const AlignedBytes buffer = AllocateAligned(kDirectReadBytes);
      while (!stop) {
        bytes += reads.ReadNext({buffer.get(), kDirectReadBytes});
      }
    } catch (...) {
      const std::lock_guard lock(mutex);
      error = std::current_exception();
    }
  };
  std::vector<std::thread> threads;
  for (size_t i = 0; i < kDirectReaders; ++i) threads.emplace_back(read);
  using Clock = std::chrono::steady_clock;
  const auto seconds_since = [](Clock::time_point begin) {
    return std::chrono::duration<double>(Clock::now() - begin).count();
  };
  double best = 0;
  for (const Clock::time_point begin = Clock::now(); seconds_since(begin) < seconds;) {
    const Clock::time_point stretch = Clock::now();
    const uint64_t before = bytes;
    std::this_thread::sleep_for(std::chrono::duration<double>(kStretchSeconds));
    best = std::max(best, static_cast<double>(bytes - before) / seconds_since(stretch) / 1e9);
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  if (error) std::rethrow_exception(error);
  return best;
}

}  // namespace baleen
