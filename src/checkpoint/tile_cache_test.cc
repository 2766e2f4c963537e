#include "checkpoint/tile_cache.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>

#include "base/error.h"
#include "base/output_file.h"
#include "tensor/dtype.h"

namespace baleen {

namespace {

namespace fs = std::filesystem;

class TileCacheTest : public testing::Test {
 protected:
  TileCacheTest()
      : directory_(fs::path(testing::TempDir()) /
                   (std::string("tiles_") + std::to_string(::getpid()) + "_" +
                    testing::UnitTest::GetInstance()->current_test_info()->name())) {
    fs::create_directories(directory_);
  }
  ~TileCacheTest() override { fs::remove_all(directory_); }

  // Row r, column c has the code (r + c) % 16 and the scale 1.
  TileJob Job(Matrix* target, size_t rows) {
    TileJob job = {.layout = {.cols = 64, .bits = 4, .group_cols = 32}, .rows = rows};
    job.unpack = [this](size_t first_row, size_t num_rows, TileRowBuffers& out) {
      ++unpacked_;
      EXPECT_TRUE(out.zeros.empty());
      for (size_t r = 0; r < num_rows; ++r) {
        for (size_t c = 0; c < 64; ++c) {
          out.codes[r * 64 + c] = static_cast<uint8_t>((first_row + r + c) % 16);
        }
        for (size_t g = 0; g < 2; ++g) out.scales[r * 2 + g] = 0x3c00;
      }
    };
    *target = {.rows = rows, .cols = 64};
    job.targets = {target};
    return job;
  }
  TileCacheOptions Options() const {
    return {.directory = directory_.string(),
            .model = "/models/some.gguf",
            .state = "1",
            .num_threads = 2,
            .min_file_bytes = 0};
  }
  static void ExpectTiles(const Matrix& m) {
    ASSERT_TRUE(m.is_tiled());
    for (size_t r = 0; r < m.rows; ++r) {
      for (size_t c = 0; c < m.cols; ++c) {
        const float expected = static_cast<float>((r + c) % 16) - 8;
        ASSERT_EQ(TileValue(m.tiles, m.tile(r / 16 * 16), r % 16, c), expected);
      }
    }
  }
  size_t NumFiles() const {
    size_t count = 0;
    for (const auto& entry : fs::directory_iterator(directory_)) count += entry.is_regular_file();
    return count;
  }

  const fs::path directory_;
  std::atomic<size_t> unpacked_ = 0;
};

TEST_F(TileCacheTest, TheSecondOpeningFindsTheFile) {
  for (const bool first : {true, false}) {
    Matrix a, b;
    const std::vector<TileJob> jobs = {Job(&a, 40), Job(&b, 100)};
    unpacked_ = 0;
    const RepackedTiles tiles = RepackTiles(jobs, Options());
    EXPECT_EQ(tiles.created, first);
    EXPECT_TRUE(fs::exists(tiles.file->path()));
    EXPECT_EQ(unpacked_, first ? 3u + 7u : 0u);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(a.data) % kTileAlignment, 0u);
    ExpectTiles(a);
    ExpectTiles(b);
  }
  EXPECT_EQ(NumFiles(), 1u);
}

TEST_F(TileCacheTest, AChangedModelReplacesItsFile) {
  Matrix a;
  const std::vector<TileJob> jobs = {Job(&a, 16)};
  TileCacheOptions options = Options();
  const std::string old = RepackTiles(jobs, options).file->path();
  TileCacheOptions other = Options();
  other.model = "/elsewhere/some.gguf";
  RepackTiles(jobs, other);
  options.state = "2";
  const RepackedTiles tiles = RepackTiles(jobs, options);
  EXPECT_TRUE(tiles.created);
  EXPECT_FALSE(fs::exists(old));
  EXPECT_EQ(NumFiles(), 2u);  // the other model's is still there
}

TEST_F(TileCacheTest, ADamagedFileIsMadeAnew) {
  Matrix a;
  const std::vector<TileJob> jobs = {Job(&a, 16)};
  const std::string file = RepackTiles(jobs, Options()).file->path();
  for (const auto& spoil : std::vector<std::function<void()>>{
           [&] { fs::resize_file(file, fs::file_size(file) - 1); },
           [&] { fs::resize_file(file, 0); },
           [&] { WriteFile(file, std::string(fs::file_size(file), 'x')); }}) {
    spoil();
    const RepackedTiles tiles = RepackTiles(jobs, Options());
    EXPECT_TRUE(tiles.created);
    ExpectTiles(a);
  }
}

TEST_F(TileCacheTest, WithoutAPlaceTilesStayInMemory) {
  Matrix a;
  const std::vector<TileJob> jobs = {Job(&a, 40)};
  TileCacheOptions options = Options();
  WriteFile(directory_ / "file", "");
  options.directory = directory_ / "file" / "below";
  const RepackedTiles tiles = RepackTiles(jobs, options);
  EXPECT_EQ(tiles.file, nullptr);
  ExpectTiles(a);
}

TEST_F(TileCacheTest, SmallModelsStayInMemory) {
  Matrix a;
  const std::vector<TileJob> jobs = {Job(&a, 40)};
  TileCacheOptions options = Options();
  options.min_file_bytes = 1 << 20;
  const RepackedTiles tiles = RepackTiles(jobs, options);
  EXPECT_EQ(tiles.file, nullptr);
  EXPECT_EQ(NumFiles(), 0u);
  ExpectTiles(a);
}

TEST_F(TileCacheTest, AnErrorOfTheSourceLeavesNothing) {
  Matrix a;
  TileJob job = Job(&a, 1000);
  job.unpack = [](size_t first_row, size_t, TileRowBuffers&) {
    if (first_row == 512) Throw(ErrorCode::kCorruption, "a scale is not a number");
  };
  EXPECT_THROW(RepackTiles({&job, 1}, Options()), Error);
  EXPECT_EQ(NumFiles(), 0u);
}

}  // namespace

}  // namespace baleen
