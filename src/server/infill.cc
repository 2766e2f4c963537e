#include "server/infill.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "server/api_error.h"
#include "server/json.h"
#include "server/openai_json.h"

namespace baleen {

using simdjson::dom::element;

namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMaxSnippets = 1024;
constexpr size_t kMaxResponseFields = 64;
constexpr int64_t kMaxCompletions = 16;
constexpr int64_t kMaxPredict = 1 << 30;

double SecondsBetween(Clock::time_point a, Clock::time_point b) {
  return std::chrono::duration<double>(b - a).count();
}

std::vector<std::string> ReadSnippets(const Fields& fields) {
  std::vector<std::string> snippets;
  const auto list = fields.Array("input_extra");
  if (!list) return snippets;
  if (list->size() > kMaxSnippets) {
    fields.Refuse("input_extra", fmt::format("at most {} texts", kMaxSnippets));
  }
  for (const element item : *list) {
    std::string_view text;
    if (item.at_key("text").get_string().get(text)) {
      fields.Refuse("input_extra", "a list of objects with a text each");
    }
    snippets.emplace_back(text);
  }
  return snippets;
}

std::vector<std::string> ReadResponseFields(const Fields& fields) {
  std::vector<std::string> names;
  const auto list = fields.Array("response_fields");
  if (!list) return names;
  if (list->size() > kMaxResponseFields) {
    fields.Refuse("response_fields", fmt::format("at most {} names", kMaxResponseFields));
  }
  for (const element item : *list) {
    std::string_view name;
    if (item.get_string().get(name)) fields.Refuse("response_fields", "a list of names");
    names.emplace_back(name);
  }
  return names;
}

// What is asked for, nested fields flat under their path, as llama.cpp does.
Json Select(const Json& object, const std::vector<std::string>& names) {
  if (names.empty()) return object;
  Json selected = Json::object();
  for (const std::string& name : names) {
    const Json::json_pointer pointer = [&] {
      try {
        return Json::json_pointer("/" + name);
      } catch (const Json::exception&) {
        return Json::json_pointer("/\x01");  // a name that is no path is no field
      }
    }();
    if (!name.empty() && object.contains(pointer)) selected[name] = object.at(pointer);
  }
  return selected;
}

// One answer to the plan's prompt.
struct InfillChoice {
  explicit InfillChoice(size_t min_indent) : limit(min_indent) {}
  IndentLimit limit;
  std::string content;
  Completion end;  // without text and tokens
  Clock::time_point first_token;
  size_t num_tokens = 0;
  bool out_of_time = false;
};

class Infill : public Reply {
 public:
  Infill(Engine& engine, InfillPlan plan, std::string id, std::string model,
         std::shared_ptr<Exchange> exchange, AnswerHooks hooks)
      : Reply(engine, std::move(id), std::move(model), std::move(exchange), std::move(hooks)),
        plan_(std::move(plan)) {}

  void Start();

 private:
  void OnChunk(size_t index, const Chunk& chunk);
  void OnEnd(size_t index, const Completion& completion);
  void SendEnd() override;
  void SendError(HttpResponse response) override;
  Json Object(size_t index) const;
  Json Timings(const InfillChoice& choice) const;
  size_t prompt_tokens() const { return plan_.answer.prompts[0].token_ids.size(); }

  const InfillPlan plan_;
  std::vector<InfillChoice> choices_;
  std::string last_event_;  // held back until the request is accounted for
};

void Infill::Start() {
  const size_t n = plan_.answer.num_choices;
  for (size_t i = 0; i < n; ++i) choices_.emplace_back(plan_.min_indent);
  report_.num_choices = n;
  report_.max_tokens = plan_.answer.request.max_tokens.value_or(0);
  report_.usage.prompt_tokens = prompt_tokens();
  std::vector<Pass> passes;
  for (size_t i = 0; i < n; ++i) {
    Request request = plan_.answer.request;
    request.prompt_token_ids = plan_.answer.prompts[0].token_ids;
    if (request.sampling.seed) *request.sampling.seed += i;
    if (i > 0) request.sampling.temperature = plan_.temperature_of_others;
    passes.push_back({.request = std::move(request),
                      .on_chunk = [this, i](const Chunk& chunk) { OnChunk(i, chunk); },
                      .on_end = [this, i](const Completion& completion) { OnEnd(i, completion); }});
  }
  if (!plan_.answer.stream) {
    SubmitAll(std::move(passes));
    return;
  }
  HttpResponse head;
  head.content_type = "text/event-stream; charset=utf-8";
  head.headers = {{"Cache-Control", "no-cache"}, {"X-Request-Id", report_.id}};
  SubmitAll(std::move(passes), &head);
}

void Infill::OnChunk(size_t index, const Chunk& chunk) {
  InfillChoice& choice = choices_[index];
  if (choice.limit.stopped() || choice.out_of_time) return;
  const Clock::time_point now = Clock::now();
  if (!chunk.tokens.empty()) {
    if (choice.num_tokens == 0) choice.first_token = now;
    if (report_.first_token_seconds == 0) report_.first_token_seconds = SecondsSinceBegin();
    choice.num_tokens += chunk.tokens.size();
    report_.usage.completion_tokens += chunk.tokens.size();
  }
  const std::string text = choice.limit.Push(chunk.text);
  choice.content += text;
  if (plan_.answer.stream && !text.empty()) {
    exchange_->Write("data: " +
                     ToText({{"index", index},
                             {"content", text},
                             {"stop", false},
                             {"tokens_predicted", choice.num_tokens},
                             {"tokens_evaluated", prompt_tokens()}}) +
                     "\n\n");
  }
  choice.out_of_time = plan_.max_predict_seconds > 0 && choice.limit.has_newline() &&
                       SecondsBetween(choice.first_token, now) > plan_.max_predict_seconds;
  if (choice.limit.stopped() || choice.out_of_time) Cancel(index);
}

void Infill::OnEnd(size_t index, const Completion& completion) {
  InfillChoice& choice = choices_[index];
  choice.end = completion;
  const std::string rest = choice.limit.Flush();
  choice.content += rest;
  if (plan_.answer.stream && !has_failed()) {
    // The last event holds all that the earlier ones do not.
    Json object = Object(index);
    object["content"] = rest;
    std::string event = "data: " + ToText(Select(object, plan_.response_fields)) + "\n\n";
    if (is_last()) {
      last_event_ = std::move(event);
    } else {
      exchange_->Write(std::move(event));
    }
  }
  const bool cut = choice.limit.stopped() || choice.out_of_time;
  report_.finish_reason = cut ? "stop" : FinishReasonName(completion.finish_reason);
  if (index == 0) report_.usage.cached_tokens = completion.cached_tokens;
}

void Infill::SendError(HttpResponse response) {
  if (!plan_.answer.stream) {
    Reply::SendError(std::move(response));
    return;
  }
  exchange_->Write("data: " + response.body + "\n\n");
  exchange_->EndStream();
}

void Infill::SendEnd() {
  if (plan_.answer.stream) {
    exchange_->Write(last_event_);
    exchange_->EndStream();
    return;
  }
  Json answers = Json::array();
  for (size_t i = 0; i < choices_.size(); ++i) {
    answers.push_back(Select(Object(i), plan_.response_fields));
  }
  HttpResponse response;
  response.headers.push_back({"X-Request-Id", report_.id});
  response.body = ToText(answers.size() == 1 ? answers[0] : answers);
  exchange_->Respond(std::move(response));
}

Json Infill::Timings(const InfillChoice& choice) const {
  const auto add = [](Json& json, const std::string& name, size_t count, double seconds) {
    const auto n = static_cast<double>(count);
    json[name + "_n"] = count;
    json[name + "_ms"] = seconds * 1e3;
    json[name + "_per_token_ms"] = count > 0 ? seconds * 1e3 / n : 0.0;
    json[name + "_per_second"] = seconds > 0 ? n / seconds : 0.0;
  };
  Json json = Json::object();
  add(json, "prompt", prompt_tokens() - choice.end.cached_tokens, choice.end.prefill_seconds);
  add(json, "predicted", choice.num_tokens, choice.end.decode_seconds);
  return json;
}

Json Infill::Object(size_t index) const {
  const InfillChoice& choice = choices_[index];
  const Request& request = plan_.answer.request;
  const bool is_limit = choice.limit.stopped() || choice.out_of_time ||
                        choice.end.finish_reason == FinishReason::kLength;
  return {{"index", index},
          {"content", choice.content},
          {"id_slot", -1},
          {"stop", true},
          {"model", model_},
          {"tokens_predicted", choice.num_tokens},
          {"tokens_evaluated", prompt_tokens()},
          {"tokens_cached", choice.end.cached_tokens},
          {"generation_settings",
           {{"n_predict", request.max_tokens ? Json(*request.max_tokens) : Json(-1)},
            {"temperature", request.sampling.temperature},
            {"top_k", request.sampling.top_k},
            {"top_p", request.sampling.top_p},
            {"min_p", request.sampling.min_p},
            {"n_indent", plan_.min_indent}}},
          {"has_new_line", choice.limit.has_newline()},
          {"truncated", plan_.truncated},
          {"stop_type", is_limit ? "limit" : "eos"},
          {"stopping_word", ""},
          {"timings", Timings(choice)}};
}

}  // namespace

std::string IndentLimit::Push(std::string_view text) {
  std::string shown;
  for (const char c : text) {
    if (stopped_) break;
    if (at_line_start_ && (c == ' ' || c == '\t')) {
      held_ += c;
      continue;
    }
    if (at_line_start_ && c != '\n' && c != '\r' && held_.size() < min_indent_) {
      stopped_ = true;
      held_.clear();
      break;
    }
    shown += std::exchange(held_, "") + c;
    at_line_start_ = c == '\n' || (at_line_start_ && c == '\r');
    has_newline_ = has_newline_ || c == '\n';
  }
  return shown;
}

InfillPlan PlanInfill(const Engine& engine, const Fields& fields, bool force_fim) {
  const ModelInfo& info = engine.info();
  RequireFim(info, force_fim, "");
  InfillPlan plan;
  AnswerPlan& answer = plan.answer;
  ReadCommon(fields, info, answer);
  Request& request = answer.request;
  const bool has_temperature = fields.Any("temperature").has_value();
  if (!has_temperature) request.sampling.temperature = 0;
  plan.temperature_of_others =
      has_temperature ? request.sampling.temperature : kAlternativeTemperature;
  if (!fields.Any("priority")) request.priority = Priority::kCompletion;
  answer.num_choices = static_cast<size_t>(fields.Integer("n_cmpl", 1, kMaxCompletions)
                                               .value_or(static_cast<int64_t>(answer.num_choices)));
  plan.min_indent = static_cast<size_t>(fields.Integer("n_indent", 0, 1 << 20).value_or(0));
  plan.max_predict_seconds = fields.Number("t_max_predict_ms", 0, 1e9).value_or(0) / 1000;
  plan.response_fields = ReadResponseFields(fields);
  const int64_t wanted = fields.Integer("n_predict", -1, kMaxPredict).value_or(-1);
  // At least half of the context is the prompt's.
  const size_t half = info.max_context_tokens / 2;
  const size_t answer_room = wanted < 0 ? half : std::min(half, static_cast<size_t>(wanted));
  if (wanted >= 0) request.max_tokens = static_cast<size_t>(wanted);

  FimPrompt prompt = {
      .prefix = fields.String("input_prefix").value_or("") + fields.String("prompt").value_or(""),
      .suffix = fields.String("input_suffix").value_or(""),
      .snippets = ReadSnippets(fields)};
  std::vector<int32_t> ids = engine.EncodeFim(prompt);
  const size_t room = info.max_context_tokens - std::max<size_t>(1, answer_room);
  if (ids.size() > room) {
    plan.truncated = true;
    prompt.max_tokens = room;
    ids = engine.EncodeFim(prompt);
  }
  answer.prompts.push_back({.token_ids = std::move(ids), .chat = {}, .echo = {}});
  return plan;
}

void StartInfill(Engine& engine, InfillPlan plan, std::string id, std::string model,
                 std::shared_ptr<Exchange> exchange, AnswerHooks hooks) {
  std::make_shared<Infill>(engine, std::move(plan), std::move(id), std::move(model),
                           std::move(exchange), std::move(hooks))
      ->Start();
}

}  // namespace baleen
