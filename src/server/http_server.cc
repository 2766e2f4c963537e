// server/http_server.cc: the only file that knows Boost.Asio and Beast.
//
// One thread serves all sockets: a coroutine for each connection reads a request, hands it to a
// handler thread, and then does two things at once: it writes what the handler sends, and it reads,
// to notice that the client has left. Handlers touch nothing of this directly: an Exchange posts
// what it is told to the I/O thread.
//
// Requests are parsed by Beast; everything else that its templates could do with a stream is done
// here with plain bytes, over Wire: instantiated for TCP and TLS, they took the compiler 40 s.
#include <algorithm>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/status.hpp>
#include <boost/beast/http/string_body.hpp>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <set>
#include <thread>
#include <variant>

#include "base/error.h"
#include "server/http.h"

namespace baleen {

namespace {

namespace net = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;
using RequestParser = http::request_parser<http::string_body>;
using net::ip::tcp;
using net::experimental::awaitable_operators::operator&&;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr size_t kReadBytes = 4 << 10, kReadBodyBytes = 64 << 10;
constexpr size_t kWritePieceBytes = 64 << 10;
// Of requests that a client sends before it has the answer; more waits in its socket.
constexpr size_t kMaxPipelinedBytes = 64 << 10;
constexpr milliseconds kFirstIdleText{1'000};
constexpr milliseconds kIdleTextPeriod{10'000};
// After a refusal: how long, and for how many bytes, what the client still sends is read, so that
// the answer reaches it before the connection is reset.
constexpr milliseconds kLingerTime{2'000};
constexpr size_t kLingerBytes = 64 << 20;

char LowerCase(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

// What one exchange has been told, on its way to the socket. The I/O thread's.
struct Reply {
  std::optional<HttpResponse> whole;
  std::optional<HttpResponse> stream_head;
  std::string idle_text;
  std::deque<std::string> queue;
  size_t queued_bytes = 0;
  bool ended = false;  // nothing more will come
  bool gone = false;   // the client has left
  std::function<void()> on_gone;
  std::function<void()> wake;  // the writer; empty when there is none any more

  void Notify() const {
    if (wake) wake();
  }
  void MarkGone() {
    if (gone) return;
    gone = true;
    queue.clear();
    if (on_gone) std::exchange(on_gone, nullptr)();
    Notify();
  }
};

// Counts that other threads wait for.
class Tally {
 public:
  void Add(int change) {
    const std::lock_guard lock(mutex_);
    count_ += static_cast<size_t>(change);
    changed_.notify_all();
  }
  size_t count() const {
    const std::lock_guard lock(mutex_);
    return count_;
  }
  bool WaitForNone(std::optional<milliseconds> limit) {
    std::unique_lock lock(mutex_);
    const auto none = [&] { return count_ == 0; };
    if (limit) return changed_.wait_for(lock, *limit, none);
    changed_.wait(lock, none);
    return true;
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  size_t count_ = 0;
};

// The bytes of a connection, in the clear or within TLS.
class Wire {
 public:
  explicit Wire(tcp::socket socket) : stream_(std::move(socket)) {}
  Wire(tcp::socket socket, net::ssl::context& tls) : stream_(Tls(std::move(socket), tls)) {}

  bool is_tls() const { return std::holds_alternative<Tls>(stream_); }
  // Below TLS, if there is any.
  tcp::socket& socket() {
    Tls* tls = std::get_if<Tls>(&stream_);
    return tls != nullptr ? tls->next_layer() : std::get<tcp::socket>(stream_);
  }

  // Failures are thrown, but from ReadSome, of which the end of the stream is one.
  net::awaitable<void> Handshake() {
    co_await std::get<Tls>(stream_).async_handshake(net::ssl::stream_base::server,
                                                    net::use_awaitable);
  }
  net::awaitable<size_t> ReadSome(net::mutable_buffer to, error_code& error) {
    auto token = net::redirect_error(net::use_awaitable, error);
    if (Tls* tls = std::get_if<Tls>(&stream_)) {
      co_return co_await tls->async_read_some(net::buffer(to), std::move(token));
    }
    co_return co_await socket().async_read_some(net::buffer(to), std::move(token));
  }
  net::awaitable<void> Write(std::string_view bytes) {
    if (Tls* tls = std::get_if<Tls>(&stream_)) {
      co_await net::async_write(*tls, net::buffer(bytes), net::use_awaitable);
    } else {
      co_await net::async_write(socket(), net::buffer(bytes), net::use_awaitable);
    }
  }

 private:
  using Tls = net::ssl::stream<tcp::socket>;
  std::variant<tcp::socket, Tls> stream_;
};

class Connection;

// What connections share. Lives as long as the server.
struct Shared {
  HttpOptions options;
  HttpServer::Gate gate;
  HttpServer::Handler handler;
  HttpServer::ErrorPage error_page;
  net::io_context io{1};
  net::thread_pool handlers;
  bool draining = false;              // the I/O thread's
  std::set<Connection*> connections;  // the I/O thread's
  std::optional<net::ssl::context> tls;
  Tally open;       // connections
  Tally answering;  // those with a request that is not answered
  Tally handles;    // Exchanges in somebody's hands

  Shared(const HttpOptions& o, HttpServer::Gate g, HttpServer::Handler h, HttpServer::ErrorPage e)
      : options(o),
        gate(std::move(g)),
        handler(std::move(h)),
        error_page(std::move(e)),
        handlers(o.handler_threads) {}
};

class ExchangeHandle final : public Exchange {
 public:
  ExchangeHandle(Shared& shared, HttpRequest request, std::shared_ptr<Reply> reply)
      : shared_(shared), request_(std::move(request)), reply_(std::move(reply)) {
    shared_.handles.Add(1);
  }
  ~ExchangeHandle() override {
    net::post(shared_.io, [reply = std::move(reply_), page = &shared_.error_page] {
      if (reply->ended) return;
      reply->ended = true;
      if (!reply->stream_head) reply->whole = (*page)(500, "the request was not answered");
      reply->Notify();
    });
    shared_.handles.Add(-1);
  }

  const HttpRequest& request() const override { return request_; }

  void Respond(HttpResponse response) override {
    Tell([response = std::move(response)](Reply& reply) mutable {
      reply.whole = std::move(response);
      reply.ended = true;
    });
  }
  void BeginStream(HttpResponse head, std::string idle_text) override {
    Tell([head = std::move(head), idle = std::move(idle_text)](Reply& reply) mutable {
      reply.stream_head = std::move(head);
      reply.idle_text = std::move(idle);
    });
  }
  void Write(std::string bytes) override {
    if (bytes.empty()) return;  // would end the body
    Tell([bytes = std::move(bytes), limit = shared_.options.max_queued_bytes](Reply& reply) {
      // One piece may be larger than the limit if nothing waits before it.
      if (!reply.queue.empty() && reply.queued_bytes + bytes.size() > limit) {
        reply.MarkGone();
        return;
      }
      reply.queued_bytes += bytes.size();
      reply.queue.push_back(std::move(bytes));
    });
  }
  void EndStream() override {
    Tell([](Reply& reply) { reply.ended = true; });
  }
  void Post(std::function<void()> task) override { net::post(shared_.io, std::move(task)); }
  void OnGone(std::function<void()> task) override {
    net::post(shared_.io, [reply = reply_, task = std::move(task)] {
      if (reply->gone) {
        task();
      } else {
        reply->on_gone = task;
      }
    });
  }

 private:
  template <typename Change>
  void Tell(Change change) {
    net::post(shared_.io, [reply = reply_, change = std::move(change)]() mutable {
      if (reply->gone || reply->ended) return;
      change(*reply);
      reply->Notify();
    });
  }

  Shared& shared_;
  HttpRequest request_;
  std::shared_ptr<Reply> reply_;
};

class Connection final : public std::enable_shared_from_this<Connection> {
 public:
  Connection(Shared& shared, Wire wire)
      : shared_(shared), wire_(std::move(wire)), deadline_(shared.io), wake_(shared.io) {
    shared_.connections.insert(this);
    shared_.open.Add(1);
  }
  ~Connection() {
    shared_.connections.erase(this);
    shared_.open.Add(-1);
  }

  // The connection's life. Keeps it alive by `self`.
  net::awaitable<void> Run(std::shared_ptr<Connection> self) {
    error_code ignored;
    wire_.socket().set_option(tcp::no_delay(true), ignored);
    try {
      if (wire_.is_tls()) {
        SetDeadline(shared_.options.header_timeout);
        co_await wire_.Handshake();
      }
      while (co_await ServeOne()) {
      }
    } catch (const boost::system::system_error&) {
      // The client left in the middle of a request, or a deadline passed.
    }
    Abort();
    self.reset();
  }

  void Abort() {
    error_code ignored;
    ClearDeadline();
    wire_.socket().close(ignored);
    if (reply_) reply_->MarkGone();
  }
  void AbortIfIdle() {
    if (idle_) Abort();
  }

 private:
  // From now on the connection is cut off after `limit`, until the next call.
  void SetDeadline(milliseconds limit) {
    deadline_.expires_after(limit);
    deadline_.async_wait([weak = weak_from_this(), id = ++deadline_id_](error_code error) {
      const auto self = weak.lock();
      // A timer that is set anew may have expired already.
      if (!error && self && self->deadline_id_ == id) self->Abort();
    });
  }
  void ClearDeadline() {
    ++deadline_id_;
    deadline_.cancel();
  }

  // Reads a request and answers it; returns whether another may follow.
  net::awaitable<bool> ServeOne() {
    if (buffer_.size() == 0) {
      idle_ = true;
      if (shared_.draining) co_return false;
      SetDeadline(shared_.options.idle_timeout);
      const error_code error = co_await ReadSome();
      if (error) co_return false;
      idle_ = false;
    }
    RequestParser parser;
    parser.header_limit(static_cast<uint32_t>(shared_.options.max_header_bytes));
    parser.body_limit(shared_.options.max_body_bytes);
    SetDeadline(shared_.options.header_timeout);
    error_code error = co_await Parse(parser, [&] { return parser.is_header_done(); });
    if (error) co_return co_await RefuseUnreadable(error);

    HttpRequest request = TakeHead(parser.get());
    more_headers_.clear();
    const bool keep_alive = parser.get().keep_alive();
    if (const std::optional<HttpResponse> refusal = shared_.gate(request, more_headers_)) {
      co_return co_await Refuse(*refusal, parser.is_done() && keep_alive);
    }
    if (!parser.is_done()) {
      if (LowerCase(request.Header("expect")) == "100-continue") {
        SetDeadline(shared_.options.write_timeout);
        co_await wire_.Write("HTTP/1.1 100 Continue\r\n\r\n");
      }
      SetDeadline(shared_.options.body_timeout);
      parser.eager(true);
      error = co_await Parse(parser, [&] { return parser.is_done(); });
      if (error) co_return co_await RefuseUnreadable(error);
    }
    request.body = std::move(parser.get().body());
    ClearDeadline();
    co_return co_await Answer(std::move(request), parser.get().version(), keep_alive);
  }

  // Adds what the client has sent to buffer_. Name the result before asking it: GCC 12 compiles
  // `if (co_await ReadSome())` into an illegal instruction.
  net::awaitable<error_code> ReadSome(size_t at_most = kReadBytes) {
    error_code error;
    buffer_.commit(co_await wire_.ReadSome(buffer_.prepare(at_most), error));
    co_return error;
  }

  // Feeds the parser until done().
  template <typename Done>
  net::awaitable<error_code> Parse(RequestParser& parser, Done done) {
    error_code error;
    while (true) {
      // Of nothing the parser learns nothing.
      if (buffer_.size() > 0) buffer_.consume(parser.put(buffer_.cdata(), error));
      if (error && error != http::error::need_more) co_return error;
      if (done()) co_return error_code();
      error = co_await ReadSome(parser.is_header_done() ? kReadBodyBytes : kReadBytes);
      if (error == net::error::eof && parser.got_some()) {
        parser.put_eof(error);  // an error, if the message is not whole
        if (!error && done()) co_return error;
        if (!error) error = http::error::partial_message;
      }
      if (error) co_return error;
    }
  }

  static std::string LowerCase(std::string_view text) {
    std::string lower(text);
    for (char& c : lower) c = baleen::LowerCase(c);
    return lower;
  }

  static HttpRequest TakeHead(const http::request<http::string_body>& message) {
    HttpRequest request;
    request.method = std::string(message.method_string());
    const std::string target(message.target());
    const size_t question = target.find('?');
    request.path = target.substr(0, question);
    if (question != std::string::npos) request.query = target.substr(question + 1);
    for (const auto& field : message) {
      request.headers.push_back({std::string(field.name_string()), std::string(field.value())});
    }
    return request;
  }

  net::awaitable<bool> RefuseUnreadable(error_code error) {
    int status = 0;
    if (error == http::error::body_limit) {
      status = 413;
    } else if (error == http::error::header_limit || error == http::error::buffer_overflow) {
      status = 431;
    } else if (error.category() == http::make_error_code(http::error::bad_version).category() &&
               error != http::error::end_of_stream && error != http::error::partial_message) {
      status = 400;
    }
    if (status == 0) co_return false;
    const std::string message =
        status == 413
            ? fmt::format("the body is larger than {} bytes", shared_.options.max_body_bytes)
        : status == 431
            ? fmt::format("the headers are larger than {} bytes", shared_.options.max_header_bytes)
            : "this is not HTTP/1.1: " + error.message();
    const HttpResponse response = shared_.error_page(status, message);
    co_return co_await Refuse(response, false);
  }

  net::awaitable<bool> Refuse(const HttpResponse& response, bool keep_alive) {
    co_await WriteWhole(response, 11, keep_alive, false);
    if (!keep_alive) co_await Linger();
    co_return keep_alive;
  }

  net::awaitable<void> Linger() {
    error_code error;
    wire_.socket().shutdown(tcp::socket::shutdown_send, error);
    SetDeadline(kLingerTime);
    std::vector<char> sink(kWritePieceBytes);
    for (size_t total = 0; !error && total < kLingerBytes;) {
      total += co_await wire_.ReadSome(net::buffer(sink), error);
    }
  }

  net::awaitable<bool> Answer(HttpRequest request, unsigned version, bool keep_alive) {
    shared_.answering.Add(1);
    reply_ = std::make_shared<Reply>();
    reply_->wake = [this] { wake_.cancel(); };
    const bool head_only = request.method == "HEAD";
    net::post(
        shared_.handlers,
        [&shared = shared_, exchange = std::shared_ptr<Exchange>(std::make_shared<ExchangeHandle>(
                                shared_, std::move(request), reply_))] {
          try {
            shared.handler(exchange);
          } catch (const std::exception& error) {
            exchange->Respond(shared.error_page(500, error.what()));
          }
        });
    answered_ = false;
    bool good = false;
    try {
      good = co_await (WriteReply(version, keep_alive, head_only) && Watch());
    } catch (const boost::system::system_error&) {
    }
    // Whatever the handler does from here on goes nowhere.
    reply_->MarkGone();
    reply_->wake = nullptr;
    reply_.reset();
    shared_.answering.Add(-1);
    co_return good;
  }

  // Notices that the client leaves: by reading, which is what the next request needs anyway.
  net::awaitable<void> Watch() {
    while (!answered_ && buffer_.size() < kMaxPipelinedBytes) {
      const error_code error = co_await ReadSome();
      if (error) {
        if (!answered_) reply_->MarkGone();
        co_return;
      }
    }
  }

  // Returns whether the connection can carry another request.
  net::awaitable<bool> WriteReply(unsigned version, bool keep_alive, bool head_only) {
    bool good = false;
    try {
      const auto reply = reply_;
      while (!reply->gone && !reply->whole && !reply->stream_head) co_await Sleep({});
      keep_alive = keep_alive && !shared_.draining;
      if (reply->gone) {
        // Nobody is there to read.
      } else if (reply->whole) {
        co_await WriteWhole(*reply->whole, version, keep_alive, head_only);
        good = keep_alive;
      } else {
        // HTTP/1.0 knows no chunks; there the end of the connection ends the body.
        const bool chunked = version >= 11;
        co_await WriteStream(*reply, version, chunked, keep_alive && chunked);
        good = keep_alive && chunked && !reply->gone;
      }
    } catch (const boost::system::system_error&) {
      good = false;
    }
    answered_ = true;
    error_code ignored;
    wire_.socket().cancel(ignored);  // ends Watch
    co_return good;
  }

  net::awaitable<void> WriteStream(Reply& reply, unsigned version, bool chunked, bool keep_alive) {
    co_await WriteBytes(Head(*reply.stream_head, version, keep_alive,
                             http::field::transfer_encoding, chunked ? "chunked" : ""));
    Clock::time_point next_idle_text = Clock::now() + kFirstIdleText;
    while (!reply.gone) {
      std::string piece;
      while (!reply.queue.empty() && piece.size() < kWritePieceBytes) {
        piece += reply.queue.front();
        reply.queued_bytes -= reply.queue.front().size();
        reply.queue.pop_front();
      }
      if (piece.empty() && reply.ended) break;
      if (piece.empty() && Clock::now() >= next_idle_text) piece = reply.idle_text;
      if (piece.empty()) {
        std::optional<Clock::time_point> until;
        if (!reply.idle_text.empty()) until = next_idle_text;
        co_await Sleep(until);
        continue;
      }
      if (chunked) piece = fmt::format("{:x}\r\n{}\r\n", piece.size(), piece);
      co_await WriteBytes(piece);
      next_idle_text = Clock::now() + kIdleTextPeriod;
    }
    if (!reply.gone && chunked) co_await WriteBytes("0\r\n\r\n");
  }

  // Until Reply::Notify or `until`.
  net::awaitable<void> Sleep(std::optional<Clock::time_point> until) {
    wake_.expires_at(until.value_or(Clock::time_point::max()));
    error_code ignored;
    co_await wake_.async_wait(net::redirect_error(net::use_awaitable, ignored));
  }

  net::awaitable<void> WriteWhole(const HttpResponse& response, unsigned version, bool keep_alive,
                                  bool head_only) {
    const std::string length = std::to_string(response.body.size());
    co_await WriteBytes(Head(response, version, keep_alive, http::field::content_length, length));
    if (!head_only) co_await WriteBytes(response.body);
  }

  // All that comes before the body. `framing` says where the body ends; without a value there is no
  // such line.
  std::string Head(const HttpResponse& response, unsigned version, bool keep_alive,
                   http::field framing, std::string_view value) const {
    http::fields fields;
    if (!response.content_type.empty())
      fields.set(http::field::content_type, response.content_type);
    for (const HttpHeader& header : response.headers) fields.set(header.name, header.value);
    for (const HttpHeader& header : more_headers_) fields.set(header.name, header.value);
    if (!value.empty()) fields.set(framing, value);
    if (keep_alive != (version >= 11)) {  // not what the version does by itself
      fields.set(http::field::connection, keep_alive ? "keep-alive" : "close");
    }
    const std::string_view reason =
        http::obsolete_reason(static_cast<http::status>(response.status));
    std::string head = fmt::format("HTTP/1.{} {} {}\r\n", version % 10, response.status, reason);
    for (const auto& field : fields) {
      for (const std::string_view part :
           {std::string_view(field.name_string()), std::string_view(": "),
            std::string_view(field.value()), std::string_view("\r\n")}) {
        head += part;
      }
    }
    return head + "\r\n";
  }

  // In pieces that each have their own deadline: a slow reader of a large answer is no dead one.
  net::awaitable<void> WriteBytes(std::string_view bytes) {
    while (!bytes.empty()) {
      const std::string_view piece = bytes.substr(0, kWritePieceBytes);
      SetDeadline(shared_.options.write_timeout);
      co_await wire_.Write(piece);
      bytes.remove_prefix(piece.size());
    }
    ClearDeadline();
  }

  Shared& shared_;
  Wire wire_;
  boost::beast::flat_buffer buffer_;
  net::steady_timer deadline_;
  net::steady_timer wake_;
  std::shared_ptr<Reply> reply_;          // while answering
  std::vector<HttpHeader> more_headers_;  // by the gate, for this request
  uint64_t deadline_id_ = 0;
  bool answered_ = false;
  bool idle_ = false;
};

}  // namespace

std::string_view HttpRequest::Header(std::string_view name) const {
  for (const HttpHeader& header : headers) {
    if (std::ranges::equal(header.name, name,
                           [](char a, char b) { return LowerCase(a) == LowerCase(b); })) {
      return header.value;
    }
  }
  return {};
}

class HttpServer::Impl {
 public:
  Impl(const HttpOptions& options, Gate gate, Handler handler, ErrorPage error_page)
      : shared_(options, std::move(gate), std::move(handler), std::move(error_page)),
        acceptor_(shared_.io),
        retry_(shared_.io) {
    if (!options.tls_certificate.empty() || !options.tls_key.empty()) shared_.tls = MakeTls();
    Listen();
    net::co_spawn(shared_.io, Accept(), net::detached);
    thread_ = std::thread([this] { shared_.io.run(); });
  }

  ~Impl() {
    StopAccepting();
    net::post(shared_.io, [this] {
      for (Connection* connection : shared_.connections) connection->Abort();
    });
    shared_.open.WaitForNone(std::nullopt);
    shared_.handlers.join();
    shared_.handles.WaitForNone(std::nullopt);
    work_.reset();
    thread_.join();
  }

  bool Drain(milliseconds limit) {
    StopAccepting();
    net::post(shared_.io, [this] {
      for (Connection* connection : shared_.connections) connection->AbortIfIdle();
    });
    return shared_.answering.WaitForNone(limit);
  }

  Shared& shared() { return shared_; }
  uint16_t port() const { return port_; }

 private:
  net::ssl::context MakeTls() const {
    const HttpOptions& options = shared_.options;
    net::ssl::context tls(net::ssl::context::tls_server);
    tls.set_options(net::ssl::context::no_sslv2 | net::ssl::context::no_sslv3 |
                    net::ssl::context::no_tlsv1 | net::ssl::context::no_tlsv1_1);
    error_code error;
    tls.use_certificate_chain_file(options.tls_certificate, error);
    if (error) {
      Throw(ErrorCode::kInvalidArgument, "--tls-cert {}: not a certificate in PEM: {}",
            options.tls_certificate, error.message());
    }
    tls.use_private_key_file(options.tls_key, net::ssl::context::pem, error);
    if (error) {
      Throw(ErrorCode::kInvalidArgument, "--tls-key {}: not the certificate's key in PEM: {}",
            options.tls_key, error.message());
    }
    return tls;
  }

  void Listen() {
    const HttpOptions& options = shared_.options;
    error_code error;
    const net::ip::address address =
        net::ip::make_address(options.host == "localhost" ? "127.0.0.1" : options.host, error);
    if (error) {
      Throw(ErrorCode::kInvalidArgument, "--host {}: give an IP address, such as 0.0.0.0",
            options.host);
    }
    const tcp::endpoint endpoint(address, options.port);
    acceptor_.open(endpoint.protocol(), error);
    if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(net::socket_base::max_listen_connections, error);
    if (error) {
      Throw(ErrorCode::kInvalidArgument, "cannot listen on {} port {}: {}", options.host,
            options.port, error.message());
    }
    port_ = acceptor_.local_endpoint().port();
  }

  net::awaitable<void> Accept() {
    while (!shared_.draining) {
      error_code error;
      if (shared_.open.count() >= shared_.options.max_connections) {
        co_await Pause();
        continue;
      }
      tcp::socket socket =
          co_await acceptor_.async_accept(net::redirect_error(net::use_awaitable, error));
      if (shared_.draining) break;
      if (error) {
        // Out of file descriptors, for instance: the client waits in the system's queue.
        co_await Pause();
        continue;
      }
      Wire wire = shared_.tls ? Wire(std::move(socket), *shared_.tls) : Wire(std::move(socket));
      const auto connection = std::make_shared<Connection>(shared_, std::move(wire));
      net::co_spawn(shared_.io, connection->Run(connection), net::detached);
    }
  }

  net::awaitable<void> Pause() {
    retry_.expires_after(milliseconds(50));
    error_code ignored;
    co_await retry_.async_wait(net::redirect_error(net::use_awaitable, ignored));
  }

  void StopAccepting() {
    net::post(shared_.io, [this] {
      shared_.draining = true;
      error_code ignored;
      acceptor_.close(ignored);
      retry_.cancel();
    });
  }

  Shared shared_;
  net::executor_work_guard<net::io_context::executor_type> work_ = net::make_work_guard(shared_.io);
  tcp::acceptor acceptor_;
  net::steady_timer retry_;
  uint16_t port_ = 0;
  std::thread thread_;
};

HttpServer::HttpServer(const HttpOptions& options, Gate gate, Handler handler, ErrorPage error_page)
    : impl_(std::make_unique<Impl>(options, std::move(gate), std::move(handler),
                                   std::move(error_page))) {}
HttpServer::~HttpServer() = default;

uint16_t HttpServer::port() const { return impl_->port(); }
bool HttpServer::Drain(milliseconds limit) { return impl_->Drain(limit); }
size_t HttpServer::num_connections() const { return impl_->shared().open.count(); }
size_t HttpServer::num_exchanges() const { return impl_->shared().handles.count(); }

}  // namespace baleen
