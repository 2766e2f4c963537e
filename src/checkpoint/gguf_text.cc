// GgufText: tokenizer.ggml.* and tokenizer.chat_template.
#include <algorithm>

#include "base/error.h"
#include "base/quote.h"
#include "checkpoint/gguf_checkpoint.h"

namespace baleen {

namespace {

constexpr std::string_view kPrefix = "tokenizer.ggml.";

std::string Key(std::string_view name) { return fmt::format("{}{}", kPrefix, name); }

// The id under this key; one that no token has is refused.
std::optional<int32_t> TokenId(const GgufMetadata& keys, std::string_view name, size_t count) {
  const auto id = keys.Uint(Key(name));
  if (!id) return std::nullopt;
  if (*id >= count) {
    Throw(ErrorCode::kCorruption, "{}: key {} is {}, but there are {} tokens", keys.path(),
          Key(name), *id, count);
  }
  return static_cast<int32_t>(*id);
}

void AddStop(int32_t id, std::vector<int32_t>& stops) {
  if (std::ranges::find(stops, id) == stops.end()) stops.push_back(id);
}

}  // namespace

TextSide GgufText(const GgufModel& model) {
  const GgufMetadata& keys = model.metadata();
  TextSide text;
  if (const auto jinja = keys.String("tokenizer.chat_template")) {
    text.chat_template_jinja = *jinja;
    try {
      text.chat_template = ChatTemplate::Recognize(*jinja);
    } catch (const Error& error) {
      text.chat_template_problem = error.what();
    }
  }
  const auto kind = keys.String(Key("model"));
  TokenizerParts parts;
  parts.tokens = keys.Strings(Key("tokens"));
  if (!kind || *kind != "gpt2" || parts.tokens.empty()) {
    text.tokenizer_problem = parts.tokens.empty()
                                 ? fmt::format("{}: the file has no vocabulary", keys.path())
                                 : fmt::format("{}: tokenizer.ggml.model is {}, expected \"gpt2\"",
                                               keys.path(), Quote(kind.value_or("")));
    return text;
  }
  const auto pre_tokenizer = keys.String(Key("pre"));
  if (!pre_tokenizer) {
    Throw(ErrorCode::kUnimplemented,
          "{}: key {} is missing, so the file does not say how text is cut; convert the model "
          "again",
          keys.path(), Key("pre"));
  }
  parts.pre_tokenizer = *pre_tokenizer;
  parts.token_types = keys.Ints(Key("token_type"));
  if (parts.token_types.empty()) parts.token_types.assign(parts.tokens.size(), parts.kNormal);
  parts.merges = keys.Strings(Key("merges"));
  text.tokenizer = Tokenizer::FromParts(parts, keys.path());

  const size_t count = parts.tokens.size();
  for (std::string_view name : {"eos_token_id", "eot_token_id", "eom_token_id"}) {
    const auto id = TokenId(keys, name, count);
    if (!id) continue;
    AddStop(*id, text.stop_token_ids);
    if (text.eos_token_id < 0) text.eos_token_id = *id;
  }
  if (text.chat_template) {
    for (const std::string& name : text.chat_template->stop_tokens()) {
      if (const auto id = text.tokenizer->TokenId(name)) AddStop(*id, text.stop_token_ids);
    }
  }
  std::ranges::sort(text.stop_token_ids);
  text.knows_fim = TokenId(keys, "fim_pre_token_id", count) &&
                   TokenId(keys, "fim_suf_token_id", count) &&
                   TokenId(keys, "fim_mid_token_id", count);
  const auto bos = TokenId(keys, "bos_token_id", count);
  if (bos && keys.Bool(Key("add_bos_token")).value_or(false)) text.bos_token_id = *bos;
  return text;
}

}  // namespace baleen
