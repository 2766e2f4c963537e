#include <bit>
#include <cmath>
#include <limits>

#include "kernels/kernel_testing.h"

namespace baleen::kernels {

namespace {

TEST(LatentLayout, RowsOfDeepSeekModels) {
  EXPECT_EQ((LatentLayout{DType::kF32, 512, 64}.row_bytes()), 2304u);
  EXPECT_EQ((LatentLayout{DType::kBF16, 512, 64}.row_bytes()), 1152u);
  EXPECT_EQ((LatentLayout{DType::kI8, 512, 64}.row_bytes()), 656u);
}

struct StoredRow {
  StoredRow(const LatentLayout& layout, const std::vector<float>& row)
      : layout(layout), bytes(layout.row_bytes() + 1, 4) {
    PackLatentI8(layout, row.data(), bytes.data());
    block = bytes.data();
  }
  float At(size_t c) const {
    const LatentRows rows = {
        .dtype = DType::kI8, .blocks = &block, .block_tokens = 1, .row_bytes = layout.row_bytes()};
    return ref::LatentAt(rows, layout, 0, c);
  }
  LatentLayout layout;
  Bytes bytes;
  const std::byte* block = nullptr;
};

// No number is off by more than half a step of its block (and the rounding of the product), the
// largest is exact but for that rounding, rope keys are rounded to BF16.
TEST(PackLatentI8, IsNearestToItsBlock) {
  Random random(SeedOfTest());
  for (const LatentLayout layout :
       {LatentLayout{DType::kI8, 512, 64}, {DType::kI8, 33, 6}, {DType::kI8, 300, 2}}) {
    std::vector<float> row = RandomFloats(layout.kv_lora_rank + layout.qk_rope_head_dim, random);
    for (size_t i = 0; i < 128 && i < layout.kv_lora_rank; ++i) row[i] *= 1000;
    const StoredRow stored(layout, row);
    EXPECT_EQ(stored.bytes.data()[layout.row_bytes()], std::byte{0xff});
    for (size_t b = 0; b < layout.kv_lora_rank; b += 128) {
      const size_t end = std::min(b + 128, layout.kv_lora_rank);
      float largest = 0;
      for (size_t i = b; i < end; ++i) largest = std::max(largest, std::abs(row[i]));
      for (size_t i = b; i < end; ++i) {
        EXPECT_LE(std::abs(stored.At(i) - row[i]), largest / 254 * 1.00001f);
      }
    }
    for (size_t i = layout.kv_lora_rank; i < row.size(); ++i) {
      EXPECT_EQ(stored.At(i), Bf16ToF32(F32ToBf16(row[i])));
    }
  }
}

TEST(PackLatentI8, TiesGoToEven) {
  const LatentLayout layout = {DType::kI8, 6, 0};
  const StoredRow stored(layout, {127, 0.5f, 1.5f, -2.5f, -127, 126.5f});
  const float expected[] = {127, 0, 2, -2, -127, 126};
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(stored.At(i), expected[i]);
}

TEST(PackLatentI8, BlocksOfZerosAndOfWhatIsNoNumber) {
  const LatentLayout layout = {DType::kI8, 384, 0};
  std::vector<float> row(384, 0.0f);
  row[0] = 1e-40f;  // too small for a scale
  row[130] = std::nanf("");
  row[300] = std::numeric_limits<float>::infinity();
  const StoredRow stored(layout, row);
  for (size_t i = 0; i < 384; ++i) {
    if (i < 128) {
      EXPECT_EQ(stored.At(i), 0.0f);
    } else {
      EXPECT_TRUE(std::isnan(stored.At(i)));
    }
  }
}

}  // namespace

}  // namespace baleen::kernels
