// cli/run.cc: `baleen run`: an answer to one prompt, or a conversation.
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "baleen/engine.h"
#include "base/error.h"
#include "cli/answer.h"
#include "cli/chat.h"
#include "cli/flags.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/verbs.h"

namespace baleen {

namespace {

// Flags as they were given; what is unset keeps the model's own advice.
struct RunFlags {
  EngineFlags engine;
  size_t context_tokens = 0;
  std::optional<std::string> prompt;
  bool raw = false;
  bool json = false;
  bool think = false;
  bool no_think = false;
  std::string system;
  std::optional<size_t> max_tokens;
  std::vector<std::string> stop;
  std::optional<int32_t> num_logprobs;
  std::optional<float> temperature, top_p, min_p;
  std::optional<int32_t> top_k;
  std::optional<float> repetition_penalty, presence_penalty, frequency_penalty;
  std::optional<uint64_t> seed;
};

void AddSamplingFlags(Verb verb, RunFlags& flags) {
  const std::string group = "Sampling (defaults: the model's own advice, else greedy)";
  const auto add = [&](const char* name, auto& value, const char* type, const char* help) {
    return verb.Add(name, value, help).Type(type).Group(group);
  };
  add("--temperature", flags.temperature, "T", "0 takes the most likely token always")
      .Range(0.0, 100.0);
  add("--top-k", flags.top_k, "K", "Choose among the K most likely tokens; 0: all")
      .Range(0, 1 << 30);
  add("--top-p", flags.top_p, "P", "... among the most likely whose probabilities reach P")
      .Range(0.0, 1.0);
  add("--min-p", flags.min_p, "P", "... among those with P times the probability of the first")
      .Range(0.0, 1.0);
  add("--seed", flags.seed, "S", "The same seed gives the same answer");
  add("--repetition-penalty", flags.repetition_penalty, "X",
      "Divide the logits of tokens in prompt and answer by X");
  add("--presence-penalty", flags.presence_penalty, "X", "Lower tokens that are in the answer")
      .Range(-2.0, 2.0);
  add("--frequency-penalty", flags.frequency_penalty, "X", "... times their count")
      .Range(-2.0, 2.0);
}

void AddFlags(Verb verb, RunFlags& flags) {
  flags.engine.AddTo(verb);
  verb.Add("--context", flags.context_tokens,
           "Tokens of prompt and answer together; default: the model's")
      .Type("N")
      .AtLeast(1);
  verb.Add("-p,--prompt", flags.prompt,
           "Answer this and leave; default: standard input, or a chat on a terminal")
      .Type("TEXT");
  Flag raw = verb.AddSwitch("--raw", flags.raw,
                            "Go on with the text of the prompt as it is: no chat template");
  verb.AddSwitch("--json", flags.json, "Print the object that OpenAI's API returns");
  verb.Add("--system", flags.system, "System message").Type("TEXT").Excludes(raw);
  Flag think = verb.AddSwitch("--think", flags.think, "Let the model reason first");
  Flag no_think = verb.AddSwitch("--no-think", flags.no_think, "Answer without reasoning");
  think.Excludes(no_think).Excludes(raw);
  no_think.Excludes(raw);
  verb.Add("--max-tokens", flags.max_tokens,
           "Of an answer; default: until it ends or the context is full")
      .Type("N")
      .AtLeast(1);
  verb.Add("--stop", flags.stop, "Text that ends an answer; may be given several times")
      .Type("TEXT");
  verb.Add("--logprobs", flags.num_logprobs,
           "With --json: log-probabilities, and K alternatives of each token")
      .Type("K")
      .Range(0, 20);
  AddSamplingFlags(verb, flags);
}

Request MakeRequest(const RunFlags& flags, const ModelInfo& info) {
  Request request;
  SamplingParams& sampling = request.sampling;
  sampling = info.default_sampling;
  sampling.temperature = flags.temperature.value_or(sampling.temperature);
  sampling.top_k = flags.top_k.value_or(sampling.top_k);
  sampling.top_p = flags.top_p.value_or(sampling.top_p);
  sampling.min_p = flags.min_p.value_or(sampling.min_p);
  sampling.repetition_penalty = flags.repetition_penalty.value_or(sampling.repetition_penalty);
  sampling.presence_penalty = flags.presence_penalty.value_or(sampling.presence_penalty);
  sampling.frequency_penalty = flags.frequency_penalty.value_or(sampling.frequency_penalty);
  sampling.seed = flags.seed;
  request.max_tokens = flags.max_tokens;
  request.stop = flags.stop;
  request.num_logprobs = flags.num_logprobs.value_or(-1);
  return request;
}

// Whether prompts are texts to go on with, by the flags or because the model knows no chat.
bool UseCompletion(const RunFlags& flags, const ModelInfo& info) {
  if (flags.raw) return true;
  if (!info.chat_template.empty()) return false;
  if (!info.chat_template_problem.empty()) {
    Throw(ErrorCode::kUnimplemented, "{}: {}; with --raw it goes on with a text", info.name,
          info.chat_template_problem);
  }
  Note(info.name + ": no chat template, so this is completion mode: the model goes on with a text");
  if (!flags.system.empty() || flags.think || flags.no_think) {
    Throw(ErrorCode::kInvalidArgument,
          "{}: --system, --think and --no-think need a model with a chat template", info.name);
  }
  return true;
}

ChatSettings MakeSettings(const RunFlags& flags, const ModelInfo& info) {
  ChatSettings settings;
  settings.system = flags.system;
  if (flags.think || flags.no_think) settings.template_options.thinking = flags.think;
  settings.answer.request = MakeRequest(flags, info);
  settings.answer.stream = !flags.json;
  settings.completion = UseCompletion(flags, info);
  return settings;
}

int AnswerOnce(Engine& engine, const ChatSettings& settings, const std::string& text, bool json) {
  Prompt prompt;
  if (settings.completion) {
    prompt = MakeTextPrompt(engine, text);
  } else {
    std::vector<ChatMessage> messages;
    if (!settings.system.empty())
      messages.push_back({.role = "system", .content = settings.system});
    messages.push_back({.role = "user", .content = text});
    prompt = MakeChatPrompt(engine, messages, settings.template_options);
  }
  const AnswerRecord answer = Answer(engine, prompt, settings.answer);
  if (json) {
    PrintJson(settings.completion ? TextCompletionJson(engine, answer)
                                  : ChatCompletionJson(engine, answer));
  }
  return answer.completion.finish_reason == FinishReason::kCancelled
             ? static_cast<int>(ErrorCode::kCancelled)
             : 0;
}

// Unset: a person is there to chat with.
std::optional<std::string> ReadPrompt(const RunFlags& flags) {
  if (flags.prompt || StdinIsTerminal()) return flags.prompt;
  std::string text = ReadStdin();
  if (text.empty()) {
    Throw(ErrorCode::kInvalidArgument,
          "the prompt is empty: give -p TEXT, text on standard input, or a terminal to chat");
  }
  return text;
}

int Run(const RunFlags& flags) {
  if (flags.num_logprobs && !flags.json) {
    Throw(ErrorCode::kInvalidArgument, "--logprobs is shown with --json only");
  }
  if (flags.json && !flags.prompt && StdinIsTerminal()) {
    Throw(ErrorCode::kInvalidArgument, "--json is for one prompt: give -p TEXT");
  }
  EngineOptions options = flags.engine.ToOptions();
  options.max_context_tokens = flags.context_tokens;
  options.max_sequences = 1;
  options.prefix_reuse = PrefixReuse::kAll;  // each turn of a chat begins with the last one
  std::unique_ptr<Engine> engine;
  {
    const Progress progress("opening " + flags.engine.model());
    engine = Engine::Open(flags.engine.model(), options);
  }
  const std::optional<std::string> prompt = ReadPrompt(flags);
  PrintNotes(engine->info());
  const ChatSettings settings = MakeSettings(flags, engine->info());
  if (!prompt) return RunChat(*engine, settings);
  return AnswerOnce(*engine, settings, *prompt, flags.json);
}

}  // namespace

void AddRun(CommandLine& program) {
  Verb verb = program.AddVerb("run", "Answer a prompt, or chat in the terminal");
  const auto flags = std::make_shared<RunFlags>();
  AddFlags(verb, *flags);
  verb.SetExamples({"baleen run models/baleen-stories-mini --raw -p \"Once upon a time\"",
                    "goes on with the text"},
                   {"baleen run deepseek-ai/DeepSeek-V2-Lite-Chat",
                    "chats, with the model in the local Hugging Face cache"});
  verb.SetAction([flags] { return Run(*flags); });
}

}  // namespace baleen
