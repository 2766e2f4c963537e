// Conversions against the definitions of the formats, over all values where that is feasible.
#include "tensor/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace baleen {
namespace {

// The nearest of `values` (ascending, finite) to x, ties to the even index: what rounding to
// nearest even means for a format whose codes ascend with its values.
size_t NearestEven(const std::vector<float>& values, float x) {
  size_t high = 0;
  while (high < values.size() && values[high] < x) ++high;
  if (high == 0) return 0;
  if (high == values.size()) return values.size() - 1;
  const double below = static_cast<double>(x) - values[high - 1];
  const double above = static_cast<double>(values[high]) - x;
  if (below != above) return below < above ? high - 1 : high;
  return high % 2 == 0 ? high : high - 1;
}

TEST(DTypeTest, F8E4M3HasTheTableOfItsDefinition) {
  EXPECT_EQ(F8E4M3ToF32(0x00), 0.0f);
  EXPECT_EQ(F8E4M3ToF32(0x01), 0.001953125f);  // smallest subnormal, 2^-9
  EXPECT_EQ(F8E4M3ToF32(0x08), 0.015625f);     // smallest normal, 2^-6
  EXPECT_EQ(F8E4M3ToF32(0x38), 1.0f);
  EXPECT_EQ(F8E4M3ToF32(0x3f), 1.875f);
  EXPECT_EQ(F8E4M3ToF32(0x7e), 448.0f);
  EXPECT_EQ(F8E4M3ToF32(0xfe), -448.0f);
  EXPECT_TRUE(std::isnan(F8E4M3ToF32(0x7f)));
  EXPECT_TRUE(std::isnan(F8E4M3ToF32(0xff)));
  EXPECT_TRUE(std::signbit(F8E4M3ToF32(0x80)));
}

TEST(DTypeTest, F8E4M3RoundsToNearestEven) {
  std::vector<float> values;
  for (int code = 0; code < 0x7f; ++code) values.push_back(F8E4M3ToF32(static_cast<uint8_t>(code)));
  for (size_t code = 0; code + 1 < values.size(); ++code) {
    EXPECT_LT(values[code], values[code + 1]);
    for (float x : {values[code], (values[code] + values[code + 1]) / 2,
                    std::nextafter((values[code] + values[code + 1]) / 2, 1e9f)}) {
      EXPECT_EQ(F32ToF8E4M3(x), NearestEven(values, x)) << x;
      EXPECT_EQ(F32ToF8E4M3(-x), NearestEven(values, x) | 0x80) << x;
    }
  }
  EXPECT_EQ(F32ToF8E4M3(1e9f), 0x7e);
  EXPECT_EQ(F32ToF8E4M3(std::nanf("")) & 0x7f, 0x7f);
}

TEST(DTypeTest, F16ConvertsThereAndBack) {
  std::vector<float> values;
  for (uint32_t code = 0; code < 0x7c00; ++code) {
    values.push_back(F16ToF32(static_cast<uint16_t>(code)));
    EXPECT_EQ(F32ToF16(values.back()), code);
  }
  EXPECT_EQ(values[0x3c00], 1.0f);
  EXPECT_EQ(values[0x7bff], 65504.0f);
  EXPECT_EQ(values[1], 0x1p-24f);
  for (size_t code = 0; code + 1 < values.size(); ++code) {
    const float middle = (values[code] + values[code + 1]) / 2;
    EXPECT_EQ(F32ToF16(middle), code % 2 == 0 ? code : code + 1) << middle;
    EXPECT_EQ(F32ToF16(std::nextafter(middle, 0.0f)), code);
    EXPECT_EQ(F32ToF16(std::nextafter(middle, 1e9f)), code + 1);
  }
  EXPECT_EQ(F32ToF16(65519.0f), 0x7bff);
  EXPECT_EQ(F32ToF16(65520.0f), 0x7c00);  // halfway to 65536: even is infinity
  EXPECT_EQ(F16ToF32(0x7c00), std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(F16ToF32(0x7e00)));
  EXPECT_TRUE(std::isnan(F16ToF32(F32ToF16(std::nanf("")))));
}

TEST(DTypeTest, Bf16RoundsToNearestEven) {
  for (uint32_t code = 0; code < 0x7f7f; ++code) {
    const float low = Bf16ToF32(static_cast<uint16_t>(code));
    const float high = Bf16ToF32(static_cast<uint16_t>(code + 1));
    EXPECT_EQ(F32ToBf16(low), code);
    const float middle = std::bit_cast<float>((code << 16) | 0x8000u);
    EXPECT_EQ(F32ToBf16(middle), code % 2 == 0 ? code : code + 1);
    EXPECT_EQ(F32ToBf16(std::nextafter(middle, low)), code);
    EXPECT_EQ(F32ToBf16(std::nextafter(middle, high)), code + 1);
  }
  EXPECT_EQ(F32ToBf16(std::numeric_limits<float>::infinity()), 0x7f80);
  EXPECT_TRUE(std::isnan(Bf16ToF32(F32ToBf16(std::bit_cast<float>(0x7f800001u)))));
}

TEST(DTypeTest, NamesAreSafetensors) {
  for (DType dtype :
       {DType::kF64, DType::kF32, DType::kF16, DType::kBF16, DType::kF8E4M3, DType::kF8E8M0,
        DType::kI64, DType::kI32, DType::kI16, DType::kI8, DType::kU8, DType::kBool}) {
    EXPECT_EQ(DTypeFromName(DTypeName(dtype)), dtype);
  }
  EXPECT_EQ(DTypeFromName("F32 "), std::nullopt);
  EXPECT_EQ(F8E8M0ToF32(127), 1.0f);
  EXPECT_EQ(F8E8M0ToF32(130), 8.0f);
}

}  // namespace
}  // namespace baleen
