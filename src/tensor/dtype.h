// tensor/dtype.h: element types and their conversions to and from float.
//
// Conversions of single values, inline and branch-light; rounding is to nearest even everywhere.
// Bulk conversions with wide instructions are in kernels/, the decoders of block types in blocks.h.
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
  kBool,

  // Block types of GGUF files: a row is a sequence of blocks of 32 or 256 elements with scales of
  // their own (blocks.h). Types below this line have no size for one element.
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ2_K,
  kQ3_K,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kIQ4_NL,
  kIQ4_XS
};

inline bool IsBlockType(DType dtype) { return dtype >= DType::kQ4_0; }

// Bytes of one element; of a whole block for a block type.
size_t DTypeSize(DType dtype);
// Elements that DTypeSize bytes hold: 1, or those of a block.
size_t BlockSize(DType dtype);
// Bytes of a row of `cols` elements, which must be whole blocks.
size_t RowBytes(DType dtype, size_t cols);

// The spelling of safetensors ("F32", "BF16", "F8_E4M3", ...) or, for block types, of GGUF.
const char* DTypeName(DType dtype);
// By the spelling of safetensors; never a block type, which that format does not have.
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
