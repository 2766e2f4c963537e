// tokenizer/pre_tokenizer.h: cuts text into the pieces inside which BPE merges.
//
// Each family's regular expressions are written as a scanner, because the patterns are few and
// fixed and no regular-expression library at hand has the right version of Unicode. The scanners
// are linear in the text. Broken UTF-8 counts as unassigned characters.
#ifndef BALEEN_TOKENIZER_PRE_TOKENIZER_H_
#define BALEEN_TOKENIZER_PRE_TOKENIZER_H_

#include <cstdint>
#include <string_view>
#include <vector>

namespace baleen {

enum class PreTokenizer {
  kDeepseekLlm,  // V2, V2-Lite, Coder-V2, V2.5, deepseek-llm
  kDeepseekV3,   // V3, R1, V3.1
  kKimi,         // Kimi-K2 and Moonlight, the pattern alone
  kKimiChunked,  // the same as Moonshot's own tokenizer calls it: long text is cut first
};

// Replaces `ends` by the end of each piece, in bytes, in order; the last is text.size(). Each piece
// begins where the one before it ends, none is empty, and empty text has none.
// Requires text.size() < 2^32.
void SplitIntoPieces(PreTokenizer pre_tokenizer, std::string_view text,
                     std::vector<uint32_t>* ends);

}  // namespace baleen

#endif  // BALEEN_TOKENIZER_PRE_TOKENIZER_H_
