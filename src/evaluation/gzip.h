// evaluation/gzip.h: data sets as they are published, often packed.
#ifndef BALEEN_EVALUATION_GZIP_H_
#define BALEEN_EVALUATION_GZIP_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace baleen {

// The content of a gzip file (RFC 1952), of all its members. `source` names it in errors.
// Errors: kCorruption, bytes that are not such a file, are cut short or fail their checksum, or a
// content of more than `max_bytes`, of which no more is unpacked.
std::string Gunzip(std::string_view bytes, const std::string& source, size_t max_bytes);

// Reads a file, and unpacks it if it begins as a gzip file does. Errors: also those of ReadFile.
std::string ReadFileOrGzip(const std::string& path, size_t max_bytes);

}  // namespace baleen

#endif  // BALEEN_EVALUATION_GZIP_H_
