#include "fill.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"

namespace baleen::make_checkpoint {

namespace {

constexpr size_t kTableSize = 4096;
constexpr float kDeviation = 0.02f;
constexpr float kBiasRange = 0.05f;

// The largest quantile of the table lies at 3.67 deviations. In FP8 it becomes 440 (of 448).
constexpr float kFp8PerDeviation = 120.0f;

// The value below which a standard normal number falls with probability p; by bisection.
double NormalQuantile(double p) {
  double low = -10, high = 10;
  for (int i = 0; i < 60; ++i) {
    const double middle = (low + high) / 2;
    (0.5 * std::erfc(-middle / std::sqrt(2.0)) < p ? low : high) = middle;
  }
  return (low + high) / 2;
}

template <typename T>
void Store(std::byte* out, size_t i, T value) {
  std::memcpy(out + i * sizeof(T), &value, sizeof(T));
}

// One value in the given type; in FP8 relative to the block's scale.
void StoreWeight(DType dtype, std::byte* out, size_t i, float deviations) {
  switch (dtype) {
    case DType::kF32:
      return Store(out, i, kDeviation * deviations);
    case DType::kF16:
      return Store(out, i, F32ToF16(kDeviation * deviations));
    case DType::kBF16:
      return Store(out, i, F32ToBf16(kDeviation * deviations));
    case DType::kF8E4M3:
      return Store(out, i, F32ToF8E4M3(kFp8PerDeviation * deviations));
    default:
      BALEEN_CHECK(!"weights of this type");
  }
}

std::vector<std::byte> MakeTable(DType dtype) {
  std::vector<std::byte> table(kTableSize * DTypeSize(dtype));
  for (size_t i = 0; i < kTableSize; ++i) {
    const double p = (static_cast<double>(i) + 0.5) / kTableSize;
    StoreWeight(dtype, table.data(), i, static_cast<float>(NormalQuantile(p)));
  }
  return table;
}

// Four elements of N bytes for each 64 random bits.
template <size_t N>
void FillFromTable(const std::byte* table, Random* random, std::span<std::byte> out) {
  std::byte* const data = out.data();
  const size_t count = out.size() / N;
  for (size_t i = 0; i < count; i += 4) {
    uint64_t bits = random->Next();
    const size_t end = std::min(count, i + 4);
    for (size_t j = i; j < end; ++j, bits >>= 16) {
      std::memcpy(data + j * N, table + (bits & (kTableSize - 1)) * N, N);
    }
  }
}

void FillConstant(DType dtype, float value, std::span<std::byte> out) {
  const size_t count = out.size() / DTypeSize(dtype);
  for (size_t i = 0; i < count; ++i) StoreWeight(dtype, out.data(), i, value / kDeviation);
}

}  // namespace

Filler::Filler(DType weight_dtype)
    : weight_dtype_(weight_dtype),
      table_(MakeTable(weight_dtype)),
      bf16_table_(MakeTable(DType::kBF16)) {}

void Filler::Fill(DType dtype, Content content, Random* random, std::span<std::byte> out) const {
  switch (content) {
    case Content::kOnes:
      return FillConstant(dtype, 1.0f, out);
    case Content::kScale:
      return FillConstant(dtype, kDeviation / kFp8PerDeviation, out);
    case Content::kBias:
      BALEEN_CHECK(dtype == DType::kF32);
      for (size_t i = 0; i < out.size() / sizeof(float); ++i) {
        Store(out.data(), i, kBiasRange * (2 * random->Uniform() - 1));
      }
      return;
    case Content::kWeights:
      break;
  }
  const std::byte* table = dtype == weight_dtype_ ? table_.data() : bf16_table_.data();
  BALEEN_CHECK(dtype == weight_dtype_ || dtype == DType::kBF16);
  switch (DTypeSize(dtype)) {
    case 1:
      return FillFromTable<1>(table, random, out);
    case 2:
      return FillFromTable<2>(table, random, out);
    case 4:
      return FillFromTable<4>(table, random, out);
  }
}

}  // namespace baleen::make_checkpoint
