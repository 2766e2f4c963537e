#include "cli/chat.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/json.h"
#include "base/output_file.h"
#include "cli/line_editor.h"
#include "cli/output.h"

namespace baleen {

namespace {

constexpr size_t kMaxConversationBytes = size_t{64} << 20;
constexpr size_t kMaxConversationDepth = 16;

constexpr std::string_view kHelp =
    "/help          this list\n"
    "/clear         forget the conversation, keep the system message\n"
    "/system TEXT   set the system message; without TEXT, show it\n"
    "/save FILE     write the conversation to a JSON file\n"
    "/load FILE     go on with a saved conversation\n"
    "/stats         tokens, time and speed\n"
    "A line that ends in \\ goes on in the next. Ctrl-C stops an answer; Ctrl-D leaves.";

struct Totals {
  size_t num_answers = 0;
  size_t prompt_tokens = 0;
  size_t answer_tokens = 0;
  double prefill_seconds = 0;
  double decode_seconds = 0;
  size_t context_tokens = 0;  // after the last answer

  void Add(const Completion& completion) {
    ++num_answers;
    prompt_tokens += completion.prompt_tokens;
    answer_tokens += completion.tokens.size();
    prefill_seconds += completion.prefill_seconds;
    decode_seconds += completion.decode_seconds;
    context_tokens = completion.prompt_tokens + completion.tokens.size();
  }
};

double PerSecond(double count, double seconds) { return seconds > 0 ? count / seconds : 0; }

std::string StringOf(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

class ChatSession {
 public:
  ChatSession(Engine& engine, ChatSettings settings)
      : engine_(engine), settings_(std::move(settings)), editor_(DefaultHistoryPath()) {
    Clear();
  }

  int Run() {
    // The first Ctrl-C stops an answer or drops a line, the next one leaves.
    bool may_leave = false;
    for (std::string line;;) {
      switch (editor_.Read(">>> ", line)) {
        case LineStatus::kEnd:
          Note("");
          return 0;
        case LineStatus::kInterrupted:
          Note("");
          if (may_leave) return static_cast<int>(ErrorCode::kCancelled);
          Note("Ctrl-C again or Ctrl-D to leave");
          may_leave = true;
          continue;
        case LineStatus::kLine:
          break;
      }
      may_leave = !TakeLine(line);
    }
  }

 private:
  // False if Ctrl-C stopped the answer. Errors are shown and the session goes on.
  bool TakeLine(const std::string& line) {
    const size_t begin = line.find_first_not_of(" \t\n");
    if (begin == std::string::npos) return true;
    try {
      if (line[begin] != '/') return TakeTurn(line);
      TakeCommand(line.substr(begin));
    } catch (const Error& error) {
      Note(fmt::format("baleen run: {}", error.what()));
    }
    return true;
  }

  bool TakeTurn(const std::string& line) {
    if (settings_.completion) {
      const AnswerRecord answer = Answer(engine_, MakeTextPrompt(engine_, line), settings_.answer);
      totals_.Add(answer.completion);
      return EndTurn(answer.completion);
    }
    // A turn that fails leaves the conversation as it was.
    std::vector<ChatMessage> messages = messages_;
    messages.push_back({.role = "user", .content = line});
    const AnswerRecord answer = Answer(
        engine_, MakeChatPrompt(engine_, messages, settings_.template_options), settings_.answer);
    messages.push_back({.role = "assistant",
                        .content = answer.content,
                        .reasoning_content = answer.reasoning.value_or("")});
    messages_ = std::move(messages);
    totals_.Add(answer.completion);
    return EndTurn(answer.completion);
  }

  bool EndTurn(const Completion& completion) const {
    const size_t num_tokens = completion.prompt_tokens + completion.tokens.size();
    if (num_tokens >= engine_.info().max_context_tokens) {
      Note(fmt::format("(the context of {} tokens is full; /clear makes room)", num_tokens));
    }
    return completion.finish_reason != FinishReason::kCancelled;
  }

  void TakeCommand(const std::string& line) {
    const size_t blank = line.find_first_of(" \t\n");
    const std::string name = line.substr(0, blank);
    const size_t begin = line.find_first_not_of(" \t\n", blank);
    std::string argument = begin == std::string::npos ? "" : line.substr(begin);
    argument.erase(argument.find_last_not_of(" \t\n") + 1);
    if (name == "/help") {
      Note(kHelp);
    } else if (name == "/clear") {
      Clear();
    } else if (name == "/stats") {
      ShowStats();
    } else if (name == "/system" || name == "/save" || name == "/load") {
      if (settings_.completion) {
        Throw(ErrorCode::kInvalidArgument, "{}: in completion mode there is no conversation", name);
      }
      TakeConversationCommand(name, argument);
    } else {
      Throw(ErrorCode::kInvalidArgument, "{}: no such command; /help lists them",
            ForTerminal(name));
    }
  }

  void TakeConversationCommand(const std::string& name, const std::string& argument) {
    if (name == "/system") {
      if (argument.empty()) {
        Note(settings_.system.empty() ? "(no system message)" : ForTerminal(settings_.system));
      } else {
        SetSystem(argument);
      }
      return;
    }
    if (argument.empty()) Throw(ErrorCode::kInvalidArgument, "{} needs the name of a file", name);
    if (name == "/save") {
      WriteFile(argument, ConversationToJson(engine_.info().name, messages_));
      Note(fmt::format("saved {} messages to {}", messages_.size(), argument));
    } else {
      messages_ = ConversationFromJson(ReadFile(argument, kMaxConversationBytes), argument);
      settings_.system = HasSystem() ? messages_.front().content : "";
      Note(fmt::format("loaded {} messages from {}", messages_.size(), argument));
    }
  }

  bool HasSystem() const { return !messages_.empty() && messages_.front().role == "system"; }

  void SetSystem(const std::string& text) {
    settings_.system = text;
    if (HasSystem()) {
      messages_.front().content = text;
    } else {
      messages_.insert(messages_.begin(), {.role = "system", .content = text});
    }
  }

  void Clear() {
    messages_.clear();
    totals_.context_tokens = 0;
    if (!settings_.system.empty()) SetSystem(settings_.system);
  }

  void ShowStats() const {
    const auto prompt = static_cast<double>(totals_.prompt_tokens);
    // The first token of an answer belongs to the prompt's time.
    const auto decoded = static_cast<double>(totals_.answer_tokens -
                                             std::min(totals_.answer_tokens, totals_.num_answers));
    Note(fmt::format("prompts  {} tokens, {:.2f} s, {:.1f} tokens/s", totals_.prompt_tokens,
                     totals_.prefill_seconds, PerSecond(prompt, totals_.prefill_seconds)));
    Note(fmt::format("answers  {} tokens, {:.2f} s, {:.1f} tokens/s", totals_.answer_tokens,
                     totals_.decode_seconds, PerSecond(decoded, totals_.decode_seconds)));
    Note(fmt::format("context  {} of {} tokens used", totals_.context_tokens,
                     engine_.info().max_context_tokens));
  }

  Engine& engine_;
  ChatSettings settings_;
  LineEditor editor_;
  std::vector<ChatMessage> messages_;
  Totals totals_;
};

}  // namespace

int RunChat(Engine& engine, ChatSettings settings) {
  const ModelInfo& info = engine.info();
  Note(fmt::format("{}: {} parameters, {} active, {}, {} threads, context {}; /help for help",
                   info.name, HumanCount(info.parameters), HumanCount(info.active_parameters),
                   info.isa, info.num_threads, info.max_context_tokens));
  return ChatSession(engine, std::move(settings)).Run();
}

std::string ConversationToJson(std::string_view model, const std::vector<ChatMessage>& messages) {
  Json list = Json::array();
  for (const ChatMessage& message : messages) {
    Json item = {{"role", message.role}, {"content", message.content}};
    if (!message.reasoning_content.empty()) {
      item["reasoning_content"] = message.reasoning_content;
    }
    list.push_back(std::move(item));
  }
  const Json root = {{"model", model}, {"messages", std::move(list)}};
  return root.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::vector<ChatMessage> ConversationFromJson(std::string_view json, const std::string& source) {
  const auto limit_depth = [](int depth, Json::parse_event_t, Json&) {
    if (static_cast<size_t>(depth) > kMaxConversationDepth) {
      throw std::length_error("nested too deeply");
    }
    return true;
  };
  Json root;
  try {
    root = Json::parse(json, limit_depth);
  } catch (const std::exception& error) {
    Throw(ErrorCode::kCorruption, "{}: not a saved conversation: {}", source, error.what());
  }
  const Json* list = root.is_object() && root.contains("messages") ? &root["messages"] : nullptr;
  if (list == nullptr || !list->is_array()) {
    Throw(ErrorCode::kCorruption, "{}: not a saved conversation: there is no list \"messages\"",
          source);
  }
  std::vector<ChatMessage> messages;
  for (const Json& item : *list) {
    ChatMessage message;
    if (item.is_object()) {
      message.role = StringOf(item, "role");
      message.content = StringOf(item, "content");
      message.reasoning_content = StringOf(item, "reasoning_content");
    }
    if (message.role != "system" && message.role != "user" && message.role != "assistant") {
      Throw(ErrorCode::kCorruption,
            "{}: message {} has the role \"{}\", expected system, user or assistant", source,
            messages.size(), ForTerminal(message.role));
    }
    messages.push_back(std::move(message));
  }
  return messages;
}

Prompt MakeChatPrompt(const Engine& engine, const std::vector<ChatMessage>& messages,
                      const ChatOptions& options) {
  EncodedChat chat = engine.RenderChat(messages, options);
  std::vector<int32_t> token_ids = chat.token_ids;
  return {.token_ids = std::move(token_ids), .chat = std::move(chat)};
}

Prompt MakeTextPrompt(const Engine& engine, std::string_view text) {
  return {.token_ids = engine.Encode(text), .chat = std::nullopt};
}

}  // namespace baleen
