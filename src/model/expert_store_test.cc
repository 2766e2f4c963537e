// The store on files whose every byte is known.
#include "model/expert_store.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/random.h"
#include "tensor/direct_file.h"

namespace baleen {
namespace {

constexpr size_t kLayers = 2, kExperts = 6;
// F32 [3, 700], [3, 700], [700, 3]: 8,400 bytes each.
constexpr size_t kRows = 3, kCols = 700, kMatrixBytes = kRows * kCols * 4;
constexpr size_t kHeaderBytes = 100;  // so that nothing is aligned

std::byte ByteAt(size_t offset) { return static_cast<std::byte>(offset * 2654435761u >> 13); }

class ExpertStoreTest : public testing::Test {
 protected:
  ExpertStoreTest()
      : path_((std::filesystem::path(testing::TempDir()) /
               ("experts_" + std::to_string(::getpid()) + "_" +
                testing::UnitTest::GetInstance()->current_test_info()->name()))
                  .string()) {
    WriteFile();
  }
  ~ExpertStoreTest() override { std::filesystem::remove(path_); }

  static size_t Offset(size_t layer, size_t expert, size_t matrix) {
    return kHeaderBytes + ((layer * kExperts + expert) * 3 + matrix) * kMatrixBytes;
  }
  void WriteFile() const {
    std::ofstream file(path_, std::ios::binary);
    const size_t size = Offset(kLayers, 0, 0);
    for (size_t i = 0; i < size; ++i) file.put(static_cast<char>(ByteAt(i)));
  }
  ExpertMap Map() const {
    ExpertMap map;
    for (size_t l = 0; l < kLayers; ++l) {
      for (size_t e = 0; e < kExperts; ++e) {
        const MlpWeights weights = {.gate_proj = {.rows = kRows, .cols = kCols},
                                    .up_proj = {.rows = kRows, .cols = kCols},
                                    .down_proj = {.rows = kCols, .cols = kRows}};
        AddExpert(weights,
                  {FilePlace{path_, Offset(l, e, 0)}, FilePlace{path_, Offset(l, e, 1)},
                   FilePlace{path_, Offset(l, e, 2)}},
                  l, map);
      }
    }
    return map;
  }
  static void ExpectBytes(const ExpertStore::Lease& lease, size_t i, size_t layer, size_t expert) {
    const MlpWeights weights = lease.weights(i);
    const Matrix* matrices[] = {&weights.gate_proj, &weights.up_proj, &weights.down_proj};
    for (size_t m = 0; m < 3; ++m) {
      ASSERT_EQ(matrices[m]->size_bytes(), kMatrixBytes);
      for (size_t b = 0; b < kMatrixBytes; ++b) {
        ASSERT_EQ(matrices[m]->data[b], ByteAt(Offset(layer, expert, m) + b))
            << "layer " << layer << ", expert " << expert << ", matrix " << m << ", byte " << b;
      }
    }
  }
  static void Use(ExpertStore& store, size_t layer, std::vector<int32_t> experts) {
    const ExpertStore::Lease lease = store.Borrow(layer, experts);
    lease.Check();
    for (size_t i = 0; i < experts.size(); ++i) {
      EXPECT_EQ(lease.pending(i)->load(), 0u);
      ExpectBytes(lease, i, layer, static_cast<size_t>(experts[i]));
    }
  }
  static uint64_t HitsOf(ExpertStore& store, size_t layer, std::vector<int32_t> experts) {
    const uint64_t before = store.counts().hits;
    Use(store, layer, std::move(experts));
    return store.counts().hits - before;
  }

  const std::string path_;
};

TEST(ExpertMapTest, MatricesSideBySideAreOneRead) {
  const MlpWeights weights = {.gate_proj = {.rows = 10, .cols = 100},  // 4,000 bytes each
                              .up_proj = {.rows = 10, .cols = 100},
                              .down_proj = {.rows = 100, .cols = 10}};
  ExpertMap map;
  // down, gate and up in this order from byte 5,000 on, to 17,000: blocks 1 to 4.
  AddExpert(weights, {FilePlace{"a", 9000}, FilePlace{"a", 13000}, FilePlace{"a", 5000}}, 3, map);
  ASSERT_EQ(map.layers.size(), 4u);
  const ExpertMap::Expert& together = map.layers[3][0];
  ASSERT_EQ(together.reads.size(), 1u);
  EXPECT_EQ(together.reads[0].offset, 4096u);
  EXPECT_EQ(together.reads[0].needed, 17000u - 4096);
  EXPECT_EQ(together.reads[0].bytes, 4u * 4096);
  EXPECT_EQ(together.matrix_offsets, (std::array<size_t, 3>{9000 - 4096, 13000 - 4096, 904}));
  // Far apart, and in two files: 4,000 bytes from 3,000 on are blocks 0 and 1, as are those from
  // 100 on; from 16,384 on block 4.
  AddExpert(weights, {FilePlace{"b", 100}, FilePlace{"b", 16384}, FilePlace{"a", 3000}}, 3, map);
  const ExpertMap::Expert& apart = map.layers[3][1];
  ASSERT_EQ(apart.reads.size(), 3u);
  EXPECT_EQ(map.files, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(apart.matrix_offsets, (std::array<size_t, 3>{8192 + 100, 16384, 3000}));
  EXPECT_EQ(map.slot_bytes, 5u * 4096);
}

TEST(LeastUsedSlotTest, TakesTheColdestThatNobodyHas) {
  std::vector<SlotUse> slots = {{5, 1, false}, {2, 2, false}, {3, 3, false}, {1, 4, true}};
  EXPECT_EQ(LeastUsedSlot(slots), 1u);  // slot 3 is colder, but borrowed
  slots[1].count = 3;                   // as often as slot 2, which was used last
  EXPECT_EQ(LeastUsedSlot(slots), 2u);
  slots[2].is_borrowed = true;
  EXPECT_EQ(LeastUsedSlot(slots), 1u);
  for (SlotUse& slot : slots) slot.is_borrowed = true;
  EXPECT_EQ(LeastUsedSlot(slots), 4u);
}

TEST_F(ExpertStoreTest, KeepsWhatIsAskedForMost) {
  ExpertStore store(Map(), {.num_slots = 3});
  EXPECT_EQ(HitsOf(store, 0, {0, 1}), 0u);
  EXPECT_EQ(HitsOf(store, 0, {0, 1}), 2u);  // counts: 0 and 1 have 2
  EXPECT_EQ(HitsOf(store, 1, {0}), 0u);     // the third slot: 1
  EXPECT_EQ(HitsOf(store, 1, {1}), 0u);     // takes the place of layer 1's 0
  EXPECT_EQ(HitsOf(store, 1, {0}), 0u);     // and back: 2
  EXPECT_EQ(HitsOf(store, 0, {0, 1}), 2u);  // 3 and 3: still there
  EXPECT_EQ(HitsOf(store, 1, {0}), 1u);     // 3
  const ExpertStore::Counts counts = store.counts();
  EXPECT_EQ(counts.uses, 10u);
  EXPECT_EQ(counts.hits, 5u);
  // 25,200 bytes of an expert, at an offset that is no multiple of 4,096, are seven or eight
  // blocks.
  EXPECT_GE(counts.bytes_read, 5u * 7 * 4096);
  EXPECT_LE(counts.bytes_read, 5u * 8 * 4096);
}

TEST_F(ExpertStoreTest, CountsAge) {
  ExpertStore store(Map(), {.num_slots = 2});
  // 191 uses of expert 0, and at the 192nd, 16 for each of 12 experts, all counts are halved.
  for (int i = 0; i < 191; ++i) Use(store, 0, {0});
  Use(store, 0, {1});  // 191 and 1 become 95 and 0
  for (int i = 0; i < 94; ++i) Use(store, 0, {1});
  Use(store, 0, {2});                              // expert 1 has 94: it makes room
  EXPECT_EQ(HitsOf(store, 0, {0}), 1u);            // 96
  for (int i = 0; i < 3; ++i) Use(store, 0, {1});  // 97, in the place of expert 2
  EXPECT_EQ(HitsOf(store, 0, {3}), 0u);
  EXPECT_EQ(HitsOf(store, 0, {1}), 1u);  // without ages, expert 0 would be the hotter one by far
}

TEST_F(ExpertStoreTest, EveryByteIsTheFilesWhateverWasEvicted) {
  ExpertStore store(Map(), {.num_slots = 5});
  Random random(1);
  for (int round = 0; round < 100; ++round) {
    const size_t layer = random.Below(kLayers);
    const auto first = static_cast<int32_t>(random.Below(kExperts));
    const auto at = [&](int32_t i) { return (first + i) % static_cast<int32_t>(kExperts); };
    // As a prompt does: a second wave is read while the first is in use.
    const std::vector<int32_t> wave = {at(0), at(1)}, next_wave = {at(2), at(3), at(4)};
    const ExpertStore::Lease lease = store.Borrow(layer, wave);
    const ExpertStore::Lease next = store.Borrow(layer, next_wave);
    next.Check();
    lease.Check();
    for (size_t i = 0; i < 2; ++i) ExpectBytes(lease, i, layer, static_cast<size_t>(wave[i]));
    for (size_t i = 0; i < 3; ++i) ExpectBytes(next, i, layer, static_cast<size_t>(next_wave[i]));
  }
  EXPECT_GT(store.counts().hits, 0u);
  EXPECT_GT(store.counts().uses, store.counts().hits + 12);
}

// The planted fault: a policy that takes the slot of an expert that somebody computes with.
TEST_F(ExpertStoreTest, AnExpertInUseIsNeverEvicted) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto borrow = [&] {
    ExpertStoreOptions options = {.num_slots = 2};
    options.choose_victim = [](std::span<const SlotUse>) { return size_t{0}; };
    ExpertStore store(Map(), options);
    const std::vector<int32_t> first = {0}, second = {1, 2};
    const ExpertStore::Lease lease = store.Borrow(0, first);
    const ExpertStore::Lease next = store.Borrow(0, second);
  };
  EXPECT_DEATH(borrow(), "num_leases == 0");
}

TEST_F(ExpertStoreTest, ADiskThatCannotReadIsAnErrorOfThatUseOnly) {
  ExpertStore store(Map(), {.num_slots = 4});
  Use(store, 0, {0});
  std::filesystem::resize_file(path_, Offset(0, 3, 1));  // within expert 3
  {
    const std::vector<int32_t> experts = {0, 1, 3};
    const ExpertStore::Lease lease = store.Borrow(0, experts);
    try {
      lease.Check();
      ADD_FAILURE() << "read what is not there";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kCorruption);
      EXPECT_NE(std::string(error.what()).find(path_), std::string::npos) << error.what();
    }
    ExpectBytes(lease, 1, 0, 1);  // the others are whole
  }
  WriteFile();
  EXPECT_EQ(HitsOf(store, 0, {0, 1, 3}), 2u);  // expert 3 is read again
}

TEST_F(ExpertStoreTest, DirectReadsEndWithTheFile) {
  const DirectFile file(path_);
  const size_t size = Offset(kLayers, 0, 0), last = size / 4096 * 4096;
  EXPECT_EQ(file.size(), size);
  alignas(4096) static std::byte buffer[2 * 4096];
  file.Read(last, {buffer, 4096}, size - last);
  for (size_t i = 0; i < size - last; ++i) ASSERT_EQ(buffer[i], ByteAt(last + i));
  EXPECT_THROW(file.Read(last, {buffer, 4096}, size - last + 1), Error);
  EXPECT_THROW(DirectFile(path_ + ".none"), Error);
}

}  // namespace
}  // namespace baleen
