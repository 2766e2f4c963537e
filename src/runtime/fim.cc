#include "runtime/fim.h"

#include <algorithm>
#include <string>

namespace baleen {

namespace {

constexpr std::string_view kSnippetHead = "\n\n--- snippet ---\n\n";

// Coder-V2-Lite and V3 were trained to fill in the middle, and what was made of V3's base with
// them; Coder-V2 with 236 billion parameters was not.
constexpr std::string_view kKnown[] = {"deepseek-coder-v2-lite", "deepseek-v3", "deepseek-r1"};

using Ids = std::vector<int32_t>;

void Append(const Ids& more, Ids& ids) { ids.insert(ids.end(), more.begin(), more.end()); }

// The end of the prefix and the beginning of the suffix stand next to the hole: they stay.
void Cut(size_t room, Ids& prefix, Ids& suffix) {
  if (prefix.size() + suffix.size() <= room) return;
  const size_t for_suffix =
      std::min(suffix.size(), std::max(room / 4, room - std::min(room, prefix.size())));
  const size_t for_prefix = std::min(prefix.size(), room - for_suffix);
  prefix.erase(prefix.begin(), prefix.end() - static_cast<ptrdiff_t>(for_prefix));
  suffix.resize(for_suffix);
}

}  // namespace

std::optional<FimTokens> FindFimTokens(const Tokenizer& tokenizer) {
  const auto begin = tokenizer.TokenId("<｜fim▁begin｜>");
  const auto hole = tokenizer.TokenId("<｜fim▁hole｜>");
  const auto end = tokenizer.TokenId("<｜fim▁end｜>");
  if (!begin || !hole || !end) return std::nullopt;
  return FimTokens{.begin = *begin, .hole = *hole, .end = *end};
}

bool IsKnownForFim(std::string_view name) {
  std::string lower(name);
  std::ranges::transform(lower, lower.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  });
  return std::ranges::any_of(
      kKnown, [&](std::string_view known) { return lower.find(known) != std::string::npos; });
}

std::vector<int32_t> EncodeFim(const Tokenizer& tokenizer, int32_t bos, const FimTokens& tokens,
                               const FimPrompt& prompt) {
  const auto encode = [&](std::string_view text) { return tokenizer.Encode(text, false); };
  Ids prefix = encode(prompt.prefix), suffix = encode(prompt.suffix);
  const size_t num_control = 3 + (bos >= 0 ? 1 : 0);
  size_t room = SIZE_MAX;
  if (prompt.max_tokens > 0) room = prompt.max_tokens - std::min(prompt.max_tokens, num_control);
  Cut(room, prefix, suffix);
  room -= std::min(room, prefix.size() + suffix.size());
  // The last snippets that fit; whole ones, so that those that stay are found in the prefix cache.
  std::vector<Ids> snippets;
  for (auto it = prompt.snippets.rbegin(); it != prompt.snippets.rend(); ++it) {
    Ids ids = encode(std::string(kSnippetHead) + *it);
    if (ids.size() > room) break;
    room -= ids.size();
    snippets.push_back(std::move(ids));
  }

  Ids ids;
  if (bos >= 0) ids.push_back(bos);
  for (auto it = snippets.rbegin(); it != snippets.rend(); ++it) Append(*it, ids);
  ids.push_back(tokens.begin);
  Append(prefix, ids);
  ids.push_back(tokens.hole);
  Append(suffix, ids);
  ids.push_back(tokens.end);
  return ids;
}

}  // namespace baleen
