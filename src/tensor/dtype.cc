#include "tensor/dtype.h"

#include <array>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace baleen {

namespace {

struct DTypeInfo {
  const char* name;
  size_t size;
  size_t block_size = 1;
};

constexpr std::array<DTypeInfo, 24> kInfo = {{
    {"F64", 8},         {"F32", 4},         {"F16", 2},         {"BF16", 2},
    {"F8_E4M3", 1},     {"F8_E8M0", 1},     {"I64", 8},         {"I32", 4},
    {"I16", 2},         {"I8", 1},          {"U8", 1},          {"BOOL", 1},
    {"Q4_0", 18, 32},   {"Q4_1", 20, 32},   {"Q5_0", 22, 32},   {"Q5_1", 24, 32},
    {"Q8_0", 34, 32},   {"Q2_K", 84, 256},  {"Q3_K", 110, 256}, {"Q4_K", 144, 256},
    {"Q5_K", 176, 256}, {"Q6_K", 210, 256}, {"IQ4_NL", 18, 32}, {"IQ4_XS", 136, 256},
}};

}  // namespace

size_t DTypeSize(DType dtype) { return kInfo[static_cast<size_t>(dtype)].size; }

size_t BlockSize(DType dtype) { return kInfo[static_cast<size_t>(dtype)].block_size; }

size_t RowBytes(DType dtype, size_t cols) {
  const DTypeInfo& info = kInfo[static_cast<size_t>(dtype)];
  return cols / info.block_size * info.size;
}

const char* DTypeName(DType dtype) { return kInfo[static_cast<size_t>(dtype)].name; }

std::optional<DType> DTypeFromName(std::string_view name) {
  for (size_t i = 0; i < kInfo.size(); ++i) {
    const auto dtype = static_cast<DType>(i);
    if (name == kInfo[i].name && !IsBlockType(dtype)) return dtype;
  }
  return std::nullopt;
}

float F16ToF32(uint16_t bits) {
  const uint32_t sign = uint32_t{bits & 0x8000u} << 16;
  const uint32_t exponent = (bits >> 10) & 0x1fu;
  const uint32_t mantissa = bits & 0x3ffu;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent == 0) {  // zero and subnormals: mantissa * 2^-24, exact in F32
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

uint16_t F32ToF16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return sign | 0x7e00u;
  if (magnitude >= 0x477ff000u) return sign | 0x7c00u;  // rounds to 65536 or more: infinity
  if (magnitude < 0x38800000u) {                        // below 2^-14: a multiple of 2^-24
    const float scaled = std::nearbyint(std::bit_cast<float>(magnitude) * 0x1p24f);
    return sign | static_cast<uint16_t>(scaled);
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return sign | static_cast<uint16_t>((rounded - 0x38000000u) >> 13);
}

float F8E4M3ToF32(uint8_t bits) {
  const int exponent = (bits >> 3) & 0xf;
  const int mantissa = bits & 7;
  if ((bits & 0x7f) == 0x7f) return std::numeric_limits<float>::quiet_NaN();
  const float magnitude = exponent == 0
                              ? static_cast<float>(mantissa) * 0x1p-9f
                              : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  return bits & 0x80 ? -magnitude : magnitude;
}

uint8_t F32ToF8E4M3(float value) {
  const uint8_t sign = std::signbit(value) ? 0x80 : 0;
  if (std::isnan(value)) return sign | 0x7f;
  const float magnitude = std::fabs(value);
  if (magnitude >= 448.0f) return sign | 0x7e;
  // The spacing of representable values around `magnitude`; rounding to it is exact in F32.
  const int exponent = magnitude < 0x1p-6f ? -6 : std::ilogb(magnitude);
  const float steps = std::nearbyint(std::ldexp(magnitude, 3 - exponent));  // 0..16
  // steps 8..15 at `exponent` have code (exponent + 7) * 8 + steps - 8; subnormals and the carry to
  // 16 fall into place with the same formula.
  const int code = (exponent + 6) * 8 + static_cast<int>(steps);
  return sign | static_cast<uint8_t>(code > 0x7e ? 0x7e : code);
}

float F8E8M0ToF32(uint8_t bits) {
  if (bits == 0xff) return std::numeric_limits<float>::quiet_NaN();
  return std::ldexp(1.0f, static_cast<int>(bits) - 127);
}

}  // namespace baleen
