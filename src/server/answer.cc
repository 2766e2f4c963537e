#include "server/answer.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "server/api_error.h"

namespace baleen {

namespace {

using Clock = std::chrono::steady_clock;

std::string Event(const Json& json) { return "data: " + ToText(json) + "\n\n"; }

// Tells of constraints that were left out, as far as a header may be long.
void AddIgnored(const AnswerForm& form, HttpResponse& response) {
  constexpr size_t kMaxHeaderBytes = 1000;
  if (!form.grammar || form.grammar->ignored().empty()) return;
  std::string value;
  for (const std::string& note : form.grammar->ignored()) {
    if (!value.empty()) value += "; ";
    value += note;
  }
  if (value.size() > kMaxHeaderBytes) value.resize(kMaxHeaderBytes);
  for (char& c : value) {
    if (c < ' ' || c > '~') c = '?';  // a schema's own names may hold anything
  }
  response.headers.push_back({"X-Baleen-Ignored", std::move(value)});
}

// What a chunk says, apart by where it belongs.
struct Delta {
  std::string reasoning;
  std::string content;
  std::vector<ToolCallParser::Call> calls;
  std::vector<GeneratedToken> tokens;
  std::vector<GeneratedToken> prompt;
};

// One answer to one prompt.
struct Choice {
  std::unique_ptr<ReasoningSplitter> splitter;  // of a chat
  std::optional<ToolCallParser> call_parser;    // of a chat with tools
  AnswerRecord record;
  std::unique_ptr<TextLogprobs> text_logprobs;  // of a streamed text completion
  Clock::time_point last_token;
  size_t num_tokens = 0;
  bool in_reasoning = false;
  bool begun = false;
  bool has_calls = false;
};

class Answer : public Reply {
 public:
  Answer(Engine& engine, AnswerPlan plan, std::string id, std::string model,
         std::shared_ptr<Exchange> exchange, AnswerHooks hooks)
      : Reply(engine, std::move(id), std::move(model), std::move(exchange), std::move(hooks)),
        plan_(std::move(plan)) {}

  void Start();

 private:
  Pass MakePass(size_t index);
  void OnChunk(size_t index, const Chunk& chunk);
  void ParseCalls(Choice& choice, Delta& delta, bool is_last);
  void OnEnd(size_t index, const Completion& completion);
  void Take(size_t index, Delta delta);
  void SendEnd() override;
  void SendError(HttpResponse response) override;

  Json Object(const char* suffix) const;
  std::string StreamEvent(Choice& choice, size_t index, const Delta& delta,
                          const char* finish_reason);
  Json ChatDelta(Choice& choice, const Delta& delta) const;
  void Send(std::string event) { exchange_->Write(std::move(event)); }

  const AnswerPlan plan_;
  const int64_t created_ = UnixSeconds();
  std::vector<Choice> choices_;  // of the first prompt, of the second, ...
  std::string last_event_;       // held back until the request is accounted for
};

void Answer::Start() {
  const size_t n = plan_.num_choices;
  choices_.resize(plan_.prompts.size() * n);
  for (size_t i = 0; i < choices_.size(); ++i) {
    const PromptPlan& prompt = plan_.prompts[i / n];
    Choice& choice = choices_[i];
    choice.record.prompt_token_ids = prompt.token_ids;
    choice.record.with_logprobs = plan_.with_logprobs;
    choice.record.with_token_ids = plan_.with_token_ids;
    choice.record.echo = prompt.echo;
    if (prompt.chat) {
      choice.splitter = engine_.MakeReasoningSplitter(*prompt.chat);
      choice.in_reasoning = prompt.chat->starts_in_reasoning;
      if (engine_.info().can_reason) choice.record.reasoning = "";
      if (plan_.form.has_tools) choice.call_parser.emplace(plan_.form.tool_call_format);
      choice.record.is_named_call = plan_.form.is_named;
    }
    if (!plan_.is_chat && plan_.with_logprobs) {
      std::optional<int32_t> first;
      if (prompt.echo) first = prompt.token_ids[0];
      choice.text_logprobs = std::make_unique<TextLogprobs>(engine_, first);
    }
    if (i % n == 0) report_.usage.prompt_tokens += prompt.token_ids.size();
  }
  report_.num_choices = choices_.size();
  report_.max_tokens = plan_.request.max_tokens.value_or(0);

  std::vector<Pass> passes;
  for (size_t i = 0; i < choices_.size(); ++i) passes.push_back(MakePass(i));
  if (!plan_.stream) {
    SubmitAll(std::move(passes));
    return;
  }
  HttpResponse head;
  head.content_type = "text/event-stream; charset=utf-8";
  head.headers = {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}};
  head.headers.push_back({"X-Request-Id", report_.id});
  AddIgnored(plan_.form, head);
  SubmitAll(std::move(passes), &head);
}

Reply::Pass Answer::MakePass(size_t index) {
  Request request = plan_.request;
  request.prompt_token_ids = plan_.prompts[index / plan_.num_choices].token_ids;
  if (request.sampling.seed) *request.sampling.seed += index % plan_.num_choices;
  return {.request = std::move(request),
          .on_chunk = [this, index](const Chunk& chunk) { OnChunk(index, chunk); },
          .on_end = [this, index](const Completion& completion) { OnEnd(index, completion); }};
}

void Answer::OnChunk(size_t index, const Chunk& chunk) {
  Choice& choice = choices_[index];
  Delta delta = {.reasoning = "",
                 .content = chunk.text,
                 .calls = {},
                 .tokens = chunk.tokens,
                 .prompt = chunk.prompt};
  if (choice.splitter) {
    ReasoningSplitter::Delta split = choice.splitter->Push(chunk.text);
    delta.reasoning = std::move(split.reasoning);
    delta.content = std::move(split.content);
  }
  if (!chunk.tokens.empty()) {
    const Clock::time_point now = Clock::now();
    if (choice.num_tokens > 0) {
      report_.token_gaps.push_back(std::chrono::duration<float>(now - choice.last_token).count());
    }
    if (report_.first_token_seconds == 0) report_.first_token_seconds = SecondsSinceBegin();
    choice.last_token = now;
    choice.num_tokens += chunk.tokens.size();
    report_.usage.completion_tokens += chunk.tokens.size();
    if (!delta.content.empty()) choice.in_reasoning = false;
    if (!delta.reasoning.empty()) choice.in_reasoning = true;
    if (choice.in_reasoning) report_.usage.reasoning_tokens += chunk.tokens.size();
  }
  if (choice.call_parser) ParseCalls(choice, delta, false);
  Take(index, std::move(delta));
}

// Parts the delta's content from calls; `is_last` with what was held back.
void Answer::ParseCalls(Choice& choice, Delta& delta, bool is_last) {
  ToolCallParser::Delta parsed = choice.call_parser->Push(delta.content);
  if (is_last) parsed.content += choice.call_parser->Flush().content;
  delta.content = std::move(parsed.content);
  delta.calls = std::move(parsed.calls);
  for (ToolCallParser::Call& call : delta.calls) {
    if (call.begins && call.id.empty()) call.id = NewId("call");
    choice.has_calls = true;
  }
}

void Answer::OnEnd(size_t index, const Completion& completion) {
  Choice& choice = choices_[index];
  if (choice.splitter) {
    ReasoningSplitter::Delta rest = choice.splitter->Flush();
    Delta delta = {.reasoning = std::move(rest.reasoning),
                   .content = std::move(rest.content),
                   .calls = {},
                   .tokens = {},
                   .prompt = {}};
    if (choice.call_parser) ParseCalls(choice, delta, true);
    if (!delta.reasoning.empty() || !delta.content.empty() || !delta.calls.empty()) {
      Take(index, std::move(delta));
    }
  }
  Completion& end = choice.record.completion;
  end.finish_reason = completion.finish_reason;
  end.cached_tokens = completion.cached_tokens;
  report_.finish_reason =
      FinishReasonName(completion.finish_reason, choice.has_calls, plan_.form.is_named);
  if (index % plan_.num_choices == 0) report_.usage.cached_tokens += completion.cached_tokens;
  if (!plan_.stream || has_failed()) return;
  std::string event = StreamEvent(choice, index, {}, report_.finish_reason);
  if (is_last()) {
    last_event_ = std::move(event);
  } else {
    Send(std::move(event));
  }
}

// The one place where a delta becomes part of the answer.
void Answer::Take(size_t index, Delta delta) {
  Choice& choice = choices_[index];
  if (plan_.stream) {
    const bool says_nothing =
        delta.content.empty() && delta.reasoning.empty() && delta.prompt.empty() &&
        delta.calls.empty() &&
        (delta.tokens.empty() || !(plan_.with_logprobs || plan_.with_token_ids));
    if (!says_nothing) Send(StreamEvent(choice, index, delta, nullptr));
    return;
  }
  AnswerRecord& record = choice.record;
  record.content += delta.content;
  if (!delta.reasoning.empty()) record.reasoning = record.reasoning.value_or("") + delta.reasoning;
  for (ToolCallParser::Call& call : delta.calls) {
    if (call.begins) record.tool_calls.push_back({call.id, call.name, ""});
    record.tool_calls[call.index].arguments_json += call.arguments;
  }
  std::ranges::move(delta.tokens, std::back_inserter(record.completion.tokens));
  std::ranges::move(delta.prompt, std::back_inserter(record.completion.prompt));
}

void Answer::SendEnd() {
  if (plan_.stream) {
    Send(std::move(last_event_));
    if (plan_.stream_usage) {
      Json usage = Object("chat.completion.chunk");
      usage["choices"] = Json::array();
      usage["usage"] = UsageJson(report_.usage);
      Send(Event(usage));
    }
    Send("data: [DONE]\n\n");
    exchange_->EndStream();
    return;
  }
  Json object = Object("chat.completion");
  Json choices = Json::array();
  for (size_t i = 0; i < choices_.size(); ++i) {
    choices.push_back(plan_.is_chat ? ChatChoiceJson(engine_, choices_[i].record, i)
                                    : TextChoiceJson(engine_, choices_[i].record, i));
  }
  object["choices"] = std::move(choices);
  object["usage"] = UsageJson(report_.usage);
  HttpResponse response;
  response.headers.push_back({"X-Request-Id", report_.id});
  AddIgnored(plan_.form, response);
  response.body = ToText(object);
  exchange_->Respond(std::move(response));
}

void Answer::SendError(HttpResponse response) {
  if (!plan_.stream) {
    Reply::SendError(std::move(response));
    return;
  }
  Send("data: " + response.body + "\n\n");
  Send("data: [DONE]\n\n");
  exchange_->EndStream();
}

Json Answer::Object(const char* chat_object) const {
  return {{"id", report_.id},
          {"object", plan_.is_chat ? chat_object : "text_completion"},
          {"created", created_},
          {"model", model_}};
}

Json Answer::ChatDelta(Choice& choice, const Delta& delta) const {
  Json json = Json::object();
  if (!choice.begun) {
    json["role"] = "assistant";
    json["content"] = "";
  }
  if (!delta.content.empty()) json["content"] = delta.content;
  if (!delta.reasoning.empty()) json["reasoning_content"] = delta.reasoning;
  for (const ToolCallParser::Call& call : delta.calls) {
    Json entry = {{"index", call.index}, {"function", {{"arguments", call.arguments}}}};
    if (call.begins) {
      entry["id"] = call.id;
      entry["type"] = "function";
      entry["function"]["name"] = call.name;
    }
    json["tool_calls"].push_back(std::move(entry));
  }
  return json;
}

std::string Answer::StreamEvent(Choice& choice, size_t index, const Delta& delta,
                                const char* finish_reason) {
  Json part = {{"index", index}};
  Json logprobs;
  const bool has_logprobs = plan_.with_logprobs && !(delta.tokens.empty() && delta.prompt.empty());
  if (plan_.is_chat) {
    part["delta"] = ChatDelta(choice, delta);
    if (has_logprobs) logprobs = ChatLogprobsJson(engine_, delta.tokens);
  } else {
    // The prompt stands before the first of the answer.
    part["text"] = (choice.begun ? "" : choice.record.echo.value_or("")) + delta.content;
    if (has_logprobs) {
      // A chunk has tokens of one or the other.
      logprobs = choice.text_logprobs->Take(delta.prompt.empty() ? delta.tokens : delta.prompt);
    }
  }
  part["logprobs"] = std::move(logprobs);
  part["finish_reason"] = finish_reason != nullptr ? Json(finish_reason) : Json();
  if (plan_.with_token_ids) {
    Json ids = Json::array();
    for (const GeneratedToken& token : delta.tokens) ids.push_back(token.token_id);
    part["token_ids"] = std::move(ids);
    if (!choice.begun) part["prompt_token_ids"] = choice.record.prompt_token_ids;
  }
  choice.begun = true;
  Json object = Object("chat.completion.chunk");
  object["choices"] = Json::array({std::move(part)});
  if (plan_.stream_usage) object["usage"] = nullptr;
  return Event(object);
}

}  // namespace

void StartAnswer(Engine& engine, AnswerPlan plan, std::string id, std::string model,
                 std::shared_ptr<Exchange> exchange, AnswerHooks hooks) {
  std::make_shared<Answer>(engine, std::move(plan), std::move(id), std::move(model),
                           std::move(exchange), std::move(hooks))
      ->Start();
}

}  // namespace baleen
