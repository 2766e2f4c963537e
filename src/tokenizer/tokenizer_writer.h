// tokenizer/tokenizer_writer.h: a trained BPE as the files of a Hugging Face checkpoint.
//
// The files have the form of DeepSeek-V3's: its pre-tokenizer, the names of its control, tool and
// fill-in-the-middle tokens with their flags, its chat format. The first three control tokens have
// the lowest ids, bytes and merges follow, all other control tokens have the highest ids; the 800
// place holders of the original are left out.
#ifndef BALEEN_TOKENIZER_TOKENIZER_WRITER_H_
#define BALEEN_TOKENIZER_TOKENIZER_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "tokenizer/bpe_trainer.h"

namespace baleen {

// How many control tokens stand before the bytes (TrainedBpe's reserved ids) and after the merges.
inline constexpr int32_t kNumControlTokensInFront = 3;
inline constexpr int32_t kNumControlTokensBehind = 15;
inline constexpr int32_t kMinVocabSize = kNumControlTokensInFront + 256 + kNumControlTokensBehind;

// tokenizer.json. Requires kNumControlTokensInFront reserved tokens.
std::string TokenizerJson(const TrainedBpe& bpe);

// tokenizer_config.json; `model_max_length` is the longest context, in tokens.
std::string TokenizerConfigJson(size_t model_max_length);

// The Jinja program in it. It renders what V3's own does, with that one's bugs in calls and their
// results mended, as ChatTemplate renders it.
std::string_view TrainedChatTemplate();

}  // namespace baleen

#endif  // BALEEN_TOKENIZER_TOKENIZER_WRITER_H_
