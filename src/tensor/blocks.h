// tensor/blocks.h: the block types of GGUF files: all are decoded, two of them encoded.
//
// A block is a run of 32 or 256 elements of one row: small whole numbers, and scales (F16, for 256
// elements also 4 to 8 bits for each sub-block) that turn them into numbers. Layouts byte by byte:
// docs/formats/gguf.md. Each product and sum is rounded to F32 in the order of the `gguf` package,
// so the results are its bits (tests/golden/gguf_blocks.safetensors).
//
// Sources: ggml-org/llama.cpp, ggml/src/ggml-common.h and gguf-py/gguf/quants.py.
#ifndef BALEEN_TENSOR_BLOCKS_H_
#define BALEEN_TENSOR_BLOCKS_H_

#include <cstddef>

#include "tensor/dtype.h"

namespace baleen {

// The largest BlockSize.
inline constexpr size_t kMaxBlockSize = 256;

// Decodes `count` elements, whole blocks of a block type, to out[0, count).
void DecodeBlocks(DType dtype, const std::byte* data, size_t count, float* out);

// Encodes `count` finite values, whole blocks, as kQ8_0 or kQ4_0 (no other), rounded to nearest as
// the quantizer of the `gguf` package does it: its bytes, but for blocks whose largest value is
// subnormal, which become zeros (there 1 / d is infinite). A scale beyond F16 becomes infinite.
void EncodeBlocks(DType dtype, const float* values, size_t count, std::byte* out);

}  // namespace baleen

#endif  // BALEEN_TENSOR_BLOCKS_H_
