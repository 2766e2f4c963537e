// server/server.cc: which path is answered by what.
#include "server/server.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "server/answer.h"
#include "server/answer_plan.h"
#include "server/api_error.h"
#include "server/infill.h"
#include "server/json.h"
#include "server/keys.h"
#include "server/ledger.h"
#include "server/metrics.h"
#include "server/page.h"
#include "server/rate_limiter.h"
#include "server/score.h"

namespace baleen {

namespace {

constexpr int64_t kMaxDetokenizedIds = 1 << 22;
constexpr double kMaxRetryAfterSeconds = 60;
constexpr size_t kMaxRoutedTokens = 8192;

// Clients use all of these: /v1/models, /models, /v1/models/, /beta/completions.
std::string Normalize(std::string_view path) {
  for (const std::string_view prefix : {"/v1/", "/beta/"}) {
    if (path.starts_with(prefix)) path.remove_prefix(prefix.size() - 1);
  }
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  return std::string(path);
}

double UnixTime() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

// Whose request that is, what it asks, and what of it is ignored.
struct Asked {
  std::optional<KeyInfo> key;
  std::string model;
  std::string endpoint;
  std::vector<std::string> ignored;

  std::string key_name() const { return key ? key->name : ""; }
};

// What a request asked for and does not get: fields that nobody reads, constraints of a schema.
// Names are the client's, so those that are no names are not told, and there is an end of them.
std::vector<std::string> IgnoredParts(const Fields& fields, const Grammar* grammar) {
  constexpr size_t kMaxParts = 16;
  constexpr size_t kMaxBytes = 128;
  std::vector<std::string> parts = fields.Unread();
  const auto is_odd = [](char c) { return c <= ' ' || c > '~'; };
  for (std::string& name : parts) {
    if (name.size() > kMaxBytes || std::ranges::any_of(name, is_odd)) name = "?";
  }
  if (grammar != nullptr) std::ranges::copy(grammar->ignored(), std::back_inserter(parts));
  if (parts.size() > kMaxParts) {
    parts.resize(kMaxParts);
    parts.push_back("...");
  }
  for (std::string& part : parts) {
    if (part.size() > kMaxBytes) part.resize(kMaxBytes);
    for (char& c : part) c = c >= ' ' && c <= '~' ? c : '?';
  }
  return parts;
}

LedgerRow MakeRow(const AnswerReport& report, const Asked& asked) {
  LedgerRow row;
  row.id = report.id;
  row.time = UnixTime();
  row.key = asked.key_name();
  row.model = asked.model;
  row.endpoint = asked.endpoint;
  row.finish_reason = report.finish_reason;
  row.prompt_tokens = static_cast<int64_t>(report.usage.prompt_tokens);
  row.cached_tokens = static_cast<int64_t>(report.usage.cached_tokens);
  row.completion_tokens = static_cast<int64_t>(report.usage.completion_tokens);
  row.reasoning_tokens = static_cast<int64_t>(report.usage.reasoning_tokens);
  row.queue_seconds = report.queue_seconds;
  row.prefill_seconds = report.prefill_seconds;
  row.decode_seconds = report.decode_seconds;
  row.prompt_machine_seconds = report.prompt_machine_seconds;
  row.answer_machine_seconds = report.answer_machine_seconds;
  return row;
}

HttpResponse JsonResponse(const Json& json) {
  HttpResponse response;
  response.body = ToText(json);
  return response;
}

}  // namespace

class Server::Impl {
 public:
  Impl(Engine& engine, ServerOptions options)
      : engine_(engine), options_(std::move(options)), started_(UnixSeconds()) {
    if (options_.model_names.empty()) options_.model_names.push_back(engine.info().name);
    metrics_.emplace(options_.model_names[0], engine.info().max_context_tokens);
    if (!options_.database.empty()) {
      keys_.emplace(options_.database);
      ledger_.emplace(options_.database);
    }
    http_ = std::make_unique<HttpServer>(
        options_.http,
        [this](const HttpRequest& request, std::vector<HttpHeader>& headers) {
          return Gate(request, headers);
        },
        [this](const std::shared_ptr<Exchange>& exchange) { Handle(exchange); },
        [](int status, std::string_view message) {
          return ErrorResponse(ApiError(status, message));
        });
  }

  const HttpServer& http() const { return *http_; }

  static std::vector<std::string> RouteNames() {
    std::vector<std::string> names;
    for (const Route& route : Routes()) {
      names.push_back(fmt::format("{} {}", route.method, route.path));
    }
    return names;
  }

  bool Drain(std::chrono::milliseconds limit) {
    draining_ = true;
    return http_->Drain(limit);
  }

 private:
  // How a path is answered.
  using Action = void (Impl::*)(const std::shared_ptr<Exchange>&);
  struct Route {
    const char* method;
    const char* path;  // normalized; "/models/*" has a rest
    Action action;
    bool open = false;           // to all, without a key
    bool answers_later = false;  // logged when its answer has ended
  };
  static const std::vector<Route>& Routes();
  static const Route* FindRoute(const HttpRequest& request, std::vector<HttpHeader>& headers);
  bool IsInvocation(const Route& route) const {
    return options_.for_sagemaker && std::string_view(route.path) == "/invocations";
  }

  std::optional<HttpResponse> Gate(const HttpRequest& request, std::vector<HttpHeader>& headers);
  std::optional<HttpResponse> CheckOrigin(const HttpRequest& request,
                                          std::vector<HttpHeader>& headers) const;
  // Whose request that is; unset while no keys are in use. Throws ApiError 401.
  std::optional<KeyInfo> Authenticate(const HttpRequest& request);
  void AdmitByLimits(const std::optional<KeyInfo>& key, std::vector<HttpHeader>& headers);
  void Handle(const std::shared_ptr<Exchange>& exchange);
  // What is known of a request that is answered without the engine.
  void LogPlain(const HttpRequest& request, int status) const;
  void LogAnswer(const AnswerReport& report, const Asked& asked) const;

  void Health(const std::shared_ptr<Exchange>& exchange);
  void Page(const std::shared_ptr<Exchange>& exchange);
  void Experts(const std::shared_ptr<Exchange>& exchange);
  void Invocations(const std::shared_ptr<Exchange>& exchange);
  void Models(const std::shared_ptr<Exchange>& exchange);
  void Model(const std::shared_ptr<Exchange>& exchange);
  void Chat(const std::shared_ptr<Exchange>& exchange);
  void Completions(const std::shared_ptr<Exchange>& exchange);
  void Infill(const std::shared_ptr<Exchange>& exchange);
  void Score(const std::shared_ptr<Exchange>& exchange);
  void TokenizerInfo(const std::shared_ptr<Exchange>& exchange);
  void Tokenize(const std::shared_ptr<Exchange>& exchange);
  void Detokenize(const std::shared_ptr<Exchange>& exchange);
  void ApplyTemplate(const std::shared_ptr<Exchange>& exchange);
  void ShowMetrics(const std::shared_ptr<Exchange>& exchange);
  void ShowUsage(const std::shared_ptr<Exchange>& exchange);

  std::string ModelName(const Fields& fields) const;
  Json ModelJson(const std::string& name) const;
  // Makes the request its key's, and says what happens when it has ended.
  AnswerHooks ChargeTo(Asked asked, Request& request);
  void RunPlan(const std::shared_ptr<Exchange>& exchange, const Fields& fields, AnswerPlan plan);

  Engine& engine_;
  ServerOptions options_;
  const int64_t started_;
  std::atomic<bool> draining_ = false;
  std::optional<Metrics> metrics_;
  std::optional<KeyStore> keys_;
  RateLimiter limiter_;
  // The server goes first: when it is gone every answer has ended; then the ledger writes the rest.
  std::optional<Ledger> ledger_;
  std::unique_ptr<HttpServer> http_;
};

const std::vector<Server::Impl::Route>& Server::Impl::Routes() {
  static const std::vector<Route> routes = {
      {"GET", "/", &Impl::Page, true},
      {"GET", "/page/*", &Impl::Page, true},
      {"GET", "/openapi.json", &Impl::Page, true},
      {"GET", "/health", &Impl::Health, true},
      {"GET", "/ping", &Impl::Health, true},
      {"POST", "/ping", &Impl::Health, true},
      {"GET", "/metrics", &Impl::ShowMetrics},
      {"GET", "/usage", &Impl::ShowUsage},
      {"GET", "/models", &Impl::Models},
      {"GET", "/models/*", &Impl::Model},
      {"POST", "/chat/completions", &Impl::Chat, false, true},
      {"POST", "/completions", &Impl::Completions, false, true},
      {"POST", "/infill", &Impl::Infill, false, true},
      {"POST", "/score", &Impl::Score, false, true},
      {"POST", "/generative_scoring", &Impl::Score, false, true},
      {"POST", "/invocations", &Impl::Invocations, false, true},
      {"POST", "/experts", &Impl::Experts, false, true},
      {"GET", "/tokenizer_info", &Impl::TokenizerInfo},
      {"POST", "/apply-template", &Impl::ApplyTemplate},
      {"POST", "/tokenize", &Impl::Tokenize},
      {"POST", "/detokenize", &Impl::Detokenize},
  };
  return routes;
}

// Throws ApiError 404, or 405 with a header of what is allowed.
const Server::Impl::Route* Server::Impl::FindRoute(const HttpRequest& request,
                                                   std::vector<HttpHeader>& headers) {
  const std::string path = Normalize(request.path);
  std::string allowed;
  for (const Route& route : Routes()) {
    const std::string_view pattern = route.path;
    const bool matches = pattern.ends_with('*')
                             ? path.starts_with(pattern.substr(0, pattern.size() - 1))
                             : path == pattern;
    if (!matches) continue;
    const bool is_head = request.method == "HEAD" && std::string_view(route.method) == "GET";
    if (request.method == route.method || is_head) return &route;
    if (!allowed.empty()) allowed += ", ";
    allowed += route.method;
  }
  if (allowed.empty()) throw ApiError(404, "there is no " + request.path, "", "not_found");
  headers.push_back({"Allow", allowed});
  throw ApiError(405, fmt::format("{} takes {}", request.path, allowed), "",
                 "method_not_supported");
}

// Before the body is read.
std::optional<HttpResponse> Server::Impl::Gate(const HttpRequest& request,
                                               std::vector<HttpHeader>& headers) {
  try {
    if (auto response = CheckOrigin(request, headers)) return response;
    const Route* route = FindRoute(request, headers);
    if (route->open || IsInvocation(*route)) return std::nullopt;
    const std::optional<KeyInfo> key = Authenticate(request);
    if (request.method == "POST") AdmitByLimits(key, headers);
    return std::nullopt;
  } catch (const std::exception& error) {
    HttpResponse response = ErrorResponse(ToApiError(error));
    LogPlain(request, response.status);
    return response;
  }
}

std::optional<KeyInfo> Server::Impl::Authenticate(const HttpRequest& request) {
  const bool from_platform = options_.for_sagemaker && Normalize(request.path) == "/invocations";
  if (from_platform) return std::nullopt;
  if (!options_.for_sagemaker && (!keys_ || keys_->empty())) return std::nullopt;
  std::string_view given = request.Header("authorization");
  constexpr std::string_view kScheme = "Bearer ";
  if (given.starts_with(kScheme)) {
    given.remove_prefix(kScheme.size());
  } else {
    given = request.Header("x-api-key");
  }
  auto key = keys_ ? keys_->Find(given) : std::nullopt;
  if (!key) {
    throw ApiError(401,
                   given.empty() ? "this server needs a key: Authorization: Bearer KEY"
                                 : "this is not a valid key",
                   "", "invalid_api_key");
  }
  return key;
}

// The headers are OpenAI's; clients read them to slow down in time.
void Server::Impl::AdmitByLimits(const std::optional<KeyInfo>& key,
                                 std::vector<HttpHeader>& headers) {
  if (!key) return;
  const RateLimiter::Verdict verdict = limiter_.Admit(*key, std::chrono::steady_clock::now());
  const char* const names[] = {"requests", "tokens", "machine-seconds"};
  for (size_t i = 0; i < RateLimiter::kNumKinds; ++i) {
    if (verdict.limit[i] == 0) continue;
    const auto header = [&](const char* what, const std::string& value) {
      headers.push_back({fmt::format("x-ratelimit-{}-{}", what, names[i]), value});
    };
    header("limit", fmt::format("{:.12g}", verdict.limit[i]));
    header("remaining", std::to_string(static_cast<int64_t>(verdict.remaining[i])));
    header("reset", fmt::format("{:.0f}s", std::ceil(verdict.reset_seconds[i])));
  }
  if (verdict.allowed) return;
  // Above 120 s the openai client gives up.
  const double wait = std::min(std::ceil(verdict.retry_after_seconds), kMaxRetryAfterSeconds);
  headers.push_back({"Retry-After", fmt::format("{:.0f}", wait)});
  throw ApiError(429,
                 fmt::format("{} has reached its limit; try again in {:.0f} s", key->name, wait),
                 "", "rate_limit_exceeded");
}

// A web page that somebody has open must not use a server on their machine unless it is allowed to.
std::optional<HttpResponse> Server::Impl::CheckOrigin(const HttpRequest& request,
                                                      std::vector<HttpHeader>& headers) const {
  const std::string_view origin = request.Header("origin");
  if (origin.empty()) return std::nullopt;
  const auto is_allowed = [&](const std::string& allowed) {
    return allowed == "*" || allowed == origin;
  };
  if (!std::ranges::any_of(options_.allowed_origins, is_allowed)) {
    const std::string_view host = request.Header("host");
    const bool own =
        origin == fmt::format("http://{}", host) || origin == fmt::format("https://{}", host);
    if (own) return std::nullopt;
    throw ApiError(403, fmt::format("web pages of {} may not call this server", origin));
  }
  headers.push_back({"Access-Control-Allow-Origin", std::string(origin)});
  headers.push_back({"Vary", "Origin"});
  if (request.method != "OPTIONS") return std::nullopt;
  HttpResponse response;
  response.status = 204;
  response.content_type.clear();
  response.headers = {{"Access-Control-Allow-Methods", "GET, POST"},
                      {"Access-Control-Allow-Headers", "authorization, content-type"},
                      {"Access-Control-Max-Age", "600"}};
  return response;
}

void Server::Impl::Handle(const std::shared_ptr<Exchange>& exchange) {
  try {
    std::vector<HttpHeader> headers;  // the gate has found it, so there are none
    const Route* route = FindRoute(exchange->request(), headers);
    (this->*route->action)(exchange);
    if (!route->answers_later) LogPlain(exchange->request(), 200);
  } catch (const std::exception& error) {
    HttpResponse response = ErrorResponse(ToApiError(error));
    LogPlain(exchange->request(), response.status);
    exchange->Respond(std::move(response));
  }
}

void Server::Impl::Page(const std::shared_ptr<Exchange>& exchange) {
  auto file = PageFile(Normalize(exchange->request().path));
  if (!file) throw ApiError(404, "there is no such file", "", "not_found");
  exchange->Respond(std::move(*file));
}

// How many of the tokens after the first `from` each expert worked on, layer by layer. One pass
// over the whole text, on this thread: it is for people who look at one answer.
void Server::Impl::Experts(const std::shared_ptr<Exchange>& exchange) {
  const JsonDocument body = ParseBody(exchange->request().body);
  const Fields fields(body.object());
  ScoreRequest request = {
      .token_ids = fields.Ids("tokens"), .logprobs = false, .logits = false, .routing = true};
  if (request.token_ids.empty() || request.token_ids.size() > kMaxRoutedTokens) {
    fields.Refuse("tokens", fmt::format("a list of 1 to {} token ids", kMaxRoutedTokens));
  }
  const auto num_tokens = static_cast<int64_t>(request.token_ids.size());
  const auto from = static_cast<size_t>(fields.Integer("from", 0, num_tokens).value_or(0));
  const std::string model = ModelName(fields);
  Request charged;
  const AnswerHooks hooks = ChargeTo({.key = Authenticate(exchange->request()),
                                      .model = model,
                                      .endpoint = "experts",
                                      .ignored = IgnoredParts(fields, nullptr)},
                                     charged);
  AnswerReport report = {.id = NewId("experts"), .num_choices = 1};
  report.usage.prompt_tokens = request.token_ids.size();
  const auto begin = std::chrono::steady_clock::now();
  const auto score = engine_.ScoreTokens(std::move(request));
  report.prompt_machine_seconds = score.machine_seconds;
  report.total_seconds = report.prefill_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();

  const size_t k = engine_.info().num_experts_per_tok;
  Json layers = Json::array();
  for (const RoutingTrace& trace : score.routing) {
    std::vector<int64_t> counts(engine_.info().num_experts);
    for (size_t i = from * k; i < trace.experts.size(); ++i) {
      ++counts.at(static_cast<size_t>(trace.experts[i]));
    }
    layers.push_back({{"layer", trace.layer}, {"counts", std::move(counts)}});
  }
  HttpResponse response = JsonResponse({{"layers", std::move(layers)}});
  response.headers.push_back({"X-Request-Id", report.id});
  hooks.on_end(report, [exchange, response = std::move(response)](bool ok) {
    exchange->Post([exchange, ok, response] {
      exchange->Respond(ok ? response : ErrorResponse(NotAccountedFor()));
    });
  });
}

// What SageMaker sends is whatever its callers send: its fields say what it is.
void Server::Impl::Invocations(const std::shared_ptr<Exchange>& exchange) {
  const JsonDocument body = ParseBody(exchange->request().body);
  const Fields fields(body.object());
  if (fields.Any("messages")) return Chat(exchange);
  if (fields.Any("query")) return Score(exchange);
  if (fields.Any("input_prefix") || fields.Any("input_suffix")) return Infill(exchange);
  if (fields.Any("prompt")) return Completions(exchange);
  throw ApiError(400, "give messages, a prompt, a query with labels, or input_prefix and _suffix");
}

// Paths that are nobody's may hold anything, so they are not told.
void Server::Impl::LogPlain(const HttpRequest& request, int status) const {
  if (!options_.log) return;
  const std::string path = Normalize(request.path);
  const bool is_known = std::ranges::any_of(
      Routes(), [&](const Route& route) { return std::string_view(route.path) == path; });
  options_.log(ToText({{"time", UnixTime()},
                       {"method", request.method.size() <= 8 ? request.method : ""},
                       {"path", is_known ? path : ""},
                       {"status", status}}));
}

void Server::Impl::LogAnswer(const AnswerReport& report, const Asked& asked) const {
  if (!options_.log) return;
  const auto ms = [](double seconds) { return std::round(seconds * 1e5) / 100; };
  Json line = {{"time", UnixTime()},
               {"id", report.id},
               {"endpoint", asked.endpoint},
               {"key", asked.key_name()},
               {"model", asked.model},
               {"finish_reason", report.finish_reason},
               {"choices", report.num_choices},
               {"prompt_tokens", report.usage.prompt_tokens},
               {"cached_tokens", report.usage.cached_tokens},
               {"completion_tokens", report.usage.completion_tokens},
               {"reasoning_tokens", report.usage.reasoning_tokens},
               {"queue_ms", ms(report.queue_seconds)},
               {"prefill_ms", ms(report.prefill_seconds)},
               {"decode_ms", ms(report.decode_seconds)},
               {"first_token_ms", ms(report.first_token_seconds)},
               {"machine_ms", ms(report.prompt_machine_seconds + report.answer_machine_seconds)},
               {"total_ms", ms(report.total_seconds)}};
  if (!asked.ignored.empty()) line["ignored"] = asked.ignored;
  options_.log(ToText(line));
}

void Server::Impl::Health(const std::shared_ptr<Exchange>& exchange) {
  HttpResponse response = JsonResponse({{"status", draining_ ? "stopping" : "ok"}});
  if (draining_) response.status = 503;
  exchange->Respond(std::move(response));
}

Json Server::Impl::ModelJson(const std::string& name) const {
  return {{"id", name},
          {"object", "model"},
          {"created", started_},
          {"owned_by", "baleen"},
          {"root", options_.model_names[0]},
          {"max_model_len", engine_.info().max_context_tokens},
          {"context_length", engine_.info().max_context_tokens},
          {"chat_template", engine_.info().chat_template},
          {"can_reason", engine_.info().can_reason},
          {"fill_in_the_middle",
           engine_.info().knows_fim || (engine_.info().has_fim_tokens && options_.force_fim)}};
}

void Server::Impl::Models(const std::shared_ptr<Exchange>& exchange) {
  Json list = Json::array();
  for (const std::string& name : options_.model_names) list.push_back(ModelJson(name));
  exchange->Respond(JsonResponse({{"object", "list"}, {"data", std::move(list)}}));
}

void Server::Impl::Model(const std::shared_ptr<Exchange>& exchange) {
  const std::string name =
      Normalize(exchange->request().path).substr(std::string_view("/models/").size());
  if (std::ranges::find(options_.model_names, name) == options_.model_names.end()) {
    throw ApiError(404, fmt::format("there is no model {}", name), "model", "model_not_found");
  }
  exchange->Respond(JsonResponse(ModelJson(name)));
}

// The name that the client uses, which must be one of the model's.
std::string Server::Impl::ModelName(const Fields& fields) const {
  const auto name = fields.String("model");
  if (!name) return options_.model_names[0];
  if (std::ranges::find(options_.model_names, *name) == options_.model_names.end()) {
    throw ApiError(404,
                   fmt::format("there is no model {}; this is {}", *name, options_.model_names[0]),
                   "model", "model_not_found");
  }
  return *name;
}

AnswerHooks Server::Impl::ChargeTo(Asked asked, Request& request) {
  if (const auto& key = asked.key) {
    request.share_id = key->name;
    request.priority = std::max(request.priority, key->limits.priority);
    request.cache_salt =
        fmt::format("key={}:{};", key->name.size(), key->name) + request.cache_salt;
  }
  return {.on_end = [this, asked = std::move(asked)](const AnswerReport& report,
                                                     std::function<void(bool)> then) {
    metrics_->OnAnswer(report);
    LogAnswer(report, asked);
    const Usage& usage = report.usage;
    if (asked.key) {
      limiter_.Charge(*asked.key, usage.prompt_tokens + usage.completion_tokens,
                      report.prompt_machine_seconds + report.answer_machine_seconds,
                      std::chrono::steady_clock::now());
    }
    if (!ledger_) {
      then(true);
      return;
    }
    ledger_->Record(MakeRow(report, asked), std::move(then));
  }};
}

void Server::Impl::RunPlan(const std::shared_ptr<Exchange>& exchange, const Fields& fields,
                           AnswerPlan plan) {
  const std::string model = ModelName(fields);
  const AnswerHooks hooks = ChargeTo({.key = Authenticate(exchange->request()),
                                      .model = model,
                                      .endpoint = plan.is_chat ? "chat.completions" : "completions",
                                      .ignored = IgnoredParts(fields, plan.form.grammar.get())},
                                     plan.request);
  const std::string id = NewId(plan.is_chat ? "chatcmpl" : "cmpl");
  StartAnswer(engine_, std::move(plan), id, model, exchange, hooks);
}

void Server::Impl::Infill(const std::shared_ptr<Exchange>& exchange) {
  const JsonDocument body = ParseBody(exchange->request().body);
  const Fields fields(body.object());
  const std::string model = ModelName(fields);
  InfillPlan plan = PlanInfill(engine_, fields, options_.force_fim);
  const AnswerHooks hooks = ChargeTo({.key = Authenticate(exchange->request()),
                                      .model = model,
                                      .endpoint = "infill",
                                      .ignored = IgnoredParts(fields, nullptr)},
                                     plan.answer.request);
  StartInfill(engine_, std::move(plan), NewId("infill"), model, exchange, hooks);
}

void Server::Impl::Score(const std::shared_ptr<Exchange>& exchange) {
  const JsonDocument body = ParseBody(exchange->request().body);
  const Fields fields(body.object());
  const std::string model = ModelName(fields);
  ScorePlan plan = PlanScore(engine_, fields);
  const AnswerHooks hooks = ChargeTo({.key = Authenticate(exchange->request()),
                                      .model = model,
                                      .endpoint = "score",
                                      .ignored = IgnoredParts(fields, nullptr)},
                                     plan.request);
  StartScore(engine_, std::move(plan), NewId("score"), model, exchange, hooks);
}

void Server::Impl::ShowMetrics(const std::shared_ptr<Exchange>& exchange) {
  HttpResponse response;
  response.content_type = "text/plain; version=0.0.4";
  response.body = metrics_->Text(engine_.Stats());
  exchange->Respond(std::move(response));
}

// What the asker's key used, or everybody while there are no keys.
void Server::Impl::ShowUsage(const std::shared_ptr<Exchange>& exchange) {
  if (!ledger_) throw ApiError(404, "this server keeps no ledger", "", "not_found");
  const std::optional<KeyInfo> key = Authenticate(exchange->request());
  const std::string* only = key ? &key->name : nullptr;
  const std::vector<UsageTotal> totals = Ledger::Totals(options_.database, 0);
  exchange->Respond(JsonResponse(UsageReportJson(totals, only, options_.prices, 0)));
}

void Server::Impl::Chat(const std::shared_ptr<Exchange>& exchange) {
  const JsonDocument body = ParseBody(exchange->request().body);
  const Fields fields(body.object());
  ModelName(fields);
  RunPlan(exchange, fields, PlanChat(engine_, fields));
}

void Server::Impl::Completions(const std::shared_ptr<Exchange>& exchange) {
  const JsonDocument body = ParseBody(exchange->request().body);
  const Fields fields(body.object());
  ModelName(fields);
  RunPlan(exchange, fields, PlanCompletion(engine_, fields, options_.force_fim));
}

// What lm-eval asks for before it lets the server tokenize, as vLLM answers it.
void Server::Impl::TokenizerInfo(const std::shared_ptr<Exchange>& exchange) {
  const ModelInfo& info = engine_.info();
  const auto name = [&](int32_t id) { return id >= 0 ? Json(engine_.TokenBytes(id)) : Json(); };
  const int32_t eos = info.stop_token_ids.empty() ? -1 : info.stop_token_ids[0];
  exchange->Respond(JsonResponse({{"tokenizer_class", "baleen"},
                                  {"bos_token", name(info.bos_token_id)},
                                  {"eos_token", name(eos)},
                                  {"model_max_length", info.max_context_tokens}}));
}

void Server::Impl::Tokenize(const std::shared_ptr<Exchange>& exchange) {
  const JsonDocument body = ParseBody(exchange->request().body);
  const Fields fields(body.object());
  ModelName(fields);
  std::vector<int32_t> ids;
  if (fields.Any("messages")) {
    ids = ReadChat(engine_, fields).token_ids;
  } else if (const auto prompt = fields.String("prompt")) {
    ids = engine_.Encode(*prompt, {.parse_special = true,
                                   .add_bos = fields.Bool("add_special_tokens").value_or(true)});
  } else if (const auto content = fields.String("content")) {  // as llama.cpp's server has it
    ids = engine_.Encode(*content, {.parse_special = fields.Bool("parse_special").value_or(true),
                                    .add_bos = fields.Bool("add_special").value_or(false)});
  } else {
    fields.Refuse("prompt", "a string, or messages a list");
  }
  Json json = {
      {"count", ids.size()}, {"max_model_len", engine_.info().max_context_tokens}, {"tokens", ids}};
  if (fields.Bool("return_token_strs").value_or(false)) {
    Json strings = Json::array();
    for (const int32_t id : ids) strings.push_back(TokenString(engine_.TokenBytes(id)));
    json["token_strs"] = std::move(strings);
  }
  exchange->Respond(JsonResponse(json));
}

void Server::Impl::Detokenize(const std::shared_ptr<Exchange>& exchange) {
  const JsonDocument body = ParseBody(exchange->request().body);
  const Fields fields(body.object());
  ModelName(fields);
  const std::vector<int32_t> ids = fields.Ids("tokens");
  if (!fields.Any("tokens") || ids.size() > kMaxDetokenizedIds) {
    fields.Refuse("tokens", fmt::format("a list of at most {} token ids", kMaxDetokenizedIds));
  }
  for (const int32_t id : ids) {
    if (static_cast<size_t>(id) < engine_.info().vocab_size) continue;
    throw ApiError(
        400,
        fmt::format("token id {} is outside the vocabulary of {}", id, engine_.info().vocab_size),
        "tokens");
  }
  exchange->Respond(JsonResponse({{"prompt", engine_.Decode(ids, false)}}));
}

// What the model is given of a conversation, as llama.cpp's server shows it. In this text the names
// of control tokens that stood in a message can no longer be told from tokens.
void Server::Impl::ApplyTemplate(const std::shared_ptr<Exchange>& exchange) {
  const JsonDocument body = ParseBody(exchange->request().body);
  const Fields fields(body.object());
  ModelName(fields);
  const std::vector<int32_t> ids = ReadChat(engine_, fields).token_ids;
  exchange->Respond(JsonResponse({{"prompt", engine_.Decode(ids, false)}}));
}

Server::Server(Engine& engine, ServerOptions options)
    : impl_(std::make_unique<Impl>(engine, std::move(options))) {}
Server::~Server() = default;

uint16_t Server::port() const { return impl_->http().port(); }
bool Server::Drain(std::chrono::milliseconds limit) { return impl_->Drain(limit); }
const HttpServer& Server::http() const { return impl_->http(); }
std::vector<std::string> Server::RouteNames() { return Impl::RouteNames(); }

}  // namespace baleen
