// cli/train_tokenizer.h: `baleen tokenizer train`. Apart from tokenizer.cc because this verb makes
// models, which the public library does not do.
#ifndef BALEEN_CLI_TRAIN_TOKENIZER_H_
#define BALEEN_CLI_TRAIN_TOKENIZER_H_

#include "cli/command_line.h"

namespace baleen {

void AddTrainTokenizer(Verb& tokenizer);

}  // namespace baleen

#endif  // BALEEN_CLI_TRAIN_TOKENIZER_H_
