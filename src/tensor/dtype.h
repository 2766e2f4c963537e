// tensor/dtype.h: element types and their conversions to and from float.
//
// Conversions of single values, inline and branch-light; rounding is to nearest even everywhere.
// Bulk conversions with wide instructions are in kernels/.
#ifndef BALEEN_TENSOR_DTYPE_H_
#define BALEEN_TENSOR_DTYPE_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace baleen {

enum class DType : uint8_t {
  kF64,
  kF32,
  kF16,
  kBF16,
  kF8E4M3,
  kF8E8M0,
  kI64,
  kI32,
  kI16,
  kI8,
  kU8,
  kBool
};

// Bytes of one element.
size_t DTypeSize(DType dtype);

// The safetensors spelling: "F32", "BF16", "F8_E4M3", ...
const char* DTypeName(DType dtype);
std::optional<DType> DTypeFromName(std::string_view name);

inline float Bf16ToF32(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

// Nearest even; NaN stays NaN (quiet).
inline uint16_t F32ToBf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

float F16ToF32(uint16_t bits);
uint16_t F32ToF16(float value);

// e4m3fn: no infinities, 0x7f and 0xff are NaN, largest value 448 (spec: README_WEIGHTS of V3).
float F8E4M3ToF32(uint8_t bits);
// Saturates to +-448; NaN stays NaN.
uint8_t F32ToF8E4M3(float value);

// 2^(byte - 127); 0xff is NaN.
float F8E8M0ToF32(uint8_t bits);

}  // namespace baleen

#endif  // BALEEN_TENSOR_DTYPE_H_
