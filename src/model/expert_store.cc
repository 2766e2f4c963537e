#include "model/expert_store.h"

#include <sys/mman.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "base/check.h"
#include "base/error.h"

namespace baleen {

namespace {

constexpr uint64_t kBlock = DirectFile::kAlignment;
// When an expert has been asked for so often on average, all counts are halved: what was hot in an
// earlier text makes room for what is hot now.
constexpr uint64_t kAgingUses = 16;
constexpr size_t kNone = ~size_t{0};

uint64_t RoundDown(uint64_t bytes) { return bytes / kBlock * kBlock; }
uint64_t RoundUp(uint64_t bytes) { return RoundDown(bytes + kBlock - 1); }

std::array<const Matrix*, 3> MatricesOf(const MlpWeights& mlp) {
  return {&mlp.gate_proj, &mlp.up_proj, &mlp.down_proj};
}

size_t FileIndex(const std::string& path, std::vector<std::string>& files) {
  const auto index = static_cast<size_t>(std::ranges::find(files, path) - files.begin());
  if (index == files.size()) files.push_back(path);
  return index;
}

}  // namespace

size_t ExpertMap::num_experts() const {
  size_t count = 0;
  for (const auto& layer : layers) count += layer.size();
  return count;
}

std::vector<FileRange> ExpertMap::Ranges(const std::function<bool(size_t)>& wanted) const {
  std::vector<FileRange> ranges;
  size_t number = 0;
  for (const auto& layer : layers) {
    for (const Expert& expert : layer) {
      if (!wanted(number++)) continue;
      for (const Read& read : expert.reads) {
        ranges.push_back({files[read.file], read.offset, read.bytes});
      }
    }
  }
  return ranges;
}

void AddExpert(const MlpWeights& weights, const std::array<FilePlace, 3>& places, size_t layer,
               ExpertMap& map) {
  ExpertMap::Expert expert = {.weights = weights};
  std::array<size_t, 3> files, order = {0, 1, 2};
  for (size_t i = 0; i < 3; ++i) files[i] = FileIndex(places[i].path, map.files);
  std::ranges::sort(order, {}, [&](size_t i) { return std::pair(files[i], places[i].offset); });
  size_t slot_bytes = 0;
  for (const size_t i : order) {
    const uint64_t begin = places[i].offset, end = begin + MatricesOf(weights)[i]->size_bytes();
    // Matrices that follow each other in the file are one read.
    const bool joins = !expert.reads.empty() && expert.reads.back().file == files[i] &&
                       begin <= expert.reads.back().offset + expert.reads.back().bytes;
    if (!joins) {
      expert.reads.push_back(
          {.file = files[i], .offset = RoundDown(begin), .slot_offset = slot_bytes});
    }
    ExpertMap::Read& read = expert.reads.back();
    read.needed = std::max<size_t>(read.needed, end - read.offset);
    read.bytes = RoundUp(read.needed);
    slot_bytes = read.slot_offset + read.bytes;
    expert.matrix_offsets[i] = read.slot_offset + (begin - read.offset);
  }
  map.slot_bytes = std::max(map.slot_bytes, slot_bytes);
  if (map.layers.size() <= layer) map.layers.resize(layer + 1);
  map.layers[layer].push_back(std::move(expert));
}

size_t LeastUsedSlot(std::span<const SlotUse> slots) {
  size_t best = slots.size();
  for (size_t i = 0; i < slots.size(); ++i) {
    if (slots[i].is_borrowed) continue;
    if (best == slots.size() || slots[i].count < slots[best].count ||
        (slots[i].count == slots[best].count && slots[i].last_use > slots[best].last_use)) {
      best = i;
    }
  }
  return best;
}

class ExpertStore::Impl {
 public:
  struct Slot {
    std::byte* data = nullptr;
    size_t expert = kNone;  // number among all of the model
    size_t num_leases = 0;
    std::atomic<uint32_t> pending = 0;  // reads under way
    std::exception_ptr error;           // of a read; to be looked at when none is pending
  };

  Impl(ExpertMap map, ExpertStoreOptions options);
  ~Impl();

  std::vector<Slot*> Borrow(size_t layer, std::span<const int32_t> experts);
  void GiveBack(Slot& slot);

  const ExpertMap& map() const { return map_; }
  size_t num_slots() const { return slots_.size(); }
  const Counts& counts() const { return counts_; }
  bool Has(size_t expert) const { return slot_of_[expert] != kNone; }
  static void WaitFor(const Slot& slot) {
    for (uint32_t left; (left = slot.pending.load(std::memory_order_acquire)) != 0;) {
      slot.pending.wait(left, std::memory_order_acquire);
    }
  }

 private:
  // One read of at most kDirectReadBytes.
  struct Piece {
    Slot* slot;
    const DirectFile* file;
    uint64_t offset;
    std::span<std::byte> out;
    size_t needed;
  };

  size_t IndexOf(const Slot& slot) const { return static_cast<size_t>(&slot - slots_.data()); }
  void Count(size_t expert);
  Slot& Evict();
  void StartReading(const ExpertMap::Expert& expert, Slot& slot);
  void ReadLoop();

  const ExpertMap map_;
  const std::function<size_t(std::span<const SlotUse>)> choose_victim_;
  std::vector<DirectFile> files_;
  std::vector<size_t> first_expert_;  // of each layer, numbered through the model
  std::byte* memory_ = nullptr;
  size_t memory_bytes_ = 0;

  // The borrower's.
  std::vector<Slot> slots_;
  std::vector<SlotUse> uses_;         // of the slots
  std::vector<size_t> free_;          // slots that have never been used, or whose read failed
  std::vector<size_t> slot_of_;       // of each expert; kNone
  std::vector<uint32_t> use_counts_;  // of each expert
  uint64_t uses_until_aging_;
  uint64_t clock_ = 0;
  Counts counts_;

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Piece> queue_;  // guarded by mutex_
  bool stop_ = false;        // guarded by mutex_
  std::vector<std::thread> readers_;
};

ExpertStore::Impl::Impl(ExpertMap map, ExpertStoreOptions options)
    : map_(std::move(map)),
      choose_victim_(std::move(options.choose_victim)),
      slots_(options.num_slots),
      uses_(options.num_slots),
      slot_of_(map_.num_experts(), kNone),
      use_counts_(map_.num_experts(), 0),
      uses_until_aging_(kAgingUses * map_.num_experts()) {
  BALEEN_CHECK(options.num_slots > 0);
  for (const std::string& path : map_.files) files_.emplace_back(path);
  size_t count = 0;
  for (const auto& layer : map_.layers) {
    first_expert_.push_back(count);
    count += layer.size();
  }
  memory_bytes_ = map_.slot_bytes * slots_.size();
  // Address space only: the system gives pages as slots are filled.
  void* memory = ::mmap(nullptr, memory_bytes_, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    Throw(ErrorCode::kResourceExhausted, "no room for {} experts of {} MB; lower --memory-limit",
          slots_.size(), map_.slot_bytes >> 20);
  }
  ::madvise(memory, memory_bytes_, MADV_HUGEPAGE);
  memory_ = static_cast<std::byte*>(memory);
  for (size_t i = slots_.size(); i-- > 0;) {
    slots_[i].data = memory_ + i * map_.slot_bytes;
    free_.push_back(i);
  }
  for (size_t i = 0; i < kDirectReaders; ++i) readers_.emplace_back([this] { ReadLoop(); });
}

ExpertStore::Impl::~Impl() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& reader : readers_) reader.join();
  ::munmap(memory_, memory_bytes_);
}

void ExpertStore::Impl::Count(size_t expert) {
  ++counts_.uses;
  ++use_counts_[expert];
  if (--uses_until_aging_ > 0) return;
  uses_until_aging_ = kAgingUses * map_.num_experts();
  for (uint32_t& count : use_counts_) count /= 2;
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].expert != kNone) uses_[i].count = use_counts_[slots_[i].expert];
  }
}

ExpertStore::Impl::Slot& ExpertStore::Impl::Evict() {
  if (!free_.empty()) {
    Slot& slot = slots_[free_.back()];
    free_.pop_back();
    return slot;
  }
  const size_t victim = choose_victim_(uses_);
  BALEEN_CHECK(victim < slots_.size());          // else more was borrowed than there are slots
  BALEEN_CHECK(slots_[victim].num_leases == 0);  // somebody computes with it
  slot_of_[slots_[victim].expert] = kNone;
  return slots_[victim];
}

std::vector<ExpertStore::Impl::Slot*> ExpertStore::Impl::Borrow(size_t layer,
                                                                std::span<const int32_t> experts) {
  std::vector<Slot*> held(experts.size(), nullptr);
  ++clock_;
  const auto hold = [&](size_t i, size_t expert, Slot& slot) {
    held[i] = &slot;
    ++slot.num_leases;
    uses_[IndexOf(slot)] = {use_counts_[expert], clock_, true};
  };
  // What is there is pinned before anything makes room.
  const size_t first = first_expert_[layer];
  for (size_t i = 0; i < experts.size(); ++i) {
    const size_t expert = first + static_cast<size_t>(experts[i]);
    Count(expert);
    if (slot_of_[expert] == kNone) continue;
    ++counts_.hits;
    hold(i, expert, slots_[slot_of_[expert]]);
  }
  for (size_t i = 0; i < experts.size(); ++i) {
    if (held[i] != nullptr) continue;
    const auto number = static_cast<size_t>(experts[i]);
    Slot& slot = Evict();
    slot.expert = first + number;
    slot_of_[slot.expert] = IndexOf(slot);
    hold(i, slot.expert, slot);
    StartReading(map_.layers[layer][number], slot);
  }
  return held;
}

void ExpertStore::Impl::StartReading(const ExpertMap::Expert& expert, Slot& slot) {
  std::vector<Piece> pieces;
  for (const ExpertMap::Read& read : expert.reads) {
    for (size_t done = 0; done < read.needed; done += kDirectReadBytes) {
      const size_t bytes = std::min(kDirectReadBytes, read.bytes - done);
      pieces.push_back({.slot = &slot,
                        .file = &files_[read.file],
                        .offset = read.offset + done,
                        .out = {slot.data + read.slot_offset + done, bytes},
                        .needed = std::min(bytes, read.needed - done)});
    }
    counts_.bytes_read += read.bytes;
  }
  slot.error = nullptr;
  slot.pending.store(static_cast<uint32_t>(pieces.size()), std::memory_order_relaxed);
  {
    const std::lock_guard lock(mutex_);
    queue_.insert(queue_.end(), pieces.begin(), pieces.end());
  }
  wake_.notify_all();
}

void ExpertStore::Impl::ReadLoop() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [&] { return stop_ || !queue_.empty(); });
    if (stop_) return;
    const Piece piece = queue_.front();
    queue_.pop_front();
    lock.unlock();
    std::exception_ptr error;
    try {
      piece.file->Read(piece.offset, piece.out, piece.needed);
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    if (error) piece.slot->error = error;
    if (piece.slot->pending.fetch_sub(1, std::memory_order_release) == 1) {
      piece.slot->pending.notify_all();
    }
  }
}

void ExpertStore::Impl::GiveBack(Slot& slot) {
  WaitFor(slot);
  if (--slot.num_leases > 0) return;
  const size_t index = IndexOf(slot);
  uses_[index].is_borrowed = false;
  if (!slot.error) return;
  slot_of_[slot.expert] = kNone;
  slot.expert = kNone;
  slot.error = nullptr;
  free_.push_back(index);
}

struct ExpertStore::Lease::Held {
  Impl& store;
  size_t layer;
  std::vector<int32_t> experts;
  std::vector<Impl::Slot*> slots;
};

ExpertStore::Lease::Lease(std::unique_ptr<Held> held) : held_(std::move(held)) {}

ExpertStore::Lease::Lease(Lease&&) noexcept = default;

ExpertStore::Lease::~Lease() {
  if (held_ == nullptr) return;
  for (Impl::Slot* slot : held_->slots) held_->store.GiveBack(*slot);
}

MlpWeights ExpertStore::Lease::weights(size_t i) const {
  const ExpertMap::Expert& expert =
      held_->store.map().layers[held_->layer][static_cast<size_t>(held_->experts[i])];
  MlpWeights weights = expert.weights;
  const std::byte* data = held_->slots[i]->data;
  weights.gate_proj.data = data + expert.matrix_offsets[0];
  weights.up_proj.data = data + expert.matrix_offsets[1];
  weights.down_proj.data = data + expert.matrix_offsets[2];
  return weights;
}

const std::atomic<uint32_t>* ExpertStore::Lease::pending(size_t i) const {
  return &held_->slots[i]->pending;
}

void ExpertStore::Lease::Check() const {
  for (const Impl::Slot* slot : held_->slots) {
    Impl::WaitFor(*slot);
    if (slot->error) std::rethrow_exception(slot->error);
  }
}

ExpertStore::ExpertStore(ExpertMap map, ExpertStoreOptions options)
    : impl_(std::make_unique<Impl>(std::move(map), std::move(options))) {}

ExpertStore::~ExpertStore() = default;

ExpertStore::Lease ExpertStore::Borrow(size_t layer, std::span<const int32_t> experts) {
  auto held = std::make_unique<Lease::Held>(
      Lease::Held{*impl_, layer, {experts.begin(), experts.end()}, {}});
  held->slots = impl_->Borrow(layer, experts);
  return Lease(std::move(held));
}

size_t ExpertStore::num_slots() const { return impl_->num_slots(); }

bool ExpertStore::HasLayer(size_t layer) const {
  return layer < impl_->map().layers.size() && !impl_->map().layers[layer].empty();
}

ExpertStore::Counts ExpertStore::counts() const { return impl_->counts(); }

std::vector<FileRange> ExpertStore::RangesOnDisk() const {
  return impl_->map().Ranges([&](size_t expert) { return !impl_->Has(expert); });
}

}  // namespace baleen
