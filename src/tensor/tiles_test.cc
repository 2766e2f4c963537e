#include "tensor/tiles.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "base/random.h"
#include "tensor/block_tiles.h"
#include "tensor/dtype.h"

namespace baleen {

namespace {

uint8_t At(const std::vector<std::byte>& bytes, size_t i) {
  return std::to_integer<uint8_t>(bytes[i]);
}

// Every byte of two small tiles, by hand.
TEST(Tiles, BytesOfFourBits) {
  const TileLayout layout = {.cols = 10, .bits = 4, .group_cols = 10, .has_zeros = true};
  ASSERT_TRUE(layout.IsValid());
  EXPECT_EQ(layout.tile_bytes(), 64u + 64u + 2 * 64u);
  std::vector<uint8_t> codes(2 * 10);
  for (size_t c = 0; c < 10; ++c) {
    codes[c] = static_cast<uint8_t>(c);            // row 0: 0 1 2 ... 9
    codes[10 + c] = static_cast<uint8_t>(15 - c);  // row 1: 15 14 ... 6
  }
  const uint16_t scales[2] = {0x3c00, 0x4000}, zeros[2] = {3, 16};
  std::vector<std::byte> tile(layout.tile_bytes(), std::byte{0xee});
  PackTile(layout, {.rows = 2, .codes = codes.data(), .scales = scales, .zeros = zeros},
           tile.data());
  EXPECT_EQ(At(tile, 1), 0x3c);
  EXPECT_EQ(At(tile, 3), 0x40);
  EXPECT_EQ(At(tile, 64), 3);
  EXPECT_EQ(At(tile, 66), 16);
  // Block 0, row 0: columns 0 to 3 low, 4 to 7 high; row 1 behind it.
  const std::vector<uint8_t> expected = {0x40, 0x51, 0x62, 0x73, 0xbf, 0xae, 0x9d, 0x8c};
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(At(tile, 128 + i), expected[i]) << i;
  // Block 1: columns 8 and 9, then nothing.
  EXPECT_EQ(At(tile, 192), 8);
  EXPECT_EQ(At(tile, 193), 9);
  EXPECT_EQ(At(tile, 194), 0);
  // Rows that are not there.
  for (size_t i = 136; i < 192; ++i) EXPECT_EQ(At(tile, i), 0) << i;
  EXPECT_EQ(TileValue(layout, tile.data(), 0, 9), 6.0f);
  EXPECT_EQ(TileValue(layout, tile.data(), 1, 0), -2.0f);
}

TEST(Tiles, BytesOfEightBits) {
  const TileLayout layout = {.cols = 4, .bits = 8, .group_cols = 32};
  EXPECT_EQ(layout.tile_bytes(), 64u + 64u);
  const std::vector<uint8_t> codes = {0, 128, 255, 7};
  const uint16_t scale = 0x3800;  // 0.5
  std::vector<std::byte> tile(layout.tile_bytes());
  PackTile(layout, {.rows = 1, .codes = codes.data(), .scales = &scale}, tile.data());
  for (size_t c = 0; c < 4; ++c) EXPECT_EQ(At(tile, 64 + c), codes[c]);
  EXPECT_EQ(TileValue(layout, tile.data(), 0, 0), -64.0f);
  EXPECT_EQ(TileValue(layout, tile.data(), 0, 2), 63.5f);
}

TEST(Tiles, EveryValueComesBack) {
  Random random(7);
  for (size_t bits : {4, 8}) {
    for (bool has_zeros : {false, true}) {
      for (const auto& [cols, group] : std::vector<std::pair<size_t, size_t>>{
               {64, 32}, {96, 64}, {256, 128}, {300, 300}, {130, 128}, {1, 1}, {512, 256}}) {
        const TileLayout layout = {
            .cols = cols, .bits = bits, .group_cols = group, .has_zeros = has_zeros};
        ASSERT_TRUE(layout.IsValid());
        const size_t rows = 1 + random.Below(kTileRows), groups = layout.num_groups();
        std::vector<uint8_t> codes(rows * cols);
        std::vector<uint16_t> scales(rows * groups), zeros(rows * groups);
        for (uint8_t& code : codes) code = static_cast<uint8_t>(random.Below(1u << bits));
        for (uint16_t& scale : scales) scale = F32ToF16(random.Uniform() - 0.5f);
        for (uint16_t& zero : zeros) zero = static_cast<uint16_t>(random.Below((1u << bits) + 1));
        std::vector<std::byte> tile(layout.tile_bytes());
        PackTile(layout,
                 {.rows = rows,
                  .codes = codes.data(),
                  .scales = scales.data(),
                  .zeros = has_zeros ? zeros.data() : nullptr},
                 tile.data());
        for (size_t r = 0; r < kTileRows; ++r) {
          for (size_t c = 0; c < cols; ++c) {
            const size_t g = r * groups + c / group;
            const int zero = has_zeros && r < rows ? zeros[g] : 1 << (bits - 1);
            const float expected =
                r < rows ? static_cast<float>(codes[r * cols + c] - zero) * F16ToF32(scales[g])
                         : 0.0f;
            ASSERT_EQ(TileValue(layout, tile.data(), r, c), expected) << r << " " << c;
          }
        }
      }
    }
  }
}

TEST(Tiles, LayoutsThatProductsCannotRead) {
  EXPECT_FALSE((TileLayout{.cols = 64, .bits = 3, .group_cols = 32}).IsValid());
  EXPECT_FALSE((TileLayout{.cols = 64, .bits = 4, .group_cols = 16}).IsValid());
  EXPECT_FALSE((TileLayout{.cols = 640, .bits = 4, .group_cols = 192}).IsValid());
  EXPECT_FALSE((TileLayout{.cols = 0, .bits = 4, .group_cols = 32}).IsValid());
  // Q6_K's codes with mins, and Q5_K's without, would overflow sums of 16 bits.
  TileLayout six = TileLayoutOf(DType::kQ6_K, 256), five = TileLayoutOf(DType::kQ5_K, 256);
  EXPECT_TRUE(six.IsValid());
  EXPECT_TRUE(five.IsValid());
  six.has_mins = true;
  five.has_mins = false;
  EXPECT_FALSE(six.IsValid());
  EXPECT_FALSE(five.IsValid());
  EXPECT_FALSE(TileLayoutOf(DType::kQ4_K, 320).IsValid());
}

// Six bits by hand: a plane of four, then one of two.
TEST(Tiles, BytesOfPlanes) {
  const TileLayout layout = TileLayoutOf(DType::kQ6_K, 256);
  ASSERT_EQ(layout.codes_offset(), 64u + 256u);
  EXPECT_EQ(layout.tile_bytes(), 64u + 256u + 8 * 6 * 64u);
  TileRowBuffers rows;
  rows.Resize(layout, 1);
  rows.scales[0] = 0x4000;  // 2
  rows.factors[2] = -3;     // of columns 32 to 47
  for (size_t c = 0; c < 32; ++c) rows.codes[32 + c] = static_cast<uint8_t>(2 * c);
  std::vector<std::byte> tile(layout.tile_bytes(), std::byte{0xee});
  PackTile(layout, rows.View(1), tile.data());
  EXPECT_EQ(At(tile, 1), 0x40);
  EXPECT_EQ(At(tile, 64 + 2 * 16), 0xfd);
  const size_t chunk = 320 + 6 * 64;
  // Columns 0 and 4 of the chunk, codes 0 and 8; then 1 and 5: 2 and 10; columns 24 and 28: 48, 56.
  EXPECT_EQ(At(tile, chunk), 0x80);
  EXPECT_EQ(At(tile, chunk + 1), 0xa2);
  EXPECT_EQ(At(tile, chunk + 3 * 64), 0x80);
  // High bits: columns 0, 4, 8, 12 have 0, 0, 1, 1; columns 19, 23, 27, 31 have 2, 2, 3, 3.
  EXPECT_EQ(At(tile, chunk + 4 * 64), 0x50);
  EXPECT_EQ(At(tile, chunk + 5 * 64 + 3), 0xfa);
  EXPECT_EQ(TileValue(layout, tile.data(), 0, 32 + 5), -3.0f * 2 * (10 - 32));
}

}  // namespace

}  // namespace baleen
