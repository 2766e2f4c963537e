#include "training/fim.h"

#include <algorithm>
#include <optional>

#include "base/error.h"

namespace baleen {
namespace {

int32_t RequireToken(const Tokenizer& tokenizer, std::string_view name) {
  const std::optional<int32_t> id = tokenizer.TokenId(name);
  if (!id) {
    Throw(ErrorCode::kInvalidArgument,
          "fill-in-the-middle needs the token {}, which the vocabulary lacks; train without it, or "
          "with a tokenizer that `baleen tokenizer train` made",
          name);
  }
  return *id;
}

// The last place at or before `pos` where a character begins.
size_t BeginOfCharacter(std::string_view text, size_t pos) {
  while (pos > 0 && pos < text.size() && (static_cast<uint8_t>(text[pos]) & 0xC0) == 0x80) --pos;
  return pos;
}

}  // namespace

FimEncoder::FimEncoder(const Tokenizer& tokenizer, double line_share)
    : tokenizer_(tokenizer),
      line_share_(line_share),
      begin_(RequireToken(tokenizer, "<｜fim▁begin｜>")),
      hole_(RequireToken(tokenizer, "<｜fim▁hole｜>")),
      end_(RequireToken(tokenizer, "<｜fim▁end｜>")) {}

void FimEncoder::Append(std::string_view text, Random* random, std::vector<int32_t>* ids) const {
  const bool is_line = random->UniformDouble() < line_share_;
  const auto [begin, end] = is_line ? ChooseLine(text, random) : ChooseSpan(text, random);
  const auto append = [&](int32_t token, std::string_view part) {
    ids->push_back(token);
    const std::vector<int32_t> encoded = tokenizer_.Encode(part, /*parse_special=*/false);
    ids->insert(ids->end(), encoded.begin(), encoded.end());
  };
  append(begin_, text.substr(0, begin));
  append(hole_, text.substr(end));
  append(end_, text.substr(begin, end - begin));
}

std::pair<size_t, size_t> ChooseSpan(std::string_view text, Random* random) {
  const size_t a = BeginOfCharacter(text, random->Below(text.size() + 1));
  const size_t b = BeginOfCharacter(text, random->Below(text.size() + 1));
  return std::minmax(a, b);
}

std::pair<size_t, size_t> ChooseLine(std::string_view text, Random* random) {
  std::vector<std::pair<size_t, size_t>> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size() - 1) + 1;
    if (text.substr(begin, end - begin).find_first_not_of(" \t\r\n") != std::string_view::npos) {
      lines.emplace_back(begin, end);
    }
    begin = end;
  }
  return lines.empty() ? ChooseSpan(text, random) : lines[random->Below(lines.size())];
}

}  // namespace baleen
