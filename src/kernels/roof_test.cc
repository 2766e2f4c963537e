#include "kernels/roof.h"

#include "kernels/kernel_testing.h"

namespace baleen::kernels {

namespace {

class RoofTest : public KernelTest {};

TEST_P(RoofTest, LoopsReportWhatTheyDid) {
  for (PeakKind kind : {PeakKind::kF32, PeakKind::kBF16, PeakKind::kI8}) {
    EXPECT_EQ(table().peak_loop(kind, 30), 10 * table().peak_loop(kind, 3));
  }
  EXPECT_EQ(table().peak_loop(PeakKind::kBF16, 1) > 0, table().bf16_products);
}

INSTANTIATE_TEST_SUITE_P(Tables, RoofTest, ::testing::ValuesIn(RunnableTables()), TableName);

TEST(MeasureRoof, IsPlausible) {
  ThreadPool pool(2);
  const KernelTable& table = SelectKernels();
  const baleen::Roof roof = MeasureRoof(pool, table);
  EXPECT_GT(roof.read_gb_per_s, 0.5);
  EXPECT_LT(roof.read_gb_per_s, 5000);
  EXPECT_GT(roof.gflops_f32, 0.5);
  EXPECT_LT(roof.gflops_f32, 50000);
  EXPECT_EQ(roof.gflops_bf16 > 0, table.bf16_products);
}

}  // namespace

}  // namespace baleen::kernels
