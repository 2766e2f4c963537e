#include "tokenizer/added_tokens.h"

#include <utility>

#include "base/check.h"

namespace baleen {

bool AddedTokens::Add(AddedToken token) {
  BALEEN_CHECK(!token.name.empty() && token.name.size() <= kMaxNameBytes && token.id >= 0);
  if (FindId(token.id) != nullptr || FindName(token.name) != nullptr) return false;
  const auto index = static_cast<int32_t>(tokens_.size());
  const auto id = static_cast<size_t>(token.id);
  if (id >= index_of_id_.size()) index_of_id_.resize(id + 1, Trie::kNone);
  index_of_id_[id] = index;
  (token.is_normalized ? normalized_ : raw_).Add(token.name, index);
  tokens_.push_back(std::move(token));
  return true;
}

const AddedToken* AddedTokens::FindId(int32_t id) const {
  if (id < 0 || static_cast<size_t>(id) >= index_of_id_.size()) return nullptr;
  const int32_t index = index_of_id_[static_cast<size_t>(id)];
  return index == Trie::kNone ? nullptr : &tokens_[static_cast<size_t>(index)];
}

const AddedToken* AddedTokens::FindName(std::string_view name) const {
  for (const Trie* trie : {&raw_, &normalized_}) {
    const int32_t index = trie->MatchLongest(name);
    if (index != Trie::kNone && tokens_[static_cast<size_t>(index)].name == name) {
      return &tokens_[static_cast<size_t>(index)];
    }
  }
  return nullptr;
}

std::vector<AddedTokens::Segment> AddedTokens::Split(std::string_view text) const {
  std::vector<Segment> raw_segments;
  SplitWith(raw_, text, &raw_segments);
  std::vector<Segment> segments;
  for (const Segment& segment : raw_segments) {
    if (segment.token != nullptr) {
      segments.push_back(segment);
    } else {
      SplitWith(normalized_, segment.text, &segments);
    }
  }
  return segments;
}

void AddedTokens::SplitWith(const Trie& trie, std::string_view text,
                            std::vector<Segment>* segments) const {
  size_t gap = 0;
  size_t pos = 0;
  while (pos < text.size()) {
    const int32_t index =
        trie.CanBegin(text[pos]) ? trie.MatchLongest(text.substr(pos)) : Trie::kNone;
    if (index == Trie::kNone) {
      ++pos;
      continue;
    }
    const AddedToken& token = tokens_[static_cast<size_t>(index)];
    if (gap < pos) segments->push_back({text.substr(gap, pos - gap), nullptr});
    segments->push_back({text.substr(pos, token.name.size()), &token});
    gap = pos += token.name.size();
  }
  if (gap < text.size()) segments->push_back({text.substr(gap), nullptr});
}

void AddedTokens::Trie::Add(std::string_view name, int32_t value) {
  int32_t& root = roots_[static_cast<uint8_t>(name[0])];
  if (root == kNone) root = NewNode(name[0]);
  int32_t node = root;
  for (const char byte : name.substr(1)) {
    int32_t child = FindChild(node, byte);
    if (child == kNone) {
      child = NewNode(byte);
      Node& parent = nodes_[static_cast<size_t>(node)];
      nodes_[static_cast<size_t>(child)].next_sibling = parent.first_child;
      parent.first_child = child;
    }
    node = child;
  }
  nodes_[static_cast<size_t>(node)].value = value;
}

int32_t AddedTokens::Trie::MatchLongest(std::string_view text) const {
  if (text.empty()) return kNone;
  int32_t longest = kNone;
  int32_t node = roots_[static_cast<uint8_t>(text[0])];
  for (size_t i = 1; node != kNone; ++i) {
    const int32_t value = nodes_[static_cast<size_t>(node)].value;
    if (value != kNone) longest = value;
    if (i == text.size()) break;
    node = FindChild(node, text[i]);
  }
  return longest;
}

int32_t AddedTokens::Trie::FindChild(int32_t node, char byte) const {
  int32_t child = nodes_[static_cast<size_t>(node)].first_child;
  while (child != kNone && nodes_[static_cast<size_t>(child)].byte != byte) {
    child = nodes_[static_cast<size_t>(child)].next_sibling;
  }
  return child;
}

int32_t AddedTokens::Trie::NewNode(char byte) {
  nodes_.push_back({byte});
  return static_cast<int32_t>(nodes_.size()) - 1;
}

}  // namespace baleen
