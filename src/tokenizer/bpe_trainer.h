// tokenizer/bpe_trainer.h: learns the merges of a byte-level BPE from counted words.
//
// Each word starts as one token for each byte; again and again the adjacent pair that comes most
// often (of equals, the one of lower ids) becomes a token, wherever it stands, until the vocabulary
// is full. Only words that hold the pair are touched, and a heap finds the next pair; its entries
// may be out of date and are put right when they come up.
//
// The merges are those of BpeTrainer in the `tokenizers` library (huggingface/tokenizers:
// tokenizers/src/models/bpe/trainer.rs), except where that counts in 32 bits and overflows.
#ifndef BALEEN_TOKENIZER_BPE_TRAINER_H_
#define BALEEN_TOKENIZER_BPE_TRAINER_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/function_ref.h"
#include "tokenizer/word_counts.h"

namespace baleen {

struct BpeTrainerOptions {
  // All tokens: the reserved ones, 256 bytes, and what merges make.
  int32_t vocab_size = 0;
  // Ids below this are left to others (control tokens); the bytes follow in the order of
  // ByteLevelOrder.
  int32_t num_reserved = 0;
  // A pair that comes less often is not merged.
  uint64_t min_count = 0;
};

struct TrainedBpe {
  std::vector<std::string> tokens;                  // bytes by id; the reserved ones are empty
  std::vector<std::pair<int32_t, int32_t>> merges;  // ids, in the order of rank
};

// Fewer tokens than asked for come back when no pair is left. `progress(tokens, vocab_size)` is
// called now and then. Requires vocab_size >= num_reserved + 256.
TrainedBpe TrainBpe(WordCounts words, const BpeTrainerOptions& options,
                    FunctionRef<void(size_t, size_t)> progress);

}  // namespace baleen

#endif  // BALEEN_TOKENIZER_BPE_TRAINER_H_
