#include "tokenizer_files.h"

#include <string>

#include "base/error.h"

namespace baleen::make_checkpoint {

namespace {

constexpr const char* kBosName = "<｜begin▁of▁sentence｜>";
constexpr const char* kEosName = "<｜end▁of▁sentence｜>";
constexpr int64_t kNumBytes = 256;

// The part of a tokenizer.json that does not depend on the vocabulary. The patterns are those of
// DeepSeek-V3.
constexpr const char* kSkeleton = R"json({
  "version": "1.0",
  "truncation": null,
  "padding": null,
  "added_tokens": [],
  "normalizer": {"type": "Sequence", "normalizers": []},
  "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
    {"type": "Split", "pattern": {"Regex": "\\p{N}{1,3}"},
     "behavior": "Isolated", "invert": false},
    {"type": "Split", "pattern": {"Regex": "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"},
     "behavior": "Isolated", "invert": false},
    {"type": "Split", "pattern": {"Regex":
     "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"},
     "behavior": "Isolated", "invert": false},
    {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}
  ]},
  "post_processor": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false,
                     "use_regex": true},
  "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
              "use_regex": true},
  "model": {"type": "BPE", "dropout": null, "unk_token": null,
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
            "byte_fallback": false, "vocab": {}, "merges": []}
})json";

bool IsItsOwnSpelling(int byte) {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

// GPT-2's spelling of bytes as characters: printable ones are themselves, the others count up
// from U+0100. All are below U+0800.
std::string Spelling(int byte) {
  int code_point = byte;
  if (!IsItsOwnSpelling(byte)) {
    code_point = 0x100;
    for (int other = 0; other < byte; ++other) code_point += !IsItsOwnSpelling(other);
  }
  if (code_point < 0x80) return std::string(1, static_cast<char>(code_point));
  return {static_cast<char>(0xc0 | code_point >> 6), static_cast<char>(0x80 | (code_point & 0x3f))};
}

int64_t TokenId(const Json& config, const char* key) {
  const auto found = config.find(key);
  if (found == config.end() || !found->is_number_unsigned() ||
      *found >= config.value("vocab_size", int64_t{0})) {
    Throw(ErrorCode::kInvalidArgument, "config: {} is not an id below vocab_size", key);
  }
  return found->get<int64_t>();
}

Json AddedToken(int64_t id, const char* name) {
  return {{"id", id},        {"content", name},     {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", true}};
}

}  // namespace

bool HasRoomForTokenizer(const Json& config) {
  return config.value("vocab_size", int64_t{0}) >= kNumBytes + 2;
}

Json TokenizerJson(const Json& config) {
  const int64_t bos_id = TokenId(config, "bos_token_id");
  const int64_t eos_id = TokenId(config, "eos_token_id");
  if (bos_id == eos_id) {
    Throw(ErrorCode::kInvalidArgument, "config: bos_token_id and eos_token_id are both {}", bos_id);
  }
  Json tokenizer = Json::parse(kSkeleton);
  Json& vocab = tokenizer["model"]["vocab"];
  int64_t id = 0;
  for (int byte = 0; byte < kNumBytes; ++byte, ++id) {
    while (id == bos_id || id == eos_id) ++id;
    vocab[Spelling(byte)] = id;
  }
  tokenizer["added_tokens"] = {AddedToken(bos_id, kBosName), AddedToken(eos_id, kEosName)};
  return tokenizer;
}

Json TokenizerConfigJson() {
  return {{"add_bos_token", true},
          {"add_eos_token", false},
          {"bos_token", kBosName},
          {"eos_token", kEosName},
          {"clean_up_tokenization_spaces", false},
          {"tokenizer_class", "PreTrainedTokenizerFast"}};
}

}  // namespace baleen::make_checkpoint
