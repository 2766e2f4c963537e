#include "evaluation/gzip.h"

#include <zlib.h>

#include <algorithm>
#include <array>

#include "base/check.h"
#include "base/error.h"
#include "base/json.h"

namespace baleen {

namespace {

constexpr std::string_view kMagic = "\x1f\x8b";
constexpr size_t kPieceBytes = size_t{1} << 16;
// zlib counts in 32 bits: more is fed in pieces.
constexpr size_t kMaxInputBytes = size_t{1} << 30;

class Inflater {
 public:
  Inflater() { BALEEN_CHECK(inflateInit2(&stream_, 16 + MAX_WBITS) == Z_OK); }
  ~Inflater() { inflateEnd(&stream_); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  // Z_OK, Z_STREAM_END, or what is wrong. Takes what it used from `input`, adds to `output`.
  int Step(std::string_view& input, std::string& output) {
    const size_t available = std::min(input.size(), kMaxInputBytes);
    // zlib only reads there.
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(input.data()));
    stream_.avail_in = static_cast<uInt>(available);
    stream_.next_out = piece_.data();
    stream_.avail_out = static_cast<uInt>(piece_.size());
    const int status = inflate(&stream_, Z_NO_FLUSH);
    input.remove_prefix(available - stream_.avail_in);
    output.append(reinterpret_cast<const char*>(piece_.data()), piece_.size() - stream_.avail_out);
    return status;
  }
  // For the next member of the file.
  void Reset() { inflateReset(&stream_); }
  const char* message() const { return stream_.msg ? stream_.msg : "it ends too early"; }

 private:
  z_stream stream_ = {};
  std::array<Bytef, kPieceBytes> piece_;
};

}  // namespace

std::string Gunzip(std::string_view bytes, const std::string& source, size_t max_bytes) {
  Inflater inflater;
  std::string content;
  int status = Z_OK;
  for (std::string_view rest = bytes; status != Z_STREAM_END || !rest.empty();) {
    if (status == Z_STREAM_END) inflater.Reset();
    status = inflater.Step(rest, content);
    if (status != Z_OK && status != Z_STREAM_END) {
      Throw(ErrorCode::kCorruption, "{}: not a whole gzip file: {}", source, inflater.message());
    }
    if (content.size() > max_bytes) {
      Throw(ErrorCode::kCorruption, "{}: unpacked it has more than the {} bytes that it may have",
            source, max_bytes);
    }
  }
  return content;
}

std::string ReadFileOrGzip(const std::string& path, size_t max_bytes) {
  std::string bytes = ReadFile(path, max_bytes);
  return bytes.starts_with(kMagic) ? Gunzip(bytes, path, max_bytes) : bytes;
}

}  // namespace baleen
