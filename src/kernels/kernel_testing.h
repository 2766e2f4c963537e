// kernels/kernel_testing.h: what the tests of kernels share: the tables that this machine can run,
// operands that end exactly where their memory ends, comparisons with bounds.
#ifndef BALEEN_KERNELS_KERNEL_TESTING_H_
#define BALEEN_KERNELS_KERNEL_TESTING_H_

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "base/sanitized_testing.h"
#include "kernels/ref/ref.h"
#include "kernels/registry.h"
#include "kernels/table.h"
#include "kernels/tables.h"

namespace baleen::kernels {

// Half a unit in the last place of 1: the bound of one rounding.
inline constexpr double kEpsilonF32 = 0x1p-24;
inline constexpr double kEpsilonBf16 = 0x1p-9;

// Widths around those of vectors (8 and 16 floats, 32 BF16) and one of several blocks of FP8.
inline const std::vector<size_t> kWidths = {1,  2,  7,  8,  9,  15,  16,  17,  31,
                                            32, 33, 63, 64, 65, 127, 128, 130, 300};
// Batches around the tiles.
inline const std::vector<size_t> kBatches = {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 17, 33};

inline const std::vector<DType> kWeightTypes = {DType::kF32, DType::kBF16, DType::kF16,
                                                DType::kF8E4M3};

// The same and two block types, one for each size of block.
inline const std::vector<DType> kWeightAndBlockTypes = {DType::kF32,    DType::kBF16, DType::kF16,
                                                        DType::kF8E4M3, DType::kQ8_0, DType::kQ4_K};

// Widths that rows of `dtype` can have.
inline std::vector<size_t> WidthsOf(DType dtype) {
  if (!IsBlockType(dtype)) return kWidths;
  std::vector<size_t> widths;
  for (size_t blocks : {1, 2, 3, 9}) {
    if (blocks * BlockSize(dtype) <= 1024) widths.push_back(blocks * BlockSize(dtype));
  }
  return widths;
}

inline std::vector<const KernelTable*> RunnableTables() {
  std::vector<const KernelTable*> tables;
  for (const KernelChoice& choice : KernelChoices()) {
    if (choice.declined.empty()) {
      tables.push_back(choice.table);
    } else {
      std::printf("[ DECLINED ] %s: %s\n", choice.name.c_str(), choice.declined.c_str());
    }
  }
  return tables;
}

// Those that the scalar table judges.
inline std::vector<const KernelTable*> VectorTables() {
  std::vector<const KernelTable*> tables = RunnableTables();
  std::erase(tables, &kScalarTable);
  return tables;
}

inline std::string TableName(const ::testing::TestParamInfo<const KernelTable*>& info) {
  return info.param->name;
}

// A test that runs once for each table.
class KernelTest : public ::testing::TestWithParam<const KernelTable*> {
 protected:
  const KernelTable& table() const { return *GetParam(); }
  // With sanitizers the scalar table takes longer than all others. It has no tiles of several
  // shapes, so a test of them may do less with it.
  bool IsSlow() const { return kSanitized && &table() == &kScalarTable; }
};

// The seed of a test is its name.
inline uint64_t SeedOfTest() {
  const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
  uint64_t seed = 0;
  for (char c : std::string(info->test_suite_name()) + info->name()) {
    seed = seed * 31 + static_cast<unsigned char>(c);
  }
  return seed;
}

// Memory of exactly `size` bytes that begins `misalignment` bytes after a multiple of 64, so that a
// sanitizer sees the first byte read behind it.
class Bytes {
 public:
  Bytes() = default;
  explicit Bytes(size_t size, size_t misalignment = 0)
      : memory_(
            static_cast<std::byte*>(::operator new (size + misalignment, std::align_val_t{64}))),
        offset_(misalignment) {
    std::memset(memory_.get(), 0xff, size + misalignment);
  }
  std::byte* data() const { return memory_.get() + offset_; }
  float* floats() const { return reinterpret_cast<float*>(data()); }

 private:
  struct Free {
    void operator()(std::byte* p) const { ::operator delete (p, std::align_val_t{64}); }
  };
  std::unique_ptr<std::byte, Free> memory_;
  size_t offset_ = 0;
};

inline float RandomValue(Random& random) { return random.Uniform() * 2 - 1; }

inline std::vector<float> RandomFloats(size_t count, Random& random) {
  std::vector<float> values(count);
  for (float& value : values) value = RandomValue(random);
  return values;
}

// Writes `value` as element i of an array of `dtype`.
inline void WriteAs(DType dtype, float value, std::byte* data, size_t i) {
  const auto put = [&](auto bits) { std::memcpy(data + i * sizeof(bits), &bits, sizeof(bits)); };
  switch (dtype) {
    case DType::kF16:
      return put(F32ToF16(value));
    case DType::kBF16:
      return put(F32ToBf16(value));
    case DType::kF8E4M3:
      return put(F32ToF8E4M3(value * 256));
    default:
      return put(value);
  }
}

// Random blocks of Q8_0 (one F16 scale) or Q4_K (a scale and one for the minima, both in front).
inline void WriteBlocks(DType dtype, size_t count, Random& random, std::byte* data) {
  const size_t bytes = DTypeSize(dtype), num_scales = dtype == DType::kQ4_K ? 2 : 1;
  for (size_t i = 0; i < count * bytes; ++i) data[i] = static_cast<std::byte>(random.Below(256));
  for (size_t i = 0; i < count; ++i) {
    for (size_t j = 0; j < num_scales; ++j) {
      WriteAs(DType::kF16, RandomValue(random) / 128, data + i * bytes, j);
    }
  }
}

// Random weights, for FP8 with scales and with a first row inside the first block.
struct RandomMatrix {
  RandomMatrix(DType dtype, size_t rows, size_t cols, Random& random, size_t misalignment = 0)
      : data(rows * RowBytes(dtype, cols), misalignment) {
    if (IsBlockType(dtype)) {
      WriteBlocks(dtype, rows * cols / BlockSize(dtype), random, data.data());
    } else {
      for (size_t i = 0; i < rows * cols; ++i) WriteAs(dtype, RandomValue(random), data.data(), i);
    }
    matrix = {.dtype = dtype, .data = data.data(), .rows = rows, .cols = cols};
    if (dtype == DType::kF8E4M3) {
      matrix.first_row = 120;
      const size_t blocks = (matrix.first_row + rows) / kF8Block + 1;
      for (size_t i = 0; i < blocks * ((cols + kF8Block - 1) / kF8Block); ++i) {
        scales.push_back((0.5f + random.Uniform()) / 256);
      }
      matrix.scales = scales.data();
    }
  }
  Bytes data;
  std::vector<float> scales;
  Matrix matrix;
};

// Random activations, rows `gap_bytes` further apart than they need be.
struct RandomActivations {
  RandomActivations(ActivationType type, size_t rows, size_t cols, Random& random,
                    size_t gap_bytes = 0)
      : row_bytes(cols * ActivationSize(type) + gap_bytes), data(rows * row_bytes - gap_bytes) {
    const DType dtype = type == ActivationType::kF32 ? DType::kF32 : DType::kBF16;
    for (size_t r = 0; r < rows; ++r) {
      for (size_t c = 0; c < cols; ++c) {
        WriteAs(dtype, RandomValue(random), data.data() + r * row_bytes, c);
      }
    }
    activations = {
        .type = type, .data = data.data(), .rows = rows, .cols = cols, .row_bytes = row_bytes};
  }
  size_t row_bytes;
  Bytes data;
  Activations activations;
};

// |got - expected| <= bound, element by element; NaN is never near.
inline ::testing::AssertionResult IsNear(const std::vector<float>& got,
                                         const std::vector<double>& expected,
                                         const std::vector<double>& bound) {
  if (got.size() != expected.size() || got.size() != bound.size()) {
    return ::testing::AssertionFailure() << "sizes differ";
  }
  for (size_t i = 0; i < got.size(); ++i) {
    if (!(std::abs(got[i] - expected[i]) <= bound[i])) {
      return ::testing::AssertionFailure()
             << "element " << i << " of " << got.size() << ": got " << got[i] << ", expected "
             << expected[i] << " +- " << bound[i];
    }
  }
  return ::testing::AssertionSuccess();
}

inline ::testing::AssertionResult SameBits(const std::vector<float>& a,
                                           const std::vector<float>& b) {
  if (a.size() != b.size()) return ::testing::AssertionFailure() << "sizes differ";
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::bit_cast<uint32_t>(a[i]) != std::bit_cast<uint32_t>(b[i])) {
      return ::testing::AssertionFailure()
             << "element " << i << " of " << a.size() << ": " << a[i] << " and " << b[i];
    }
  }
  return ::testing::AssertionSuccess();
}

}  // namespace baleen::kernels

#endif  // BALEEN_KERNELS_KERNEL_TESTING_H_
