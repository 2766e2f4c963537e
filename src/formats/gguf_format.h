// formats/gguf_format.h: what the reader and the writer of GGUF both know. Private to this folder.
#ifndef BALEEN_FORMATS_GGUF_FORMAT_H_
#define BALEEN_FORMATS_GGUF_FORMAT_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "tensor/dtype.h"

namespace baleen {

inline constexpr uint32_t kGgufMagic = 0x46554747;  // "GGUF"
inline constexpr uint64_t kGgufAlignment = 32;      // of tensors, where the file does not say
inline constexpr size_t kMaxGgufDimensions = 4;
inline constexpr size_t kMaxGgufNameBytes = 64;

struct GgufTensorType {
  uint32_t id;
  const char* name;
  std::optional<DType> dtype;  // none: known by name only
};

inline constexpr std::array<GgufTensorType, 37> kGgufTensorTypes = {{
    {0, "F32", DType::kF32},
    {1, "F16", DType::kF16},
    {2, "Q4_0", DType::kQ4_0},
    {3, "Q4_1", DType::kQ4_1},
    {6, "Q5_0", DType::kQ5_0},
    {7, "Q5_1", DType::kQ5_1},
    {8, "Q8_0", DType::kQ8_0},
    {9, "Q8_1", {}},
    {10, "Q2_K", DType::kQ2_K},
    {11, "Q3_K", DType::kQ3_K},
    {12, "Q4_K", DType::kQ4_K},
    {13, "Q5_K", DType::kQ5_K},
    {14, "Q6_K", DType::kQ6_K},
    {15, "Q8_K", {}},
    {16, "IQ2_XXS", {}},
    {17, "IQ2_XS", {}},
    {18, "IQ3_XXS", {}},
    {19, "IQ1_S", {}},
    {20, "IQ4_NL", DType::kIQ4_NL},
    {21, "IQ3_S", {}},
    {22, "IQ2_S", {}},
    {23, "IQ4_XS", DType::kIQ4_XS},
    {24, "I8", DType::kI8},
    {25, "I16", DType::kI16},
    {26, "I32", DType::kI32},
    {27, "I64", DType::kI64},
    {28, "F64", DType::kF64},
    {29, "IQ1_M", {}},
    {30, "BF16", DType::kBF16},
    {31, "Q4_0_4_4", {}},
    {32, "Q4_0_4_8", {}},
    {33, "Q4_0_8_8", {}},
    {34, "TQ1_0", {}},
    {35, "TQ2_0", {}},
    {39, "MXFP4", {}},
    {40, "NVFP4", {}},
    {139, "IQ4_K", {}},
}};

}  // namespace baleen

#endif  // BALEEN_FORMATS_GGUF_FORMAT_H_
