#include "server/api_error.h"

#include <nlohmann/json.hpp>

#include "server/json.h"

namespace baleen {

namespace {

// The openai client waits that long before it tries again, and above 120 s not at all.
constexpr const char* kRetryAfterSeconds = "2";

const char* TypeOf(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 429:
      return "rate_limit_error";
    default:
      return status >= 500 ? "server_error" : "invalid_request_error";
  }
}

}  // namespace

ApiError::ApiError(int status, std::string_view message, std::string param, std::string code)
    : Error(status >= 500 ? ErrorCode::kFailed : ErrorCode::kInvalidArgument, message),
      status_(status),
      param_(std::move(param)),
      error_code_(std::move(code)) {}

HttpResponse ErrorResponse(const ApiError& error) {
  const auto or_null = [](const std::string& text) { return text.empty() ? Json() : Json(text); };
  const Json body = {{"error",
                      {{"message", error.what()},
                       {"type", TypeOf(error.status())},
                       {"param", or_null(error.param())},
                       {"code", or_null(error.error_code())}}}};
  HttpResponse response;
  response.status = error.status();
  response.body = ToText(body);
  if (error.status() == 429 || error.status() == 503) {
    response.headers.push_back({"Retry-After", kRetryAfterSeconds});
  }
  return response;
}

ApiError NotAccountedFor() {
  return ApiError(500, "the request could not be accounted for; try again");
}

ApiError ToApiError(const std::exception& error) {
  if (const auto* api = dynamic_cast<const ApiError*>(&error)) return *api;
  if (const auto* ours = dynamic_cast<const Error*>(&error)) {
    switch (ours->code()) {
      case ErrorCode::kInvalidArgument:
      case ErrorCode::kUnimplemented:
      case ErrorCode::kNotFound:
        return ApiError(400, ours->what());
      case ErrorCode::kResourceExhausted:
        return ApiError(429, ours->what(), "", "rate_limit_exceeded");
      default:
        return ApiError(500, ours->what());
    }
  }
  return ApiError(500, error.what());
}

}  // namespace baleen
