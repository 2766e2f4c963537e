// server/server.h: a model behind OpenAI's API.
//
//   baleen::Server server(*engine, options);   // listens
//   ... until it is time to go ...
//   server.Drain(std::chrono::seconds(30));
//
// Endpoints: docs/serving.md. Thread-safe. The engine must outlive the server.
#ifndef BALEEN_SERVER_SERVER_H_
#define BALEEN_SERVER_SERVER_H_

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "baleen/engine.h"
#include "server/cost.h"
#include "server/http.h"

namespace baleen {

struct ServerOptions {
  HttpOptions http;
  // What clients call the model; the first is the one it calls itself. None: the engine's name.
  std::vector<std::string> model_names;
  std::vector<std::string> allowed_origins;  // of web pages that may call; "*": all
  // Holds keys and the ledger (as Database); empty: neither exists. As soon as a key is in it, one
  // is required.
  std::string database;
  PriceList prices;  // for /v1/usage
  // /invocations needs no key, because something in front asks for one; all else that does needs
  // one even while there is none.
  bool for_sagemaker = false;
  // A JSON object for each request that has ended, without a line's end; called on any thread.
  std::function<void(const std::string&)> log;
  bool force_fim = false;  // fill in the middle though nothing says that the model learned to
};

class Server {
 public:
  // Errors: as HttpServer and Database.
  Server(Engine& engine, ServerOptions options);
  // Cancels what runs.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  uint16_t port() const;

  // Takes no new requests, lets the running ones end, and cuts off what is left after `limit`;
  // returns whether nothing was.
  bool Drain(std::chrono::milliseconds limit);

  // For tests that count.
  const HttpServer& http() const;
  // "GET /models/*", without a /v1; all are described in openapi.json.
  static std::vector<std::string> RouteNames();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace baleen

#endif  // BALEEN_SERVER_SERVER_H_
