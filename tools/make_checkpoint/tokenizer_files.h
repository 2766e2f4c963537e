// make_checkpoint/tokenizer_files.h: the smallest tokenizer that a model can have.
#ifndef BALEEN_TOOLS_MAKE_CHECKPOINT_TOKENIZER_FILES_H_
#define BALEEN_TOOLS_MAKE_CHECKPOINT_TOKENIZER_FILES_H_

#include "shapes.h"

namespace baleen::make_checkpoint {

// 256 bytes and two more.
bool HasRoomForTokenizer(const Json& config);

// tokenizer.json: one token for each byte, no merges, V3's pre-tokenizer, and the two tokens
// that `config` names for the beginning and end of text. A text has as many tokens as bytes.
// Error{kInvalidArgument} if the config's ids are absurd.
Json TokenizerJson(const Json& config);

Json TokenizerConfigJson();

}  // namespace baleen::make_checkpoint

#endif  // BALEEN_TOOLS_MAKE_CHECKPOINT_TOKENIZER_FILES_H_
