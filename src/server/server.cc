// server/server.cc: which path is answered by what.
#include "server/server.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "server/answer.h"
#include "server/answer_plan.h"
#include "server/api_error.h"
#include "server/json.h"

namespace baleen {

namespace {

constexpr int64_t kMaxDetokenizedIds = 1 << 22;

// Clients use all of these: /v1/models, /models, /v1/models/, /beta/completions.
std::string Normalize(std::string_view path) {
  for (const std::string_view prefix : {"/v1/", "/beta/"}) {
    if (path.starts_with(prefix)) path.remove_prefix(prefix.size() - 1);
  }
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  return std::string(path);
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
  };
  static const std::vector<Route>& Routes();
  static const Route* FindRoute(const HttpRequest& request);

  std::optional<HttpResponse> Gate(const HttpRequest& request, std::vector<HttpHeader>& headers);
  std::optional<HttpResponse> CheckOrigin(const HttpRequest& request,
                                          std::vector<HttpHeader>& headers) const;
  void Handle(const std::shared_ptr<Exchange>& exchange);

  void Health(const std::shared_ptr<Exchange>& exchange);
  void Models(const std::shared_ptr<Exchange>& exchange);
  void Model(const std::shared_ptr<Exchange>& exchange);
  void Chat(const std::shared_ptr<Exchange>& exchange);
  void Completions(const std::shared_ptr<Exchange>& exchange);
  void Tokenize(const std::shared_ptr<Exchange>& exchange);
  void Detokenize(const std::shared_ptr<Exchange>& exchange);

  std::string ModelName(const Fields& fields) const;
  Json ModelJson(const std::string& name) const;
  void RunPlan(const std::shared_ptr<Exchange>& exchange, const Fields& fields, AnswerPlan plan);

  Engine& engine_;
  ServerOptions options_;
  const int64_t started_;
  std::atomic<bool> draining_ = false;
  std::unique_ptr<HttpServer> http_;
};

const std::vector<Server::Impl::Route>& Server::Impl::Routes() {
  static const std::vector<Route> routes = {
      {"GET", "/health", &Impl::Health},          {"GET", "/ping", &Impl::Health},
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
    FindRoute(request);
    return std::nullopt;
  } catch (const std::exception& error) {
    return ErrorResponse(ToApiError(error));
  }
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
  const std::string id = NewId(plan.is_chat ? "chatcmpl" : "cmpl");
  StartAnswer(engine_, std::move(plan), id, ModelName(fields), exchange, {});
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
