// tokenizer/added_tokens.h: tokens that are found in text by name, before any pre-tokenizer.
//
// Special tokens (beginning of text, end of turn) and other added ones. Matching is that of the
// `tokenizers` library: leftmost, longest; first the names flagged normalized=false in the whole
// text, then the others in what is left.
#ifndef BALEEN_TOKENIZER_ADDED_TOKENS_H_
#define BALEEN_TOKENIZER_ADDED_TOKENS_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace baleen {

struct AddedToken {
  int32_t id = 0;
  std::string name;         // its text, as it is
  bool is_special = false;  // dropped when decoding without special tokens
  bool is_normalized = false;
};

// Immutable once filled, then thread-safe.
class AddedTokens {
 public:
  // Longest name; bounds the time that a text can make us spend at each byte.
  static constexpr size_t kMaxNameBytes = 512;

  // Requires 0 < name.size() <= kMaxNameBytes. False, and nothing changes, if the id or the name is
  // taken.
  [[nodiscard]] bool Add(AddedToken token);

  // nullptr if there is none.
  const AddedToken* FindId(int32_t id) const;
  const AddedToken* FindName(std::string_view name) const;
  // In the order of their addition.
  const std::vector<AddedToken>& tokens() const { return tokens_; }

  struct Segment {
    std::string_view text;
    const AddedToken* token;  // the token that `text` names, or nullptr for ordinary text
  };
  // Cuts `text` at the names in it; the segments together are the text, none is empty.
  std::vector<Segment> Split(std::string_view text) const;

 private:
  // A trie with children as linked lists: names share a few beginnings and branch little.
  class Trie {
   public:
    static constexpr int32_t kNone = -1;

    void Add(std::string_view name, int32_t value);
    // The value of the longest name that `text` begins with, or kNone.
    int32_t MatchLongest(std::string_view text) const;
    bool CanBegin(char byte) const { return roots_[static_cast<uint8_t>(byte)] != kNone; }

   private:
    struct Node {
      char byte;
      int32_t value = kNone;
      int32_t first_child = kNone;
      int32_t next_sibling = kNone;
    };
    int32_t FindChild(int32_t node, char byte) const;
    int32_t NewNode(char byte);

    std::array<int32_t, 256> roots_ = MakeEmptyRoots();
    std::vector<Node> nodes_;

    static std::array<int32_t, 256> MakeEmptyRoots() {
      std::array<int32_t, 256> roots;
      roots.fill(kNone);
      return roots;
    }
  };

  void SplitWith(const Trie& trie, std::string_view text, std::vector<Segment>* segments) const;

  std::vector<AddedToken> tokens_;
  std::vector<int32_t> index_of_id_;  // by id, -1 for none
  Trie raw_;
  Trie normalized_;
};

}  // namespace baleen

#endif  // BALEEN_TOKENIZER_ADDED_TOKENS_H_
