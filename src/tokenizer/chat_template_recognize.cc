// The words of the published chat templates, and ChatTemplate::Recognize.
//
// The tables hold what a program may print and look at, read off every published revision that was
// at hand (tests/golden/chat_templates.json names them with their SHA-256).
#include <algorithm>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/jinja_words.h"

namespace baleen {
namespace {

using Texts = std::vector<std::string_view>;

// A published format: `required` texts are in every revision, `optional` ones in some. Names are
// separated by spaces; all are optional.
struct FormatWords {
  ChatFormat format;
  Texts required;
  Texts optional;
  std::string names;
};

// Texts by which revisions of one format differ.
constexpr std::string_view kSpacedResult = "\n<｜tool▁output▁begin｜>";
constexpr std::string_view kPlainResult = "<｜tool▁output▁begin｜>";
// In R1's revisions of 2025 and V3.1; of V3's, in the program that tokenizer_writer.cc has.
constexpr std::string_view kCallsBegin = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>";
constexpr std::string_view kThinkSuffix = "<｜Assistant｜><think>\n";
constexpr std::string_view kSystemPadding = "        ";
constexpr std::string_view kHelpful =
    "<|im_system|>system<|im_middle|>You are a helpful assistant<|im_end|>";
constexpr std::string_view kIAmKimi =
    "<|im_system|>system<|im_middle|>You are Kimi, an AI assistant created by Moonshot AI."
    "<|im_end|>";
constexpr std::string_view kIAmKimiLine =
    "<|im_system|>system<|im_middle|>You are Kimi, an AI assistant created by Moonshot AI."
    "<|im_end|>\n";
constexpr std::string_view kDeclareTools = "<|im_system|>tool_declare<|im_middle|>";
constexpr std::string_view kDeclareToolsHeaded =
    "<|im_system|>tool_declare<|im_middle|>\n  # Tools\n  ";

Texts Join(std::initializer_list<Texts> lists) {
  Texts all;
  for (const Texts& list : lists) all.insert(all.end(), list.begin(), list.end());
  return all;
}

std::vector<FormatWords> MakeFormats() {
  const Texts roles = {"role", "system", "user", "assistant", "content"};
  const Texts calls = {"tool", "tool_calls", "function", "name", "arguments"};
  const Texts deepseek = {"",
                          "<｜User｜>",
                          "<｜Assistant｜>",
                          "<｜end▁of▁sentence｜>",
                          "<｜tool▁call▁begin｜>",
                          "<｜tool▁sep｜>",
                          "<｜tool▁call▁end｜>",
                          "<｜tool▁calls▁end｜><｜end▁of▁sentence｜>",
                          "<｜tool▁output▁end｜>"};
  const Texts deepseek_v3 = {"type",
                             "\n",
                             "```",
                             "```json",
                             "<｜Assistant｜><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>",
                             "<｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>",
                             "<｜tool▁outputs▁end｜>"};
  const Texts kimi_roles = {"<|im_system|>", "<|im_user|>", "<|im_assistant|>", "<|im_middle|>"};
  const Texts kimi_ends = {"<|im_end|>", "<|im_assistant|>assistant<|im_middle|>"};
  const Texts kimi_calls = {"<|tool_calls_section_begin|>",
                            "<|tool_calls_section_end|>",
                            "<|tool_call_begin|>",
                            "<|tool_call_argument_begin|>",
                            "<|tool_call_end|>",
                            "## Return of ",
                            "\n"};
  // Branches for images, which no supported model reads.
  const Texts images = {"type",
                        "text",
                        "image",
                        "image_url",
                        "<|media_start|>image<|media_content|><|media_pad|><|media_end|>",
                        "<|media_start|>image<|media_content|><|media_pad|><|media_end|>\n"};
  const Texts kimi_optional = Join({images,
                                    {"", "id", ":", ",", "functions.", "unknown", kDeclareTools,
                                     kDeclareToolsHeaded, kHelpful, kIAmKimi, kIAmKimiLine}});

  const std::string common =
      " if elif else endif for endfor in set is not and or defined none true false namespace"
      " messages message add_generation_prompt ";
  const std::string deepseek_names =
      common + "bos_token ns is_first is_tool system_prompt is_first_sp tool content split 1 ";
  const std::string kimi_names = common + "loop first content string 0 ";
  const std::string kimi_k2_names =
      kimi_names +
      "tools tojson separators macro endmacro render_content render_toolcalls set_roles msg c get"
      " role_name tool_response_queue tool_call_counter ids value append pop _ formatted_id"
      " tool_call tool_call_id ns last_non_tool_call_assistant_msg idx range length break hist_msgs"
      " suffix_msgs rc 1 ";

  return {
      {ChatFormat::kDeepSeekV2,
       Join({roles, {"User: ", "Assistant: ", "Assistant:", "\n\n"}}),
       {},
       common + "bos_token eos_token "},
      {ChatFormat::kDeepSeekV3,
       Join({roles, calls, deepseek, deepseek_v3}),
       {"\n\n", kSystemPadding, kSpacedResult, kPlainResult, kCallsBegin},
       deepseek_names + "is_output_first "},
      {ChatFormat::kDeepSeekR1,
       Join({roles, calls, deepseek, deepseek_v3, {"</think>"}}),
       {"\n\n", kCallsBegin, kThinkSuffix, kSpacedResult, kPlainResult},
       deepseek_names + "is_output_first "},
      {ChatFormat::kDeepSeekV31,
       Join({roles,
             calls,
             deepseek,
             {"prefix", "\n\n", "<｜Assistant｜></think>", "<think>", "</think>", kCallsBegin,
              kPlainResult}}),
       {},
       deepseek_names + "is_last_user is_only_sys is_prefix thinking enable_thinking "},
      {ChatFormat::kMoonlight, Join({roles, kimi_roles, kimi_ends, {kHelpful}}), images,
       kimi_names},
      {ChatFormat::kKimiK2First,
       Join({roles,
             kimi_ends,
             {"tool", kHelpful, kDeclareTools, "<|im_system|>system<|im_middle|>",
              "<|im_user|>user<|im_middle|>", "<|im_system|>tool<|im_middle|>"}}),
       images, kimi_names + "tools tojson "},
      {ChatFormat::kKimiK2, Join({roles, calls, kimi_roles, kimi_ends, kimi_calls}), kimi_optional,
       kimi_k2_names},
      {ChatFormat::kKimiThinking,
       Join({roles,
             calls,
             kimi_roles,
             kimi_ends,
             kimi_calls,
             {"<think></think>", "<think>", "</think>", "reasoning_content"}}),
       kimi_optional, kimi_k2_names},
  };
}

bool Contains(const Texts& texts, std::string_view text) {
  return std::find(texts.begin(), texts.end(), text) != texts.end();
}

bool ContainsName(const std::string& names, const std::string& name) {
  return names.find(fmt::format(" {} ", name)) != std::string::npos;
}

bool Matches(const FormatWords& format, const JinjaWords& words) {
  return std::all_of(format.required.begin(), format.required.end(),
                     [&](std::string_view text) { return words.texts.contains(text); }) &&
         std::all_of(words.texts.begin(), words.texts.end(),
                     [&](const std::string& text) {
                       return Contains(format.required, text) || Contains(format.optional, text);
                     }) &&
         std::all_of(words.names.begin(), words.names.end(),
                     [&](const std::string& name) { return ContainsName(format.names, name); });
}

// The one of `choices` that the program holds; empty when it holds none or several.
std::string_view OnlyOne(const JinjaWords& words, const Texts& choices) {
  std::string_view found;
  for (const std::string_view choice : choices) {
    if (!words.texts.contains(choice)) continue;
    if (!found.empty()) return {};
    found = choice;
  }
  return found;
}

// Fills `traits` from the program's words; false when they contradict each other.
bool ReadTraits(ChatFormat format, const JinjaWords& words, ChatTemplateTraits& traits) {
  traits.joins_systems = words.names.contains("is_first_sp");
  if (traits.joins_systems && !words.texts.contains("\n\n")) return false;
  switch (format) {
    case ChatFormat::kDeepSeekV2:
      return true;
    case ChatFormat::kDeepSeekV31:
      traits.always_prompts = words.names.contains("is_prefix");
      return true;
    case ChatFormat::kDeepSeekV3:
    case ChatFormat::kDeepSeekR1: {
      const std::string_view result = OnlyOne(words, {kSpacedResult, kPlainResult});
      if (result.empty()) return false;
      traits.result_separator = result.substr(0, result.find('<'));
      traits.opens_think = words.texts.contains(kThinkSuffix);
      if (words.texts.contains(kSystemPadding)) traits.system_padding = kSystemPadding;
      return true;
    }
    default:
      break;
  }
  const std::string_view inserted = OnlyOne(words, {kHelpful, kIAmKimi, kIAmKimiLine});
  if (inserted.empty()) return false;
  constexpr std::string_view kOpen = "<|im_system|>system<|im_middle|>";
  constexpr std::string_view kEnd = "<|im_end|>";
  const size_t close = inserted.find(kEnd);
  traits.default_system = inserted.substr(kOpen.size(), close - kOpen.size());
  traits.default_system_tail = inserted.substr(close + kEnd.size());
  if (format == ChatFormat::kMoonlight) return true;
  const std::string_view tools = OnlyOne(words, {kDeclareTools, kDeclareToolsHeaded});
  if (tools.empty()) return false;
  traits.tools_heading = tools.substr(kDeclareTools.size());
  traits.compact_json = words.names.contains("separators");
  return true;
}

}  // namespace

ChatTemplate ChatTemplate::Recognize(std::string_view jinja) {
  static const std::vector<FormatWords> kFormats = MakeFormats();
  if (const std::optional<JinjaWords> words = ReadJinjaWords(jinja)) {
    for (const FormatWords& format : kFormats) {
      ChatTemplateTraits traits;
      if (Matches(format, *words) && ReadTraits(format.format, *words, traits)) {
        return ChatTemplate(format.format, std::move(traits));
      }
    }
  }
  Throw(ErrorCode::kUnimplemented,
        "unknown chat template ({} bytes): it is none of the published ones of DeepSeek-V2, V2.5, "
        "V3, R1, V3.1, Moonlight and Kimi-K2; use --raw to write the prompt yourself",
        jinja.size());
}

}  // namespace baleen
