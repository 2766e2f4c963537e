// model/expert_store.h: the routed experts of a model that is larger than its memory.
//
// A store has a number of slots, each with room for one expert. Who computes a layer borrows the
// experts that its router has chosen: those in slots are pinned, the others are read around the
// page cache by a few threads, into slots of experts that nobody has borrowed, while the borrower
// computes what is there. The hot experts stay: the one that tokens have asked for least often
// makes room (LeastUsedSlot).
#ifndef BALEEN_MODEL_EXPERT_STORE_H_
#define BALEEN_MODEL_EXPERT_STORE_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "model/weights.h"
#include "tensor/direct_file.h"
#include "tensor/mapped_file.h"

namespace baleen {

// Where the experts of a model lie on disk, and how each lies in a slot.
struct ExpertMap {
  struct Read {  // all numbers are multiples of DirectFile::kAlignment
    size_t file = 0;
    uint64_t offset = 0;
    size_t bytes = 0;
    size_t needed = 0;  // without what rounding has added, which may be behind the file's end
    size_t slot_offset = 0;
  };
  struct Expert {
    MlpWeights weights;                         // as mapped
    std::vector<Read> reads;                    // at most one for each matrix
    std::array<size_t, 3> matrix_offsets = {};  // in the slot: gate, up, down
  };

  std::vector<std::string> files;
  std::vector<std::vector<Expert>> layers;  // [layer][expert]; empty: the layer has none
  size_t slot_bytes = 0;                    // of the largest expert

  size_t num_experts() const;
  // Of all reads of the experts for which `wanted` of the number through the model is true.
  std::vector<FileRange> Ranges(const std::function<bool(size_t)>& wanted) const;
};

// Plans the reads of one expert, whose matrices begin at `places`, and adds it to a layer.
void AddExpert(const MlpWeights& weights, const std::array<FilePlace, 3>& places, size_t layer,
               ExpertMap& map);

struct SlotUse {
  uint32_t count = 0;     // how often the slot's expert was asked for
  uint64_t last_use = 0;  // a clock of borrowings
  bool is_borrowed = false;
};

// The slot, not borrowed, whose expert was asked for least often; of several the one that was asked
// for last, so that a long prompt, which goes through all experts in turn, leaves most slots alone.
// slots.size() if all are borrowed.
size_t LeastUsedSlot(std::span<const SlotUse> slots);

struct ExpertStoreOptions {
  size_t num_slots = 0;  // at least 1
  // Which slot to take when none is free; to be replaced by tests only.
  std::function<size_t(std::span<const SlotUse>)> choose_victim = LeastUsedSlot;
};

// Threads: one may borrow and give back. The bytes may be read from any.
class ExpertStore {
 public:
  // Errors: kNotFound, a file cannot be opened; kResourceExhausted, no address space for the slots.
  ExpertStore(ExpertMap map, ExpertStoreOptions options);
  ~ExpertStore();

  // Some experts of one layer, whose slots are pinned as long as this object lives. Movable.
  class Lease {
   public:
    Lease(Lease&&) noexcept;
    Lease& operator=(Lease&&) = delete;
    ~Lease();  // waits for what is still being read

    // Of experts[i] as borrowed, in its slot. The bytes are there once *pending(i) is 0; it can be
    // waited for (std::atomic::wait).
    MlpWeights weights(size_t i) const;
    const std::atomic<uint32_t>* pending(size_t i) const;

    // Waits for all reads. Errors: as DirectFile::Read; what was computed is then worthless, and
    // the experts concerned have left the store again when the lease ends.
    void Check() const;

   private:
    friend class ExpertStore;
    struct Held;
    explicit Lease(std::unique_ptr<Held> held);
    std::unique_ptr<Held> held_;
  };

  // `experts` of `layer`, no number twice; at most num_slots() together with all that is lent.
  // Reads begin at once, in the order of `experts`.
  Lease Borrow(size_t layer, std::span<const int32_t> experts);

  size_t num_slots() const;
  bool HasLayer(size_t layer) const;

  struct Counts {
    uint64_t uses = 0;  // experts borrowed
    uint64_t hits = 0;  // of these, found in slots
    uint64_t bytes_read = 0;
  };
  Counts counts() const;

  // What would be read for the experts that are in no slot now.
  std::vector<FileRange> RangesOnDisk() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace baleen

#endif  // BALEEN_MODEL_EXPERT_STORE_H_
