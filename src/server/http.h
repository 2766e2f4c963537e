// server/http.h: HTTP/1.1 as the server's other files see it: requests come, answers go.
//
// Everything below sockets is behind this header (http_server.cc, Boost.Beast). It knows no API.
// Bounds: header and body sizes, number of connections, time for each phase, and the bytes that may
// wait for a slow reader; who exceeds one is answered 4xx or cut off, and never costs more memory.
#ifndef BALEEN_SERVER_HTTP_H_
#define BALEEN_SERVER_HTTP_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace baleen {

struct HttpHeader {
  std::string name;
  std::string value;
};

struct HttpRequest {
  std::string method;
  std::string path;   // as sent, without the query
  std::string query;  // after '?'
  std::vector<HttpHeader> headers;
  std::string body;

  // The first header of that name, whatever its case; empty if there is none.
  std::string_view Header(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::vector<HttpHeader> headers;
  std::string body;
};

// One request and the way back. Answer by Respond, or by BeginStream, Write..., EndStream; letting
// go of it unanswered answers 500. Thread-safe; calls after the client has left do nothing.
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual const HttpRequest& request() const = 0;

  virtual void Respond(HttpResponse response) = 0;

  // Sends the head at once. `idle_text` is sent when nothing else was for a second, and then for
  // every ten seconds (server-sent events: a comment); empty: never.
  virtual void BeginStream(HttpResponse head, std::string idle_text) = 0;
  virtual void Write(std::string bytes) = 0;
  virtual void EndStream() = 0;

  // Runs `task` on the thread that serves all connections; it must be short. Tasks of one exchange
  // run in order, one at a time.
  virtual void Post(std::function<void()> task) = 0;
  // `task` runs there, once, when the client leaves before the answer is complete; at once if it
  // has left.
  virtual void OnGone(std::function<void()> task) = 0;
};

struct HttpOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 8000;         // 0: any that is free
  std::string tls_certificate;  // PEM file, the chain included; empty: plain HTTP
  std::string tls_key;          // PEM file
  size_t max_header_bytes = 16 << 10;
  size_t max_body_bytes = 16 << 20;
  size_t max_connections = 4096;      // beyond them new ones wait in the system's queue
  size_t max_queued_bytes = 1 << 20;  // of a stream, for a slow reader; beyond it is cut off
  size_t handler_threads = 2;
  std::chrono::milliseconds idle_timeout{75'000};  // between requests
  std::chrono::milliseconds header_timeout{10'000};
  std::chrono::milliseconds body_timeout{60'000};
  std::chrono::milliseconds write_timeout{30'000};  // for each 64 KiB
};

class HttpServer {
 public:
  // Called on a handler thread; may take its time. What it throws is answered 500.
  using Handler = std::function<void(std::shared_ptr<Exchange>)>;
  // Called on the I/O thread when the head of a request is there and its body is not. A response
  // refuses the request; `headers` are added to whatever answer it gets.
  using Gate = std::function<std::optional<HttpResponse>(const HttpRequest&,
                                                         std::vector<HttpHeader>& headers)>;
  // Makes the answer to a request that is not HTTP, too large, or whose handler failed.
  using ErrorPage = std::function<HttpResponse(int status, std::string_view message)>;

  // Listens when it returns. Error{kInvalidArgument}: the address is no address, or is in use; a
  // certificate or key that cannot be used.
  HttpServer(const HttpOptions& options, Gate gate, Handler handler, ErrorPage error_page);
  // Cuts off all connections; returns when every Exchange is gone.
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  uint16_t port() const;

  // Takes no new connection, closes idle ones, and waits until the running exchanges are answered;
  // returns false if some are left after `limit`.
  bool Drain(std::chrono::milliseconds limit);

  size_t num_connections() const;
  size_t num_exchanges() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace baleen

#endif  // BALEEN_SERVER_HTTP_H_
