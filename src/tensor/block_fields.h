// tensor/block_fields.h: how the fields of GGUF's blocks are read; for blocks.cc and
// block_tiles.cc.
#ifndef BALEEN_TENSOR_BLOCK_FIELDS_H_
#define BALEEN_TENSOR_BLOCK_FIELDS_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "tensor/dtype.h"

namespace baleen {

// The fields of one block, by offset in bytes.
class Block {
 public:
  explicit Block(const std::byte* data) : data_(data) {}

  int U8(size_t i) const { return std::to_integer<int>(data_[i]); }
  int I8(size_t i) const { return static_cast<int8_t>(data_[i]); }
  int Low(size_t i) const { return U8(i) & 15; }
  int High(size_t i) const { return U8(i) >> 4; }
  // Four bits: the low ones of byte i for an even `half`, else the high ones.
  int Nibble(size_t i, size_t half) const { return half % 2 == 0 ? Low(i) : High(i); }
  // Two bits, `place` 0..3 from the lowest.
  int Pair(size_t i, size_t place) const { return (U8(i) >> (2 * place)) & 3; }
  int Bit(size_t i, size_t place) const { return (U8(i) >> place) & 1; }
  template <size_t kN>
  void Copy(size_t i, uint8_t (&bytes)[kN]) const {
    std::memcpy(bytes, data_ + i, kN);
  }
  uint16_t F16Bits(size_t i) const {
    uint16_t bits;
    std::memcpy(&bits, data_ + i, sizeof(bits));
    return bits;
  }
  float F16(size_t i) const { return F16ToF32(F16Bits(i)); }

 private:
  const std::byte* data_;
};

// Q4_K and Q5_K: six bits of scale and of minimum for each of eight sub-blocks, in twelve bytes.
struct SubBlock {
  int scale, min;
};
inline SubBlock SubBlockOf(const Block& b, size_t scales, size_t j) {
  if (j < 4) return {b.U8(scales + j) & 63, b.U8(scales + 4 + j) & 63};
  return {b.Low(scales + 4 + j) | (b.U8(scales + j - 4) >> 6) << 4,
          b.High(scales + 4 + j) | (b.U8(scales + j) >> 6) << 4};
}

}  // namespace baleen

#endif  // BALEEN_TENSOR_BLOCK_FIELDS_H_
