// grammar/token_trie.h: texts as a tree of bytes, each with what it stands for.
#ifndef BALEEN_GRAMMAR_TOKEN_TRIE_H_
#define BALEEN_GRAMMAR_TOKEN_TRIE_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace baleen::grammar {

// Nodes in preorder: the children of node i begin at i + 1, and each ends where the next begins.
class TokenTrie {
 public:
  struct Entry {
    std::string_view bytes;  // not empty; read while the trie is built
    int32_t token;
    uint32_t count = 0;  // of characters; whoever builds the trie says of what
  };
  struct Node {
    uint8_t byte;
    uint32_t end;          // behind the last node beneath this one
    uint32_t first_entry;  // of those that end here and beneath, in the order of the nodes
    uint32_t num_entries;  // that end here
  };
  struct Leaf {
    int32_t token;
    uint32_t count;
  };

  TokenTrie() = default;
  explicit TokenTrie(std::vector<Entry> entries);

  const std::vector<Node>& nodes() const { return nodes_; }
  const std::vector<Leaf>& leaves() const { return leaves_; }
  uint32_t size() const { return static_cast<uint32_t>(nodes_.size()); }
  // The leaves of node i and of all beneath it.
  std::pair<uint32_t, uint32_t> LeavesBeneath(uint32_t i) const {
    const uint32_t end = nodes_[i].end;
    return {nodes_[i].first_entry,
            end < size() ? nodes_[end].first_entry : static_cast<uint32_t>(leaves_.size())};
  }

 private:
  std::vector<Node> nodes_;
  std::vector<Leaf> leaves_;
};

// What a grammar needs to know of a vocabulary.
class TokenTable {
 public:
  static constexpr size_t kMaxTokenBytes = 512;  // longer ones are never allowed

  // `bytes` by id, empty where there is no token; `control` are those that count as one symbol and
  // not as their letters. `vocab_size`: of the model's logits.
  TokenTable(std::vector<std::string> bytes, std::vector<int32_t> control, size_t vocab_size);

  size_t vocab_size() const { return vocab_size_; }
  std::string_view Bytes(int32_t token) const { return bytes_[static_cast<size_t>(token)]; }
  bool IsControl(int32_t token) const { return is_control_[static_cast<size_t>(token)]; }
  const std::vector<int32_t>& control() const { return control_; }
  // The control token of that name, or -1.
  int32_t FindControl(std::string_view name) const;
  // Whether a token is that byte alone: then whatever a grammar asks for can be spelled.
  bool HasByte(uint8_t byte) const { return has_byte_[byte]; }
  const TokenTrie& trie() const { return trie_; }

 private:
  std::vector<std::string> bytes_;
  std::vector<int32_t> control_;
  size_t vocab_size_;
  std::vector<bool> is_control_;
  std::vector<bool> has_byte_;
  std::map<std::string, int32_t, std::less<>> by_name_;
  TokenTrie trie_;
};

}  // namespace baleen::grammar

#endif  // BALEEN_GRAMMAR_TOKEN_TRIE_H_
