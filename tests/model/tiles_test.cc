// Whole models whose weights were repacked into tiles against the same files decoded to floats.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "base/random.h"
#include "base/sanitized_testing.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf_export.h"
#include "checkpoint/stories_testing.h"
#include "formats/gguf.h"
#include "formats/gguf_writer.h"
#include "formats/gptq.h"
#include "kernels/registry.h"
#include "model_runner.h"
#include "quantize/quantize.h"

namespace baleen {
namespace {

namespace fs = std::filesystem;

const std::vector<int32_t> kIds = {1, 5, 900, 13, 2, 7, 1100, 3, 30, 31, 8, 4, 77, 2000, 19, 6};

// How far 8-bit activations may turn logits. Of a trained model by about 1 %; where they tip the
// router to another expert, by up to 10 %. Most tokens are far from that.
struct Bounds {
  double median = 0.015, largest = 0.15;
};

class TilesTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    std::string name = info->name();
    std::ranges::replace(name, '/', '_');
    path_ = testing::TempDir() + "/tiles_test_" + name;
    TearDown();
  }
  void TearDown() override { fs::remove_all(path_); }

  // Rounded to nearest, unless an order of columns is asked for: what is read is the same, however
  // little it was calibrated with.
  void Quantize(RoundingOptions rounding) {
    if (rounding.order != ColumnOrder::kDescAct) rounding.method = QuantizeMethod::kRtn;
    fs::remove_all(path_);
    QuantizeOptions options = {.rounding = rounding, .window_tokens = 128, .max_tokens = 128};
    options.max_held_out_tokens = 128;
    options.num_threads = 2;
    baleen::Quantize(TestStories(), path_, options);
  }

  // Products with floats: the same numbers. With whole numbers: nearly the same, and the same bits
  // whatever the form of the batch and the number of threads.
  static void Compare(const std::string& model, const Bounds& bounds = {}) {
    const ModelRunner values(model), tiles(model, /*repack=*/true);
    for (const auto& choice : kernels::KernelChoices()) {
      // The scalar table computes the same bits (kernels_test), in a minute for each model.
      if (!choice.declined.empty() || choice.name == "scalar") continue;
      const kernels::KernelTable* table = choice.table;
      for (const MlaForm form : {MlaForm::kDirect, MlaForm::kAbsorbed}) {
        SCOPED_TRACE(std::string(table->name) + (form == MlaForm::kDirect ? " direct" : ""));
        RunOptions options = {.table = table, .form = form};
        const std::vector<float> wanted = values.Run(kIds, options).logits;
        const std::vector<float> floats = tiles.Run(kIds, options).logits;
        EXPECT_LE(Difference(floats, wanted), 1e-4);
        options.i8_products = true;
        const std::vector<float> whole = tiles.Run(kIds, options).logits;
        EXPECT_LE(MedianDifference(whole, wanted), bounds.median);
        EXPECT_LE(Difference(whole, wanted), bounds.largest);
        EXPECT_NE(whole, floats);
        for (const size_t threads : {1, 2}) {
          if (kSanitized && threads == 1) continue;
          for (const size_t chunk : {1, 3, 7}) {
            options.num_threads = threads;
            options.chunk = chunk;
            options.company = {7, 7, 1};
            EXPECT_EQ(tiles.Run(kIds, options).logits, whole) << threads << " " << chunk;
          }
        }
      }
    }
  }

  // Of the tokens: the norm of the difference as a part of the norm.
  static double MedianDifference(const std::vector<float>& a, const std::vector<float>& b) {
    std::vector<double> differences;
    const size_t cols = b.size() / kIds.size();
    for (size_t begin = 0; begin < b.size(); begin += cols) {
      double difference = 0, sum = 0;
      for (size_t i = begin; i < begin + cols; ++i) {
        difference += std::pow(static_cast<double>(a[i]) - b[i], 2);
        sum += std::pow(static_cast<double>(b[i]), 2);
      }
      differences.push_back(std::sqrt(difference / sum));
    }
    std::ranges::nth_element(differences, differences.begin() + differences.size() / 2);
    return differences[differences.size() / 2];
  }

  // Largest difference as a part of the largest number.
  static double Difference(const std::vector<float>& a, const std::vector<float>& b) {
    double difference = 0, largest = 0;
    for (size_t i = 0; i < b.size(); ++i) {
      difference = std::max(difference, std::abs(static_cast<double>(a[i]) - b[i]));
      largest = std::max(largest, std::abs(static_cast<double>(b[i])));
    }
    return difference / largest;
  }

  std::string path_;
};

TEST_F(TilesTest, GptqInFourBits) {
  Quantize({.group_cols = 128});
  Compare(path_);
}

TEST_F(TilesTest, GptqWithZeroPoints) {
  Quantize({.scale = {.bits = 4, .symmetric = false}, .group_cols = 64});
  Compare(path_);
}

TEST_F(TilesTest, GptqWithColumnsInTheOrderOfActivations) {
  Quantize(
      {.scale = {.bits = 4, .symmetric = false}, .group_cols = 32, .order = ColumnOrder::kDescAct});
  const Checkpoint checkpoint = OpenCheckpoint(path_, CheckpointPart::kForRepack);
  const MlpWeights& mlp = checkpoint.weights.layers[0].mlp;
  ASSERT_NE(mlp.down_proj.column_order, nullptr);
  // Both read the same activations, in one order that is kept once.
  EXPECT_EQ(mlp.gate_proj.column_order, mlp.up_proj.column_order);
  Compare(path_);
}

TEST_F(TilesTest, GptqInEightBits) {
  Quantize({.scale = {.bits = 8}, .group_cols = 0});
  Compare(path_);
}

TEST_F(TilesTest, GptqInEightBitsWithZeroPointsAndColumnsInOrder) {
  Quantize(
      {.scale = {.bits = 8, .symmetric = false}, .group_cols = 64, .order = ColumnOrder::kDescAct});
  Compare(path_);
}

// Keys' and values' halves of kv_b_proj, which such a file has in two tensors.
TEST_F(TilesTest, GgufWithTheHalvesOfKvB) {
  fs::create_directories(path_);
  for (const DType type : {DType::kQ4_0, DType::kQ8_0}) {
    const std::string file = path_ + "/m.gguf";
    ExportGguf(OpenCheckpoint(TestStories()), file,
               {.type = type, .num_threads = 2, .sync = false});
    const Checkpoint checkpoint = OpenCheckpoint(file);
    const AttentionWeights& attention = checkpoint.weights.layers[0].attention;
    EXPECT_TRUE(attention.kv_b_proj.empty());
    EXPECT_EQ(attention.k_b_proj.dtype, DType::kQ8_0);
    // Whoever asks for the whole gets it.
    const TensorView* whole = checkpoint.source->Find("model.layers.0.self_attn.kv_b_proj.weight");
    ASSERT_NE(whole, nullptr);
    EXPECT_EQ(whole->shape, (Shape{4 * (32 + 48), 128}));
    const std::vector<float> values = ToF32(*whole);
    const std::vector<float> keys =
        ToF32({.data = attention.k_b_proj.data, .dtype = DType::kQ8_0, .shape = {4 * 128, 32}});
    EXPECT_EQ(values[5 * 128 + 9], keys[9 * 32 + 5]);                       // first head
    EXPECT_EQ(values[(80 + 31) * 128 + 127], keys[(128 + 127) * 32 + 31]);  // second head
    Compare(file);
  }
}

// What llama.cpp takes for rows that are no whole blocks of 256.
DType TypeFor(DType type, size_t cols) {
  if (cols % BlockSize(type) == 0) return type;
  switch (type) {
    case DType::kQ2_K:
      return DType::kQ4_0;
    case DType::kQ4_K:
      return DType::kQ5_0;
    case DType::kQ5_K:
      return DType::kQ5_1;
    case DType::kQ6_K:
      return DType::kQ8_0;
    default:
      return DType::kIQ4_NL;
  }
}

// Fills in the fields of a block, whose bytes are random, that make its values about as large as
// weights are, and as often positive as negative.
void Temper(DType type, std::byte* block) {
  const auto put = [&](size_t at, float value) {
    const uint16_t bits = F32ToF16(value);
    std::memcpy(block + at, &bits, sizeof(bits));
  };
  const auto same_halves = [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i)
      block[i] = std::byte{
          static_cast<unsigned char>(std::to_integer<int>(block[i] & std::byte{15}) * 17)};
  };
  switch (type) {
    case DType::kQ4_0:
      return put(0, 0.013f);
    case DType::kQ4_1:
      return put(0, 0.013f), put(2, -7.5f * 0.013f);
    case DType::kQ5_0:
      return put(0, 0.0065f);
    case DType::kQ5_1:
      return put(0, 0.0065f), put(2, -15.5f * 0.0065f);
    case DType::kQ8_0:
      return put(0, 8e-4f);
    case DType::kIQ4_NL:
      return put(0, 9e-4f);
    case DType::kQ2_K:
      same_halves(0, 16);
      return put(80, 7e-3f), put(82, 1.5f * 7e-3f);
    case DType::kQ3_K:
      return put(108, 1.4e-3f);
    case DType::kQ4_K:
    case DType::kQ5_K: {
      // Each sub-block's scale and minimum are the same.
      const float d = type == DType::kQ4_K ? 4e-4f : 2e-4f;
      std::memcpy(block + 8, block + 4, 4);
      same_halves(12, 16);
      return put(0, d), put(2, (type == DType::kQ4_K ? 7.5f : 15.5f) * d);
    }
    case DType::kQ6_K:
      return put(208, 5e-5f);
    default:
      return put(0, 5e-5f);
  }
}

// A file whose matrices are of `type`, at random.
void WriteBlocks(DType type, const std::string& file) {
  const Checkpoint stories = OpenCheckpoint(TestStories());
  ExportGguf(stories, file + ".q8", {.type = DType::kQ8_0, .num_threads = 2, .sync = false});
  const GgufModel source(file + ".q8");
  std::vector<TensorSpec> specs;
  for (const std::string& name : source.Names()) {
    const TensorView& view = *source.Find(name);
    const bool is_matrix = IsBlockType(view.dtype);
    specs.push_back({.name = name,
                     .dtype = is_matrix ? TypeFor(type, view.shape.back()) : view.dtype,
                     .shape = view.shape});
  }
  GgufWriter writer(file, GgufExportKeys(stories, DType::kQ8_0), specs, /*sync=*/false);
  Random random(static_cast<uint64_t>(type));
  for (size_t i = 0; i < specs.size(); ++i) {
    const TensorView& view = *source.Find(specs[i].name);
    std::vector<std::byte> bytes(view.data, view.data + view.size_bytes());
    if (IsBlockType(specs[i].dtype)) {
      bytes.resize(RowBytes(specs[i].dtype, view.num_elements()));
      for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.Below(256));
      for (size_t b = 0; b < bytes.size(); b += DTypeSize(specs[i].dtype)) {
        Temper(specs[i].dtype, bytes.data() + b);
      }
    }
    writer.Write(i, 0, bytes);
  }
  writer.Finish();
}

class BlockTypesTest : public TilesTest, public testing::WithParamInterface<DType> {};

TEST_P(BlockTypesTest, GgufInTiles) {
  fs::create_directories(path_);
  const std::string file = path_ + "/m.gguf";
  WriteBlocks(GetParam(), file);
  const Checkpoint checkpoint = OpenCheckpoint(file);
  EXPECT_EQ(checkpoint.weights.lm_head.dtype, GetParam());
  EXPECT_EQ(checkpoint.weights.layers[1].moe.experts[0].gate_proj.dtype, GetParam());
  // Weights at random do not forget: Q4_0 and Q8_0 are here to show the same bounds.
  Compare(file, {.median = 0.08, .largest = 0.6});
}

INSTANTIATE_TEST_SUITE_P(Types, BlockTypesTest,
                         testing::Values(DType::kQ4_0, DType::kQ8_0, DType::kQ4_1, DType::kQ5_0,
                                         DType::kQ5_1, DType::kIQ4_NL, DType::kQ2_K, DType::kQ3_K,
                                         DType::kQ4_K, DType::kQ5_K, DType::kQ6_K, DType::kIQ4_XS),
                         [](const auto& info) { return std::string(DTypeName(info.param)); });

}  // namespace
}  // namespace baleen
