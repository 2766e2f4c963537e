#include "server/answer_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "server/api_error.h"

namespace baleen {

using simdjson::dom::array;
using simdjson::dom::element;

namespace {

constexpr size_t kMaxChoices = 128;
constexpr size_t kMaxPrompts = 1024;
constexpr size_t kMaxMessages = 10'000;
constexpr size_t kMaxStops = 16;  // DeepSeek's limit; OpenAI's is 4
constexpr size_t kMaxStopBytes = 1024;
constexpr size_t kMaxBiases = 1024;
constexpr int64_t kMaxLogprobs = 20;
constexpr int64_t kMaxInt = std::numeric_limits<int64_t>::max();

[[noreturn]] void Refuse(const Fields& fields, std::string_view name, const std::string& message) {
  throw ApiError(400, message, fields.PathOf(name));
}

// Fields of both endpoints.

std::vector<std::string> ReadStops(const Fields& fields) {
  std::vector<std::string> stops;
  const auto value = fields.Any("stop");
  if (!value) return stops;
  if (value->is_string()) {
    stops.push_back(*fields.String("stop"));
  } else {
    const auto list = fields.Array("stop");
    for (const element item : *list) {
      std::string_view text;
      if (item.get_string().get(text)) fields.Refuse("stop", "a string or a list of strings");
      stops.emplace_back(text);
    }
  }
  if (stops.size() > kMaxStops) {
    fields.Refuse("stop", fmt::format("at most {} strings", kMaxStops));
  }
  for (const std::string& stop : stops) {
    if (stop.empty() || stop.size() > kMaxStopBytes) {
      fields.Refuse("stop", fmt::format("made of strings of 1 to {} bytes", kMaxStopBytes));
    }
  }
  return stops;
}

std::vector<TokenBias> ReadBiases(const Fields& fields, size_t vocab_size) {
  std::vector<TokenBias> biases;
  const auto object = fields.Object("logit_bias");
  if (!object) return biases;
  for (const auto [key, value] : object->object()) {
    TokenBias bias;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), bias.token_id);
    const bool is_id = error == std::errc() && end == key.data() + key.size() &&
                       bias.token_id >= 0 && static_cast<size_t>(bias.token_id) < vocab_size;
    double number;
    if (!is_id || value.get_double().get(number) || !(number >= -100 && number <= 100)) {
      fields.Refuse("logit_bias", "an object of token ids and numbers from -100 to 100");
    }
    bias.bias = static_cast<float>(number);
    biases.push_back(bias);
    if (biases.size() > kMaxBiases) {
      fields.Refuse("logit_bias", fmt::format("at most {} tokens", kMaxBiases));
    }
  }
  return biases;
}

SamplingParams ReadSampling(const Fields& fields, const ModelInfo& info) {
  SamplingParams sampling = info.default_sampling;
  // A model without advice is sampled as OpenAI's API does, not greedily.
  if (sampling.temperature == 0) sampling.temperature = 1;
  const auto number = [&](const char* name, float& value, double min, double max) {
    if (const auto given = fields.Number(name, min, max)) value = static_cast<float>(*given);
  };
  number("temperature", sampling.temperature, 0, 2);
  number("top_p", sampling.top_p, 0, 1);
  if (sampling.top_p == 0) sampling.top_p = 1e-6f;  // vLLM and OpenAI take it: the likeliest token
  number("min_p", sampling.min_p, 0, 1);
  number("presence_penalty", sampling.presence_penalty, -2, 2);
  number("frequency_penalty", sampling.frequency_penalty, -2, 2);
  number("repetition_penalty", sampling.repetition_penalty, 0.01, 100);
  // vLLM's word for "all" is -1.
  if (const auto top_k = fields.Integer("top_k", -1, 1 << 30)) {
    sampling.top_k = static_cast<int32_t>(std::max<int64_t>(*top_k, 0));
  }
  if (const auto seed = fields.Integer("seed", std::numeric_limits<int64_t>::min(), kMaxInt)) {
    sampling.seed = static_cast<uint64_t>(*seed);
  }
  sampling.logit_bias = ReadBiases(fields, info.vocab_size);
  return sampling;
}

Priority ReadPriority(const Fields& fields) {
  const auto value = fields.Any("priority");
  if (!value) return Priority::kInteractive;
  if (!value->is_string()) {
    // vLLM: lower numbers go first, 0 is usual.
    return *fields.Integer("priority", -kMaxInt, kMaxInt) > 0 ? Priority::kBatch
                                                              : Priority::kInteractive;
  }
  const std::string name = *fields.String("priority");
  if (name == "interactive") return Priority::kInteractive;
  if (name == "completion") return Priority::kCompletion;
  if (name == "batch") return Priority::kBatch;
  fields.Refuse("priority", "interactive, completion or batch");
}

// `user_id` is DeepSeek's, `cache_salt` vLLM's; both keep prefixes apart, and so do keys.
std::string ReadSalt(const Fields& fields) {
  std::string salt;
  for (const char* name : {"cache_salt", "user_id"}) {
    const auto value = fields.String(name);
    if (!value) continue;
    if (value->size() > 512) fields.Refuse(name, "at most 512 bytes");
    salt += fmt::format("{}={}:{};", name, value->size(), *value);
  }
  return salt;
}

void ReadCommon(const Fields& fields, const ModelInfo& info, AnswerPlan& plan) {
  Request& request = plan.request;
  request.sampling = ReadSampling(fields, info);
  request.stop = ReadStops(fields);
  request.stop_token_ids = fields.Ids("stop_token_ids");
  request.ignore_eos = fields.Bool("ignore_eos").value_or(false);
  request.skip_special_tokens = fields.Bool("skip_special_tokens").value_or(true);
  request.min_tokens = static_cast<size_t>(fields.Integer("min_tokens", 0, 1 << 30).value_or(0));
  request.priority = ReadPriority(fields);
  request.cache_salt = ReadSalt(fields);
  plan.num_choices = static_cast<size_t>(fields.Integer("n", 1, kMaxChoices).value_or(1));
  plan.stream = fields.Bool("stream").value_or(false);
  if (const auto options = fields.Object("stream_options")) {
    plan.stream_usage = options->Bool("include_usage").value_or(false);
  }
  plan.with_token_ids = fields.Bool("return_token_ids").value_or(false);
}

// A prompt and the answer must fit; how long the answer may be is the request's word, or ours.
void CheckLengths(const Fields& fields, const ModelInfo& info, const char* prompt_field,
                  const AnswerPlan& plan) {
  for (const PromptPlan& prompt : plan.prompts) {
    if (prompt.token_ids.empty()) Refuse(fields, prompt_field, "the prompt is empty: no tokens");
    for (const int32_t id : prompt.token_ids) {
      if (static_cast<size_t>(id) < info.vocab_size) continue;
      Refuse(fields, prompt_field,
             fmt::format("token id {} is outside the vocabulary of {}", id, info.vocab_size));
    }
    const size_t wanted = plan.request.max_tokens.value_or(1);
    if (wanted > info.max_context_tokens ||
        prompt.token_ids.size() > info.max_context_tokens - wanted) {
      throw ApiError(
          400,
          fmt::format("the prompt has {} tokens and the answer may have {}, but the "
                      "context of {} holds {} together",
                      prompt.token_ids.size(), wanted, info.name, info.max_context_tokens),
          fields.PathOf(prompt_field), "context_length_exceeded");
    }
  }
}

// Chat.

// A text, or a list of parts that are all text.
std::string ReadContent(const Fields& message, std::string_view name) {
  const auto value = message.Any(name);
  if (!value) return "";
  if (value->is_string()) return *message.String(name);
  array parts;
  if (value->get_array().get(parts)) message.Refuse(name, "a string or a list of parts");
  std::string content;
  for (const element item : parts) {
    std::string_view type, text;
    if (item.at_key("type").get_string().get(type) || type != "text" ||
        item.at_key("text").get_string().get(text)) {
      message.Refuse(name, "made of parts of type text: this model reads nothing else");
    }
    content += text;
  }
  return content;
}

ToolCall ReadToolCall(const Fields& call) {
  ToolCall tool_call;
  tool_call.id = call.String("id").value_or("");
  const auto function = call.Object("function");
  if (!function) call.Refuse("function", "an object");
  const auto name = function->String("name");
  if (!name) function->Refuse("name", "a string");
  tool_call.name = *name;
  tool_call.arguments_json = "{}";
  if (const auto arguments = function->Any("arguments")) {
    // A string to OpenAI; people send the object itself.
    simdjson::dom::object object;
    tool_call.arguments_json = arguments->get_object().get(object)
                                   ? *function->String("arguments")
                                   : std::string(simdjson::minify(object));
  }
  return tool_call;
}

ChatMessage ReadMessage(const Fields& fields) {
  ChatMessage message;
  const auto role = fields.String("role");
  if (!role) fields.Refuse("role", "a string");
  message.role = *role == "developer" ? "system" : *role;
  const char* const known[] = {"system", "user", "assistant", "tool"};
  if (std::ranges::find(known, message.role) == std::end(known)) {
    fields.Refuse("role", "system, developer, user, assistant or tool");
  }
  message.content = ReadContent(fields, "content");
  message.reasoning_content =
      fields.String("reasoning_content").value_or(fields.String("reasoning").value_or(""));
  message.name = fields.String("name").value_or("");
  message.tool_call_id = fields.String("tool_call_id").value_or("");
  if (const auto calls = fields.Array("tool_calls")) {
    for (const element item : *calls) {
      simdjson::dom::object object;
      if (item.get_object().get(object)) fields.Refuse("tool_calls", "a list of objects");
      message.tool_calls.push_back(ReadToolCall(Fields(object, fields.PathOf("tool_calls[]."))));
    }
  }
  if (fields.Bool("prefix").value_or(false)) {
    Refuse(fields, "prefix", "continuing an assistant's message is not supported");
  }
  return message;
}

// DeepSeek's `thinking`, before the templates' own arguments, before OpenAI's effort.
std::optional<bool> ReadThinking(const Fields& fields, const ModelInfo& info) {
  std::optional<bool> thinking;
  if (const auto effort = fields.String("reasoning_effort")) {
    const char* const known[] = {"none", "minimal", "low", "medium",
                                 "high", "xhigh",   "max", "ultra"};
    if (std::ranges::find(known, *effort) == std::end(known)) {
      fields.Refuse("reasoning_effort", "none, minimal, low, medium, high, xhigh, max or ultra");
    }
    // How much is the model's affair: its template has no words for it.
    if (*effort == "none" || info.can_choose_thinking) thinking = *effort != "none";
  }
  if (const auto arguments = fields.Object("chat_template_kwargs")) {
    for (const char* name : {"thinking", "enable_thinking"}) {
      if (const auto value = arguments->Bool(name)) thinking = value;
    }
  }
  if (const auto object = fields.Object("thinking")) {
    const std::string type = object->String("type").value_or("");
    if (type != "enabled" && type != "disabled") object->Refuse("type", "enabled or disabled");
    thinking = type == "enabled";
  }
  // A model that never reasons is free to be told so.
  if (thinking == false && !info.can_reason) thinking.reset();
  return thinking;
}

// Completions.

std::vector<PromptPlan> ReadPrompts(const Engine& engine, const Fields& fields, bool echo) {
  const EncodeOptions encoding = {.parse_special = true,
                                  .add_bos = fields.Bool("add_special_tokens").value_or(true)};
  const auto of_text = [&](std::string_view text) {
    PromptPlan prompt = {.token_ids = engine.Encode(text, encoding)};
    if (echo) prompt.echo = text;
    return prompt;
  };
  const auto of_ids = [&](std::vector<int32_t> ids) {
    PromptPlan prompt = {.token_ids = std::move(ids)};
    for (const int32_t id : prompt.token_ids) {
      if (static_cast<size_t>(id) >= engine.info().vocab_size) return prompt;  // refused later
    }
    if (echo) prompt.echo = engine.Decode(prompt.token_ids);
    return prompt;
  };
  const char* const kinds = "a string, a list of strings, a list of token ids, or a list of these";
  const auto value = fields.Any("prompt");
  if (!value) fields.Refuse("prompt", kinds);
  std::string_view text;
  if (!value->get_string().get(text)) return {of_text(text)};
  array list;
  if (value->get_array().get(list) || list.size() == 0) fields.Refuse("prompt", kinds);
  if (list.at(0).value().is_number()) return {of_ids(IdsOf(list, fields.PathOf("prompt")))};
  std::vector<PromptPlan> prompts;
  if (list.size() > kMaxPrompts) {
    fields.Refuse("prompt", fmt::format("at most {} prompts", kMaxPrompts));
  }
  for (const element item : list) {
    array ids;
    if (!item.get_string().get(text)) {
      prompts.push_back(of_text(text));
    } else if (!item.get_array().get(ids)) {
      prompts.push_back(of_ids(IdsOf(ids, fields.PathOf("prompt"))));
    } else {
      fields.Refuse("prompt", kinds);
    }
  }
  return prompts;
}

}  // namespace

EncodedChat ReadChat(const Engine& engine, const Fields& fields) {
  const auto list = fields.Array("messages");
  if (!list || list->size() == 0) fields.Refuse("messages", "a list of at least one message");
  if (list->size() > kMaxMessages) {
    fields.Refuse("messages", fmt::format("at most {} messages", kMaxMessages));
  }
  std::vector<ChatMessage> messages;
  for (const element item : *list) {
    simdjson::dom::object object;
    if (item.get_object().get(object)) fields.Refuse("messages", "a list of objects");
    messages.push_back(ReadMessage(Fields(object, fmt::format("messages[{}].", messages.size()))));
  }
  ChatOptions options;
  options.add_generation_prompt = fields.Bool("add_generation_prompt").value_or(true);
  options.thinking = ReadThinking(fields, engine.info());
  const ToolRequest tools = ReadTools(fields);
  if (engine.info().tool_call_format == ToolCallFormat::kNone) {
    SpellToolsAsText(tools, messages);
  } else {
    options.tools_json = tools.tools_json;
  }
  try {
    return engine.RenderChat(messages, options);
  } catch (const Error& error) {
    throw ApiError(400, error.what(), fields.PathOf("messages"));
  }
}

AnswerPlan PlanChat(const Engine& engine, const Fields& fields) {
  AnswerPlan plan;
  plan.is_chat = true;
  ReadCommon(fields, engine.info(), plan);
  if (const auto functions = fields.Array("functions"); functions && functions->size() > 0) {
    Refuse(fields, "functions", "functions are not supported: state them as tools");
  }
  for (const char* name : {"max_tokens", "max_completion_tokens"}) {
    if (const auto value = fields.Integer(name, 1, kMaxInt)) {
      plan.request.max_tokens = static_cast<size_t>(*value);
    }
  }
  plan.with_logprobs = fields.Bool("logprobs").value_or(false);
  const auto top = fields.Integer("top_logprobs", 0, kMaxLogprobs);
  if (top && *top > 0 && !plan.with_logprobs) {
    Refuse(fields, "top_logprobs", "top_logprobs needs logprobs: true");
  }
  if (plan.with_logprobs) plan.request.num_logprobs = static_cast<int32_t>(top.value_or(0));
  PromptPlan prompt;
  prompt.chat = ReadChat(engine, fields);
  prompt.token_ids = prompt.chat->token_ids;
  plan.form = ReadAnswerForm(engine, fields, *prompt.chat);
  plan.request.grammar = plan.form.grammar;
  // Marks of calls are control tokens; the parser takes them out.
  if (plan.form.has_tools) plan.request.skip_special_tokens = false;
  plan.prompts.push_back(std::move(prompt));
  CheckLengths(fields, engine.info(), "messages", plan);
  return plan;
}

AnswerPlan PlanCompletion(const Engine& engine, const Fields& fields) {
  AnswerPlan plan;
  ReadCommon(fields, engine.info(), plan);
  plan.request.max_tokens =
      static_cast<size_t>(fields.Integer("max_tokens", 0, kMaxInt).value_or(16));
  if (const auto best_of = fields.Integer("best_of", 1, kMaxChoices);
      best_of && static_cast<size_t>(*best_of) != plan.num_choices) {
    Refuse(fields, "best_of", "best_of must be equal to n");
  }
  if (fields.String("suffix").value_or("") != "") {
    Refuse(fields, "suffix", "suffix: filling in the middle is not supported");
  }
  const bool echo = fields.Bool("echo").value_or(false);
  if (const auto logprobs = fields.Integer("logprobs", 0, kMaxLogprobs)) {
    plan.with_logprobs = true;
    plan.request.num_logprobs = static_cast<int32_t>(*logprobs);
    if (echo) plan.request.num_prompt_logprobs = plan.request.num_logprobs;
  }
  plan.prompts = ReadPrompts(engine, fields, echo);
  CheckLengths(fields, engine.info(), "prompt", plan);
  if (plan.prompts.size() * plan.num_choices > kMaxPrompts) {
    Refuse(fields, "n", fmt::format("prompts times n must be at most {}", kMaxPrompts));
  }
  return plan;
}

}  // namespace baleen
