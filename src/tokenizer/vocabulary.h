// tokenizer/vocabulary.h: the text tokens of a model: id -> bytes and bytes -> id.
//
// Special and other added tokens are kept apart (added_tokens.h): the name of one may equal the
// bytes of a text token.
#ifndef BALEEN_TOKENIZER_VOCABULARY_H_
#define BALEEN_TOKENIZER_VOCABULARY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace baleen {

// The bytes of all tokens lie in one string and the index is one flat hash table, because a
// vocabulary has some 130,000 tokens of six bytes. Immutable once filled, then thread-safe.
class Vocabulary {
 public:
  // No published model has more than 200,000 tokens. A file that claims more than this is refused
  // before memory is spent on it.
  static constexpr int64_t kMaxTokens = int64_t{1} << 20;

  Vocabulary(size_t expected_tokens, size_t expected_bytes);

  // Requires 0 <= id < kMaxTokens. False, and nothing changes, if the id or the bytes are taken.
  [[nodiscard]] bool Add(int64_t id, std::string_view bytes);
  // Adds a token that Find shall not find. False if the id is taken.
  [[nodiscard]] bool AddHidden(int64_t id, std::string_view bytes);

  std::optional<int32_t> Find(std::string_view bytes) const;

  // False for a hole in the numbering as well.
  bool Contains(int64_t id) const;
  // Empty for an id that the vocabulary does not contain.
  std::string_view Bytes(int64_t id) const;
  // One past the highest id.
  int32_t size() const { return static_cast<int32_t>(tokens_.size()); }

 private:
  struct Token {
    uint32_t offset = 0;
    uint32_t num_bytes = kHole;
  };
  struct Slot {
    uint32_t hash;
    int32_t id;  // kEmpty: nothing here
  };
  static constexpr uint32_t kHole = UINT32_MAX;
  static constexpr int32_t kEmpty = -1;

  // The slot that holds `bytes`, or the empty one where they would go.
  size_t FindSlot(std::string_view bytes, uint32_t hash) const;
  void Rehash(size_t num_slots);

  std::string bytes_;
  std::vector<Token> tokens_;
  std::vector<Slot> slots_;  // a power of two of them, at most half of them used
  size_t num_indexed_ = 0;
};

}  // namespace baleen

#endif  // BALEEN_TOKENIZER_VOCABULARY_H_
