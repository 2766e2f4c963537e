#include "checkpoint/tile_cache.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <mutex>
#include <optional>
#include <thread>

#include "base/error.h"
#include "base/machine.h"
#include "base/output_file.h"
#include "tensor/mapped_file.h"

namespace baleen {

namespace {

namespace fs = std::filesystem;

// A page; the tiles begin behind it. Changes with every change of the layout of tiles.
constexpr size_t kHeaderBytes = 4096;
constexpr std::array<char, 8> kMagic = {'B', 'A', 'L', 'T', 'I', 'L', 'E', '2'};
// Of the model's name in the name of its file.
constexpr size_t kMaxNameBytes = 64;
// Tiles that a thread makes before it writes them.
constexpr size_t kPieceBytes = size_t{1} << 20;

struct Header {
  std::array<char, 8> magic;
  uint64_t file_bytes;
  uint64_t content;  // hash of everything that decides what the tiles are
};

// FNV-1a.
class Hash {
 public:
  Hash& Add(std::string_view text) {
    for (const char c : text) state_ = (state_ ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    return *this;
  }
  Hash& Add(uint64_t number) {
    char bytes[sizeof(number)];
    std::memcpy(bytes, &number, sizeof(number));
    return Add(std::string_view(bytes, sizeof(bytes)));
  }
  uint64_t value() const { return state_; }

 private:
  uint64_t state_ = 0xcbf29ce484222325;
};

// Consecutive tiles of one job.
struct Piece {
  size_t job;
  size_t first_tile, num_tiles;
  uint64_t offset;  // in the tiles of all jobs
};

struct Plan {
  std::vector<Piece> pieces;
  std::vector<uint64_t> offsets;  // of each job
  uint64_t bytes = 0;
};

Plan MakePlan(std::span<const TileJob> jobs) {
  Plan plan;
  for (size_t j = 0; j < jobs.size(); ++j) {
    const size_t tile_bytes = jobs[j].layout.tile_bytes();
    const size_t num_tiles = (jobs[j].rows + kTileRows - 1) / kTileRows;
    const size_t in_piece = std::max<size_t>(1, kPieceBytes / tile_bytes);
    plan.offsets.push_back(plan.bytes);
    for (size_t t = 0; t < num_tiles; t += in_piece) {
      plan.pieces.push_back({j, t, std::min(in_piece, num_tiles - t), plan.bytes + t * tile_bytes});
    }
    plan.bytes += num_tiles * tile_bytes;
  }
  return plan;
}

uint64_t ContentHash(std::span<const TileJob> jobs, const TileCacheOptions& options) {
  Hash hash;
  hash.Add(options.state);
  for (const TileJob& job : jobs) {
    hash.Add(job.rows).Add(job.layout.cols).Add(job.layout.bits).Add(job.layout.group_cols);
    hash.Add(job.layout.has_zeros).Add(job.layout.has_mins).Add(job.layout.has_table);
    hash.Add(job.layout.super_cols);
  }
  return hash.value();
}

// What a thread keeps from piece to piece.
struct Scratch {
  TileRowBuffers rows;
  std::vector<std::byte> tiles;  // on their way to a file
};

// Makes the tiles of one piece at `out`.
void MakePiece(const TileJob& job, const Piece& piece, Scratch& scratch, std::byte* out) {
  const TileLayout& layout = job.layout;
  scratch.rows.Resize(layout, kTileRows);
  for (size_t t = 0; t < piece.num_tiles; ++t) {
    const size_t row = (piece.first_tile + t) * kTileRows;
    const size_t num_rows = std::min(kTileRows, job.rows - row);
    job.unpack(row, num_rows, scratch.rows);
    PackTile(layout, scratch.rows.View(num_rows), out + t * layout.tile_bytes());
  }
}

// Gives the pages back that lie within; only for mapped files, whose content comes back.
void ReleasePages(std::span<const std::byte> bytes) {
  constexpr uintptr_t kPage = 4096;
  const auto begin = (reinterpret_cast<uintptr_t>(bytes.data()) + kPage - 1) / kPage * kPage;
  const auto end = reinterpret_cast<uintptr_t>(bytes.data() + bytes.size()) / kPage * kPage;
  // A refusal costs memory, not correctness.
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

// Calls make(piece, the thread's scratch) for all pieces on all threads.
template <typename Make>
void ForAllPieces(std::span<const TileJob> jobs, const Plan& plan, size_t num_threads,
                  const Make& make) {
  std::atomic<size_t> next = 0;
  std::vector<std::atomic<size_t>> left(jobs.size());
  for (const Piece& piece : plan.pieces) ++left[piece.job];
  std::mutex mutex;
  std::exception_ptr error;
  const auto work = [&] {
    Scratch scratch;
    for (size_t i = next++; i < plan.pieces.size(); i = next++) {
      const Piece& piece = plan.pieces[i];
      try {
        make(piece, scratch);
      } catch (...) {
        std::lock_guard lock(mutex);
        if (!error) error = std::current_exception();
        next = plan.pieces.size();
        return;
      }
      if (--left[piece.job] == 0) {
        for (const auto& source : jobs[piece.job].mapped_sources) ReleasePages(source);
      }
    }
  };
  std::vector<std::thread> threads;
  for (size_t i = 1; i < num_threads; ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  if (error) std::rethrow_exception(error);
}

// Anonymous memory, in huge pages where the system has them.
std::shared_ptr<std::byte> Allocate(uint64_t bytes) {
  const uint64_t available = AvailableMemoryBytes();
  void* data = bytes > available ? MAP_FAILED
                                 : ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) {
    Throw(ErrorCode::kResourceExhausted,
          "repacking the weights takes {:.1f} GB of memory, {:.1f} GB are free; make the cache "
          "directory writable or give it more disk",
          static_cast<double>(bytes) / 1e9, static_cast<double>(available) / 1e9);
  }
  ::madvise(data, bytes, MADV_HUGEPAGE);
  return {static_cast<std::byte*>(data), [bytes](std::byte* p) { ::munmap(p, bytes); }};
}

std::shared_ptr<std::byte> RepackIntoMemory(std::span<const TileJob> jobs, const Plan& plan,
                                            size_t num_threads) {
  std::shared_ptr<std::byte> memory = Allocate(std::max<uint64_t>(plan.bytes, 1));
  ForAllPieces(jobs, plan, num_threads, [&](const Piece& piece, Scratch& scratch) {
    MakePiece(jobs[piece.job], piece, scratch, memory.get() + piece.offset);
  });
  return memory;
}

void RepackIntoFile(std::span<const TileJob> jobs, const Plan& plan, size_t num_threads,
                    const Header& header, const std::string& path) {
  OutputFile file(path);
  file.Reserve(header.file_bytes);
  ForAllPieces(jobs, plan, num_threads, [&](const Piece& piece, Scratch& scratch) {
    scratch.tiles.resize(piece.num_tiles * jobs[piece.job].layout.tile_bytes());
    MakePiece(jobs[piece.job], piece, scratch, scratch.tiles.data());
    file.WriteAt(kHeaderBytes + piece.offset, scratch.tiles);
  });
  file.WriteAt(0, std::as_bytes(std::span(&header, 1)));
  file.Commit(/*sync=*/false);
}

// The mapped file, if it is what `header` says.
std::shared_ptr<const MappedFile> Find(const std::string& path, const Header& header) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return nullptr;
  auto file = std::make_shared<const MappedFile>(path);
  const auto bytes = file->bytes();
  if (bytes.size() != header.file_bytes) return nullptr;
  return std::memcmp(bytes.data(), &header, sizeof(header)) == 0 ? file : nullptr;
}

std::optional<fs::path> CacheDirectory(const TileCacheOptions& options) {
  if (!options.directory.empty()) return options.directory;
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache == '/') {
    return fs::path(cache) / "baleen";
  }
  if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/') {
    return fs::path(home) / ".cache/baleen";
  }
  return std::nullopt;
}

// What older states of the model have left.
void RemoveOthers(const fs::path& file, const std::string& prefix) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(file.parent_path(), ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(prefix) && name.ends_with(".tiles") && entry.path() != file) {
      fs::remove(entry.path(), ignored);
    }
  }
}

// Maps the cache file, after writing it if need be; null when that cannot be.
std::shared_ptr<const MappedFile> FromFile(std::span<const TileJob> jobs, const Plan& plan,
                                           const TileCacheOptions& options, bool& created) {
  const auto directory = CacheDirectory(options);
  if (!directory) return nullptr;
  const uint64_t content = ContentHash(jobs, options);
  const Header header = {
      .magic = kMagic, .file_bytes = kHeaderBytes + plan.bytes, .content = content};
  const std::string prefix =
      fmt::format("{}-{:016x}-", fs::path(options.model).stem().string().substr(0, kMaxNameBytes),
                  Hash().Add(options.model).value());
  const fs::path path = *directory / fmt::format("{}{:016x}.tiles", prefix, content);
  if (auto found = Find(path, header)) return found;
  std::error_code failed;
  if (fs::create_directories(*directory, failed)) {
    fs::permissions(*directory, fs::perms::owner_all, failed);
  }
  try {
    RemoveOthers(path, prefix);
    RepackIntoFile(jobs, plan, options.num_threads, header, path);
  } catch (const Error& error) {
    // No place, no right to write, or another process is at it: then in memory.
    if (error.code() != ErrorCode::kResourceExhausted &&
        error.code() != ErrorCode::kInvalidArgument && error.code() != ErrorCode::kFailed) {
      throw;
    }
    return nullptr;
  }
  created = true;
  return Find(path, header);
}

}  // namespace

std::string FileState(const std::string& path) {
  struct stat status;
  if (::stat(path.c_str(), &status) != 0) return path;
  return fmt::format("{} {} {}.{:09}\n", path, status.st_size, status.st_mtim.tv_sec,
                     status.st_mtim.tv_nsec);
}

RepackedTiles RepackTiles(std::span<const TileJob> jobs, const TileCacheOptions& options) {
  const Plan plan = MakePlan(jobs);
  RepackedTiles result = {.bytes = plan.bytes};
  if (jobs.empty()) return result;
  const std::byte* tiles = nullptr;
  if (plan.bytes >= options.min_file_bytes) {
    if (auto file = FromFile(jobs, plan, options, result.created)) {
      tiles = file->bytes().data() + kHeaderBytes;
      result.file = file;
      result.memory = std::move(file);
    }
  }
  if (tiles == nullptr) {
    auto memory = RepackIntoMemory(jobs, plan, options.num_threads);
    tiles = memory.get();
    result.memory = std::move(memory);
  }
  for (size_t j = 0; j < jobs.size(); ++j) {
    for (Matrix* target : jobs[j].targets) {
      target->data = tiles + plan.offsets[j];
      target->tiles = jobs[j].layout;
    }
  }
  return result;
}

}  // namespace baleen
