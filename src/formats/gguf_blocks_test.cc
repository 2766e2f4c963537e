// The decoders of block types (tensor/blocks.h), bit for bit those of the `gguf` package. The test
// is here because the golden file is a safetensors file.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "formats/safetensors.h"
#include "tensor/block_tiles.h"
#include "tensor/blocks.h"

namespace baleen {
namespace {

const std::string kGoldenBlocks = BALEEN_SOURCE_DIR "/tests/golden/gguf_blocks.safetensors";

class GgufBlocksTest : public testing::TestWithParam<DType> {
 protected:
  const SafetensorsFile golden_{kGoldenBlocks};
  const TensorView& blocks() const { return Get("blocks"); }
  const TensorView& values() const { return Get("values"); }

 private:
  const TensorView& Get(const std::string& what) const {
    const TensorView* view = golden_.Find(std::string(DTypeName(GetParam())) + "." + what);
    if (view == nullptr) throw std::runtime_error(kGoldenBlocks + " lacks " + what);
    return *view;
  }
};

// Elements whose bits differ.
size_t NumDifferent(const std::vector<float>& a, const std::vector<float>& b) {
  size_t count = a.size() > b.size() ? a.size() - b.size() : b.size() - a.size();
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    count += std::bit_cast<uint32_t>(a[i]) != std::bit_cast<uint32_t>(b[i]);
  }
  return count;
}

TEST_P(GgufBlocksTest, SizesAreThoseOfTheFile) {
  ASSERT_EQ(blocks().shape.size(), 2u);
  EXPECT_EQ(DTypeSize(GetParam()), blocks().shape[1]);
  EXPECT_EQ(BlockSize(GetParam()), values().shape[1]);
  EXPECT_EQ(RowBytes(GetParam(), values().num_elements()), blocks().size_bytes());
}

TEST_P(GgufBlocksTest, DecodesToTheSameBits) {
  std::vector<float> decoded(values().num_elements());
  DecodeBlocks(GetParam(), blocks().data, decoded.size(), decoded.data());
  EXPECT_EQ(NumDifferent(decoded, ToF32(values())), 0u);
}

// The blocks, two a row, as a tile.
TEST_P(GgufBlocksTest, TilesHoldTheSameValues) {
  const size_t block = BlockSize(GetParam()), rows = 4;
  const size_t cols = values().num_elements() / block / rows * block;
  const TileLayout layout = TileLayoutOf(GetParam(), cols);
  ASSERT_TRUE(layout.IsValid());
  TileRowBuffers buffers;
  buffers.Resize(layout, rows);
  for (size_t r = 0; r < rows; ++r) {
    UnpackRow(GetParam(), blocks().data + r * RowBytes(GetParam(), cols), cols, r, buffers);
  }
  std::vector<std::byte> tile(layout.tile_bytes());
  PackTile(layout, buffers.View(rows), tile.data());
  const std::vector<float> wanted = ToF32(values());
  size_t finite = 0;
  for (size_t r = 0; r < rows; ++r) {
    for (size_t c = 0; c < cols; ++c) {
      const float expected = wanted[r * cols + c], got = TileValue(layout, tile.data(), r, c);
      // Of zeros, the sign may differ.
      ASSERT_TRUE(got == expected || (std::isnan(got) && std::isnan(expected)))
          << r << " " << c << ": " << got << ", expected " << expected;
      finite += std::isfinite(got);
    }
  }
  EXPECT_GT(finite, rows * cols / 2);
  // The tile takes about what the blocks take.
  const size_t bytes = kTileRows * RowBytes(GetParam(), cols);
  EXPECT_LE(layout.tile_bytes(), bytes * 6 / 5 + 256);
}

// Every byte of a block counts: one bit of it flipped in all blocks changes some value.
TEST_P(GgufBlocksTest, EveryByteCounts) {
  const std::vector<float> wanted = ToF32(values());
  const size_t block_bytes = blocks().shape[1];
  for (size_t i = 0; i < block_bytes; ++i) {
    std::vector<std::byte> changed(blocks().data, blocks().data + blocks().size_bytes());
    for (size_t at = i; at < changed.size(); at += block_bytes) changed[at] ^= std::byte{1};
    std::vector<float> decoded(wanted.size());
    DecodeBlocks(GetParam(), changed.data(), decoded.size(), decoded.data());
    EXPECT_GT(NumDifferent(decoded, wanted), 0u) << "byte " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, GgufBlocksTest,
                         testing::Values(DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1,
                                         DType::kQ8_0, DType::kQ2_K, DType::kQ3_K, DType::kQ4_K,
                                         DType::kQ5_K, DType::kQ6_K, DType::kIQ4_NL,
                                         DType::kIQ4_XS),
                         [](const auto& info) { return std::string(DTypeName(info.param)); });

TEST(DTypeTest, BlockTypesAreNoTypesOfSafetensors) {
  EXPECT_EQ(DTypeFromName("Q8_0"), std::nullopt);
  EXPECT_EQ(DTypeFromName("F32"), DType::kF32);
}

}  // namespace
}  // namespace baleen
