// server/api_error.h: a request that is answered by an error object of OpenAI's API.
#ifndef BALEEN_SERVER_API_ERROR_H_
#define BALEEN_SERVER_API_ERROR_H_

#include <string>
#include <string_view>

#include "baleen/error.h"
#include "server/http.h"

namespace baleen {

class ApiError : public Error {
 public:
  // `param`: the field that is wrong; `code`: a word for programs. Empty: null in the answer.
  ApiError(int status, std::string_view message, std::string param = "", std::string code = "");

  int status() const { return status_; }
  const std::string& param() const { return param_; }
  const std::string& error_code() const { return error_code_; }

 private:
  int status_;
  std::string param_;
  std::string error_code_;
};

// {"error": {"message", "type", "param", "code"}}; 429 and 503 say when to come again.
HttpResponse ErrorResponse(const ApiError& error);
// An answer that the ledger could not take: it is not given.
ApiError NotAccountedFor();
// What an exception of the engine, or of ours, is to a client.
ApiError ToApiError(const std::exception& error);

}  // namespace baleen

#endif  // BALEEN_SERVER_API_ERROR_H_
