#include "grammar/token_trie.h"

#include <algorithm>

namespace baleen::grammar {

TokenTrie::TokenTrie(std::vector<Entry> entries) {
  std::ranges::stable_sort(entries, {}, &Entry::bytes);
  std::vector<uint32_t> path;  // nodes from the root to the last text's end
  std::string_view last;
  const auto close = [&](size_t depth) {
    while (path.size() > depth) {
      nodes_[path.back()].end = size();
      path.pop_back();
    }
  };
  for (const Entry& entry : entries) {
    size_t common = 0;
    while (common < last.size() && common < entry.bytes.size() &&
           last[common] == entry.bytes[common]) {
      ++common;
    }
    close(common);
    for (size_t i = common; i < entry.bytes.size(); ++i) {
      path.push_back(size());
      nodes_.push_back({.byte = static_cast<uint8_t>(entry.bytes[i]),
                        .end = 0,
                        .first_entry = static_cast<uint32_t>(leaves_.size()),
                        .num_entries = 0});
    }
    ++nodes_[path.back()].num_entries;
    leaves_.push_back({entry.token, entry.count});
    last = entry.bytes;
  }
  close(0);
}

TokenTable::TokenTable(std::vector<std::string> bytes, std::vector<int32_t> control,
                       size_t vocab_size)
    : bytes_(std::move(bytes)),
      control_(std::move(control)),
      vocab_size_(vocab_size),
      is_control_(vocab_size),
      has_byte_(256) {
  bytes_.resize(vocab_size_);
  std::erase_if(control_, [&](int32_t id) {
    return id < 0 || static_cast<size_t>(id) >= vocab_size_ ||
           bytes_[static_cast<size_t>(id)].empty();
  });
  for (const int32_t id : control_) {
    is_control_[static_cast<size_t>(id)] = true;
    by_name_.emplace(bytes_[static_cast<size_t>(id)], id);
  }
  std::vector<TokenTrie::Entry> entries;
  for (size_t id = 0; id < vocab_size_; ++id) {
    const std::string& text = bytes_[id];
    if (text.empty() || text.size() > kMaxTokenBytes || is_control_[id]) continue;
    entries.push_back({text, static_cast<int32_t>(id)});
    if (text.size() == 1) has_byte_[static_cast<uint8_t>(text[0])] = true;
  }
  trie_ = TokenTrie(std::move(entries));
}

int32_t TokenTable::FindControl(std::string_view name) const {
  const auto at = by_name_.find(name);
  return at == by_name_.end() ? -1 : at->second;
}

}  // namespace baleen::grammar
