// training/fim.h: documents with a hole, so that a model learns to fill one (PSM order of
// DeepSeek-V3, arXiv:2412.19437 section 4.1):
//
//   <｜fim▁begin｜> prefix <｜fim▁hole｜> suffix <｜fim▁end｜> middle
//
// Where documents are cut was never published. Here, as arXiv:2207.14255 does, both ends of the
// middle are drawn uniformly over the text; or, for a share of the documents, the middle is one
// whole line with its line break, as editors ask for it.
#ifndef BALEEN_TRAINING_FIM_H_
#define BALEEN_TRAINING_FIM_H_

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "base/random.h"
#include "tokenizer/tokenizer.h"

namespace baleen {

// Immutable, thread-safe. The tokenizer must outlive it.
class FimEncoder {
 public:
  // Error{kInvalidArgument} if the vocabulary lacks one of the three tokens.
  FimEncoder(const Tokenizer& tokenizer, double line_share);

  // Appends the tokens of `text`, cut at places that `random` chooses.
  void Append(std::string_view text, Random* random, std::vector<int32_t>* ids) const;

 private:
  const Tokenizer& tokenizer_;
  double line_share_;
  int32_t begin_, hole_, end_;
};

// [begin, end) of a middle: anywhere between characters, or one line that is not blank (anywhere if
// there is none). Requires text that is not empty.
std::pair<size_t, size_t> ChooseSpan(std::string_view text, Random* random);
std::pair<size_t, size_t> ChooseLine(std::string_view text, Random* random);

}  // namespace baleen

#endif  // BALEEN_TRAINING_FIM_H_
