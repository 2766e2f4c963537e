#include "tokenizer/tokenizer_writer.h"

#include <fmt/format.h>

#include <iterator>
#include <string_view>

#include "base/check.h"
#include "tokenizer/byte_level.h"

namespace baleen {
namespace {

struct ControlToken {
  std::string_view name;
  bool is_special;
  bool is_normalized;
};

// Names, order and flags of DeepSeek-V3 (spec/formats.md section 6.1).
constexpr ControlToken kInFront[] = {
    {"<｜begin▁of▁sentence｜>", true, false},
    {"<｜end▁of▁sentence｜>", true, false},
    {"<｜▁pad▁｜>", true, false},
};
constexpr ControlToken kBehind[] = {
    {"<｜fim▁hole｜>", false, true},
    {"<｜fim▁begin｜>", false, true},
    {"<｜fim▁end｜>", false, true},
    {"<｜User｜>", false, true},
    {"<｜Assistant｜>", false, true},
    {"<|EOT|>", true, true},
    {"<｜tool▁calls▁begin｜>", false, true},
    {"<｜tool▁calls▁end｜>", false, true},
    {"<｜tool▁call▁begin｜>", false, true},
    {"<｜tool▁call▁end｜>", false, true},
    {"<｜tool▁outputs▁begin｜>", false, true},
    {"<｜tool▁outputs▁end｜>", false, true},
    {"<｜tool▁output▁begin｜>", false, true},
    {"<｜tool▁output▁end｜>", false, true},
    {"<｜tool▁sep｜>", false, true},
};
static_assert(std::size(kInFront) == kNumControlTokensInFront);
static_assert(std::size(kBehind) == kNumControlTokensBehind);

constexpr std::string_view kChatTemplate = R"jinja(
{%- if not add_generation_prompt is defined -%}{%- set add_generation_prompt = false -%}{%- endif -%}
{%- set ns = namespace(is_first=true, is_first_sp=true, is_tool=false, system_prompt='') -%}
{%- for message in messages -%}
  {%- if message['role'] == 'system' -%}
    {%- if not ns.is_first_sp -%}{%- set ns.system_prompt = ns.system_prompt + '\n\n' -%}{%- endif -%}
    {%- set ns.system_prompt = ns.system_prompt + message['content'] -%}
    {%- set ns.is_first_sp = false -%}
  {%- endif -%}
{%- endfor -%}
{{- bos_token + ns.system_prompt -}}
{%- for message in messages -%}
  {%- if message['role'] == 'user' -%}
    {{- '<｜User｜>' + message['content'] -}}
    {%- set ns.is_tool = false -%}
  {%- elif message['role'] == 'tool' -%}
    {%- if ns.is_tool -%}
      {{- '\n<｜tool▁output▁begin｜>' -}}
    {%- else -%}
      {{- '<｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>' -}}
    {%- endif -%}
    {{- message['content'] + '<｜tool▁output▁end｜>' -}}
    {%- set ns.is_tool = true -%}
  {%- elif message['role'] == 'assistant' -%}
    {%- set content = '' if message['content'] is none else message['content'] -%}
    {%- if message['tool_calls'] is defined and message['tool_calls'] -%}
      {%- set ns.is_first = true -%}
      {%- for tool in message['tool_calls'] -%}
        {%- if not ns.is_first -%}
          {{- '\n' + '<｜tool▁call▁begin｜>' -}}
        {%- elif ns.is_tool -%}
          {{- '<｜tool▁outputs▁end｜>' + content + '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>' -}}
        {%- elif content == '' -%}
          {{- '<｜Assistant｜><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>' -}}
        {%- else -%}
          {{- '<｜Assistant｜>' + content + '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>' -}}
        {%- endif -%}
        {{- tool['type'] + '<｜tool▁sep｜>' + tool['function']['name'] + '\n' + '```json' + '\n' -}}
        {{- tool['function']['arguments'] + '\n' + '```' + '<｜tool▁call▁end｜>' -}}
        {%- set ns.is_first = false -%}
      {%- endfor -%}
      {{- '<｜tool▁calls▁end｜><｜end▁of▁sentence｜>' -}}
    {%- elif ns.is_tool -%}
      {{- '<｜tool▁outputs▁end｜>' + content + '<｜end▁of▁sentence｜>' -}}
    {%- else -%}
      {{- '<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>' -}}
    {%- endif -%}
    {%- set ns.is_tool = false -%}
  {%- endif -%}
{%- endfor -%}
{%- if ns.is_tool -%}
  {{- '<｜tool▁outputs▁end｜>' -}}
{%- elif add_generation_prompt -%}
  {{- '<｜Assistant｜>' -}}
{%- endif -%}
)jinja";

// What stands before and after the vocabulary; the patterns are V3's.
constexpr std::string_view kBeforeAddedTokens = R"json({
  "version": "1.0",
  "truncation": null,
  "padding": null,
  "added_tokens": [
)json";
constexpr std::string_view kBeforeVocabulary = R"json(
  ],
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
  "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
    "vocab": {
)json";
constexpr std::string_view kBeforeMerges = R"json(
    },
    "merges": [
)json";
constexpr std::string_view kAfterMerges = R"json(
    ]
  }
}
)json";

// `text`, which has no control character but the line break, as a JSON string.
std::string Quoted(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    if (c == '\n') {
      quoted += "\\n";
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

std::string Spelled(std::string_view bytes) {
  std::string spelling;
  AppendByteLevel(bytes, &spelling);
  return spelling;
}

std::string AddedTokenJson(size_t id, const ControlToken& token) {
  return fmt::format(
      "    {{\"id\": {}, \"content\": {}, \"single_word\": false, \"lstrip\": false, \"rstrip\": "
      "false, \"normalized\": {}, \"special\": {}}}",
      id, Quoted(token.name), token.is_normalized, token.is_special);
}

}  // namespace

std::string TokenizerJson(const TrainedBpe& bpe) {
  BALEEN_CHECK(bpe.tokens.size() >= std::size(kInFront) + 256 &&
               bpe.tokens[std::size(kInFront)].size() == 1);
  std::string json(kBeforeAddedTokens);
  size_t id = 0;
  for (const ControlToken& token : kInFront) json += AddedTokenJson(id++, token) + ",\n";
  id = bpe.tokens.size();
  for (const ControlToken& token : kBehind) {
    if (id > bpe.tokens.size()) json += ",\n";
    json += AddedTokenJson(id++, token);
  }
  json += kBeforeVocabulary;
  for (size_t i = 0; i < bpe.tokens.size(); ++i) {
    const std::string name =
        i < std::size(kInFront) ? std::string(kInFront[i].name) : Spelled(bpe.tokens[i]);
    json += fmt::format("{}      {}: {}", i == 0 ? "" : ",\n", Quoted(name), i);
  }
  json += kBeforeMerges;
  bool is_first = true;
  for (const auto& [left, right] : bpe.merges) {
    const std::string merge = Spelled(bpe.tokens[static_cast<size_t>(left)]) + ' ' +
                              Spelled(bpe.tokens[static_cast<size_t>(right)]);
    json += fmt::format("{}      {}", is_first ? "" : ",\n", Quoted(merge));
    is_first = false;
  }
  json += kAfterMerges;
  return json;
}

std::string TokenizerConfigJson(size_t model_max_length) {
  return fmt::format(R"json({{
  "add_bos_token": true,
  "add_eos_token": false,
  "bos_token": {},
  "eos_token": {},
  "pad_token": {},
  "unk_token": null,
  "clean_up_tokenization_spaces": false,
  "legacy": true,
  "model_max_length": {},
  "sp_model_kwargs": {{}},
  "tokenizer_class": "LlamaTokenizerFast",
  "chat_template": {}
}}
)json",
                     Quoted(kInFront[0].name), Quoted(kInFront[1].name), Quoted(kInFront[1].name),
                     model_max_length, Quoted(TrainedChatTemplate()));
}

std::string_view TrainedChatTemplate() { return kChatTemplate; }

}  // namespace baleen
