// base/sha256.h: SHA-256 (FIPS 180-4), to name files by their content. Not for secrets or keys.
#ifndef BALEEN_BASE_SHA256_H_
#define BALEEN_BASE_SHA256_H_

#include <string>
#include <string_view>

namespace baleen {

// 64 lower-case hexadecimal digits.
std::string Sha256Hex(std::string_view bytes);

}  // namespace baleen

#endif  // BALEEN_BASE_SHA256_H_
