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
#include "server/json.h"
#include "server/keys.h"
#include "server/ledger.h"
#include "server/metrics.h"
#include "server/rate_limiter.h"

namespace baleen {

namespace {

constexpr int64_t kMaxDetokenizedIds = 1 << 22;
constexpr double kMaxRetryAfterSeconds = 60;

// Clients use all of these: /v1/models, /models, /v1/models/, /beta/completions.
std::string Normalize(std::string_view path) {
  for (const std::string_view prefix : {"/v1/", "/beta/"}) {
    if (path.starts_with(prefix)) path.remove_prefix(prefix.size() - 1);
  }
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  return std::string(path);
}

LedgerRow MakeRow(const AnswerReport& report, const std::string& key, const std::string& model,
                  const std::string& endpoint) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  LedgerRow row;
  row.id = report.id;
  row.time = std::chrono::duration<double>(now).count();
  row.key = key;
  row.model = model;
  row.endpoint = endpoint;
  row.finish_reason = report.finish_reason;
  row.prompt_tokens = static_cast<int64_t>(report.usage.prompt_tokens);
  row.cached_tokens = static_cast<int64_t>(report.usage.cached_tokens);
  row.completion_tokens = static_cast<int64_t>(report.usage.completion_tokens);
  row.reasoning_tokens = static_cast<int64_t>(report.usage.reasoning_tokens);
  row.queue_seconds = report.queue_seconds;
  row.prefill_seconds = report.prefill_seconds;
  row.decode_seconds = report.decode_seconds;
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
    bool open = false;  // to all, without a key
  };
  static const std::vector<Route>& Routes();
  static const Route* FindRoute(const HttpRequest& request);

  std::optional<HttpResponse> Gate(const HttpRequest& request, std::vector<HttpHeader>& headers);
  std::optional<HttpResponse> CheckOrigin(const HttpRequest& request,
                                          std::vector<HttpHeader>& headers) const;
  // Whose request that is; unset while no keys are in use. Throws ApiError 401.
  std::optional<KeyInfo> Authenticate(const HttpRequest& request);
  void AdmitByLimits(const std::optional<KeyInfo>& key, std::vector<HttpHeader>& headers);
  void Handle(const std::shared_ptr<Exchange>& exchange);

  void Health(const std::shared_ptr<Exchange>& exchange);
  void Models(const std::shared_ptr<Exchange>& exchange);
  void Model(const std::shared_ptr<Exchange>& exchange);
  void Chat(const std::shared_ptr<Exchange>& exchange);
  void Completions(const std::shared_ptr<Exchange>& exchange);
  void Tokenize(const std::shared_ptr<Exchange>& exchange);
  void Detokenize(const std::shared_ptr<Exchange>& exchange);
  void ShowMetrics(const std::shared_ptr<Exchange>& exchange);
  void ShowUsage(const std::shared_ptr<Exchange>& exchange);

  std::string ModelName(const Fields& fields) const;
  Json ModelJson(const std::string& name) const;
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
      {"GET", "/health", &Impl::Health, true},    {"GET", "/ping", &Impl::Health, true},
      {"GET", "/metrics", &Impl::ShowMetrics},    {"GET", "/usage", &Impl::ShowUsage},
      {"GET", "/models", &Impl::Models},          {"GET", "/models/*", &Impl::Model},
      {"POST", "/chat/completions", &Impl::Chat}, {"POST", "/completions", &Impl::Completions},
      {"POST", "/tokenize", &Impl::Tokenize},     {"POST", "/detokenize", &Impl::Detokenize},
  };
  return routes;
}

// Throws ApiError 404 or 405.
const Server::Impl::Route* Server::Impl::FindRoute(const HttpRequest& request) {
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
    allowed = route.method;
  }
  if (allowed.empty()) throw ApiError(404, "there is no " + request.path, "", "not_found");
  throw ApiError(405, fmt::format("{} takes {}", request.path, allowed));
}

// Before the body is read.
std::optional<HttpResponse> Server::Impl::Gate(const HttpRequest& request,
                                               std::vector<HttpHeader>& headers) {
  try {
    if (auto response = CheckOrigin(request, headers)) return response;
    const Route* route = FindRoute(request);
    if (route->open) return std::nullopt;
    const std::optional<KeyInfo> key = Authenticate(request);
    if (request.method == "POST") AdmitByLimits(key, headers);
    return std::nullopt;
  } catch (const std::exception& error) {
    return ErrorResponse(ToApiError(error));
  }
}

std::optional<KeyInfo> Server::Impl::Authenticate(const HttpRequest& request) {
  if (!keys_ || keys_->empty()) return std::nullopt;
  std::string_view given = request.Header("authorization");
  constexpr std::string_view kScheme = "Bearer ";
  if (given.starts_with(kScheme)) {
    given.remove_prefix(kScheme.size());
  } else {
    given = request.Header("x-api-key");
  }
  auto key = keys_->Find(given);
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
  const auto add = [&](const char* what, int64_t limit, double remaining) {
    if (limit == 0) return;
    headers.push_back({fmt::format("x-ratelimit-limit-{}", what), std::to_string(limit)});
    headers.push_back({fmt::format("x-ratelimit-remaining-{}", what),
                       std::to_string(static_cast<int64_t>(remaining))});
  };
  add("requests", key->limits.requests_per_minute, verdict.remaining_requests);
  add("tokens", key->limits.tokens_per_minute, verdict.remaining_tokens);
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
    (this->*FindRoute(exchange->request())->action)(exchange);
  } catch (const std::exception& error) {
    exchange->Respond(ErrorResponse(ToApiError(error)));
  }
}

void Server::Impl::Health(const std::shared_ptr<Exchange>& exchange) {
  HttpResponse response;
  response.content_type = "text/plain";
  if (draining_) response.status = 503;
  exchange->Respond(std::move(response));
}

Json Server::Impl::ModelJson(const std::string& name) const {
  return {{"id", name},
          {"object", "model"},
          {"created", started_},
          {"owned_by", "baleen"},
          {"root", options_.model_names[0]},
          {"max_model_len", engine_.info().max_context_tokens}};
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

void Server::Impl::RunPlan(const std::shared_ptr<Exchange>& exchange, const Fields& fields,
                           AnswerPlan plan) {
  const std::optional<KeyInfo> key = Authenticate(exchange->request());
  Request& request = plan.request;
  if (key) {
    request.share_id = key->name;
    request.priority = std::max(request.priority, key->limits.priority);
    request.cache_salt =
        fmt::format("key={}:{};", key->name.size(), key->name) + request.cache_salt;
  }
  const std::string model = ModelName(fields);
  const std::string endpoint = plan.is_chat ? "chat.completions" : "completions";
  const AnswerHooks hooks = {
      .on_end = [this, key, model, endpoint](const AnswerReport& report,
                                             std::function<void(bool)> then) {
        metrics_->OnAnswer(report);
        const Usage& usage = report.usage;
        if (key) {
          limiter_.Charge(*key, usage.prompt_tokens + usage.completion_tokens,
                          std::chrono::steady_clock::now());
        }
        if (!ledger_) {
          then(true);
          return;
        }
        ledger_->Record(MakeRow(report, key ? key->name : "", model, endpoint), std::move(then));
      }};
  const std::string id = NewId(plan.is_chat ? "chatcmpl" : "cmpl");
  StartAnswer(engine_, std::move(plan), id, model, exchange, hooks);
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
  Json list = Json::array();
  for (const UsageTotal& total : Ledger::Totals(options_.database, 0, key ? &key->name : nullptr)) {
    list.push_back({{"key", total.key},
                    {"model", total.model},
                    {"requests", total.requests},
                    {"prompt_tokens", total.prompt_tokens},
                    {"cached_tokens", total.cached_tokens},
                    {"completion_tokens", total.completion_tokens},
                    {"reasoning_tokens", total.reasoning_tokens},
                    {"compute_seconds", total.compute_seconds}});
  }
  exchange->Respond(JsonResponse({{"object", "list"}, {"data", std::move(list)}}));
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
  RunPlan(exchange, fields, PlanCompletion(engine_, fields));
}

void Server::Impl::Tokenize(const std::shared_ptr<Exchange>& exchange) {
  const JsonDocument body = ParseBody(exchange->request().body);
  const Fields fields(body.object());
  ModelName(fields);
  std::vector<int32_t> ids;
  if (fields.Any("messages")) {
    ids = ReadChat(engine_, fields).token_ids;
  } else {
    const auto prompt = fields.String("prompt");
    if (!prompt) fields.Refuse("prompt", "a string, or messages a list");
    ids = engine_.Encode(*prompt, {.parse_special = true,
                                   .add_bos = fields.Bool("add_special_tokens").value_or(true)});
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

Server::Server(Engine& engine, ServerOptions options)
    : impl_(std::make_unique<Impl>(engine, std::move(options))) {}
Server::~Server() = default;

uint16_t Server::port() const { return impl_->http().port(); }
bool Server::Drain(std::chrono::milliseconds limit) { return impl_->Drain(limit); }
const HttpServer& Server::http() const { return impl_->http(); }

}  // namespace baleen
