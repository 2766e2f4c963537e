// The HTTP side alone, over real sockets: what honest, slow, hostile and vanishing clients get.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <mutex>
#include <thread>

#include "server/client_testing.h"
#include "server/http.h"

namespace baleen {
namespace {

using std::chrono::milliseconds;

HttpResponse Text(int status, std::string_view text) {
  return {.status = status, .content_type = "text/plain", .headers = {}, .body = std::string(text)};
}

class HttpServerTest : public testing::Test {
 protected:
  void Start(HttpOptions options = {}) {
    options.port = 0;
    server_.emplace(
        options,
        [](const HttpRequest& request,
           std::vector<HttpHeader>& headers) -> std::optional<HttpResponse> {
          headers.push_back({"X-Gate", "open"});
          if (request.path == "/forbidden") return Text(401, "no");
          return std::nullopt;
        },
        [this](std::shared_ptr<Exchange> exchange) { Handle(std::move(exchange)); }, Text);
  }

  void Handle(std::shared_ptr<Exchange> exchange) {
    const HttpRequest& request = exchange->request();
    if (request.path == "/throw") throw std::runtime_error("broken");
    if (request.path == "/drop") return;
    if (request.path == "/hold" || request.path == "/stream") {
      if (request.path == "/stream") exchange->BeginStream(Text(200, ""), ": idle\n\n");
      exchange->OnGone([this] { ++num_gone_; });
      const std::lock_guard lock(mutex_);
      held_ = exchange;
      return;
    }
    exchange->Respond(Text(200, request.method + " " + request.path + " " + request.body));
  }

  std::shared_ptr<Exchange> TakeHeld() {
    for (int i = 0; i < 5000; ++i) {
      {
        const std::lock_guard lock(mutex_);
        if (held_) return std::exchange(held_, nullptr);
      }
      std::this_thread::sleep_for(milliseconds(1));
    }
    return nullptr;
  }

  template <typename Condition>
  static bool Eventually(Condition condition) {
    for (int i = 0; i < 5000; ++i) {
      if (condition()) return true;
      std::this_thread::sleep_for(milliseconds(1));
    }
    return false;
  }

  void TearDown() override {
    TakeHeldNow();
    server_.reset();
  }
  void TakeHeldNow() {
    const std::lock_guard lock(mutex_);
    held_ = nullptr;
  }

  std::mutex mutex_;
  std::shared_ptr<Exchange> held_;  // guarded by mutex_
  std::atomic<int> num_gone_ = 0;
  std::optional<HttpServer> server_;
};

TEST_F(HttpServerTest, AnswersOneAfterTheOtherOnOneConnection) {
  Start();
  TestClient client(server_->port());
  for (const char* body : {"one", "two", ""}) {
    const TestResponse response = client.Post("/echo", body);
    EXPECT_EQ(response.status, 200);
    EXPECT_EQ(response.body, std::string("POST /echo ") + body);
    EXPECT_NE(response.head.find("X-Gate: open\r\n"), std::string::npos);
  }
  // Two at once, in one packet.
  client.Send("GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b?q=1 HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(client.Receive().body, "GET /a ");
  EXPECT_EQ(client.Receive().body, "GET /b ");
  EXPECT_EQ(server_->num_connections(), 1u);
}

TEST_F(HttpServerTest, StreamsInChunksAndSpeaksWhenIdle) {
  Start();
  TestClient client(server_->port());
  client.Send("GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
  const auto exchange = TakeHeld();
  ASSERT_TRUE(exchange);
  exchange->Write("first ");
  // A second after the head nothing else has come.
  std::this_thread::sleep_for(milliseconds(20));
  exchange->Write("second");
  exchange->EndStream();
  exchange->Write("too late");
  EXPECT_EQ(client.Receive().body, "first second");
  // The connection lives on.
  EXPECT_EQ(client.Post("/echo", "x").body, "POST /echo x");

  client.Send("GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
  const auto slow = TakeHeld();
  ASSERT_TRUE(slow);
  std::this_thread::sleep_for(milliseconds(1300));
  slow->EndStream();
  EXPECT_EQ(client.Receive().body, ": idle\n\n");
}

TEST_F(HttpServerTest, OldClientsGetNoChunks) {
  Start();
  TestClient client(server_->port());
  client.Send("GET /stream HTTP/1.0\r\n\r\n");
  const auto exchange = TakeHeld();
  ASSERT_TRUE(exchange);
  exchange->Write("all of it");
  exchange->EndStream();
  const std::string text = client.ReceiveAll();
  EXPECT_NE(text.find("\r\n\r\nall of it"), std::string::npos) << text;
  EXPECT_EQ(text.find("chunked"), std::string::npos) << text;
}

TEST_F(HttpServerTest, LimitsAreAnswered) {
  Start({.max_header_bytes = 1000, .max_body_bytes = 100});
  const auto status = [&](const std::string& request) {
    TestClient client(server_->port());
    client.Send(request);
    return client.Receive().status;
  };
  EXPECT_EQ(status("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 101\r\n\r\n"), 413);
  EXPECT_EQ(status("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n" +
                   std::string(101, 'a') + "\r\n0\r\n\r\n"),
            413);
  EXPECT_EQ(status("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n" +
                   std::string(100, 'a')),
            200);
  EXPECT_EQ(status("GET / HTTP/1.1\r\nA: " + std::string(1200, 'a') + "\r\n\r\n"), 431);
  EXPECT_EQ(status("nonsense\r\n\r\n"), 400);
  EXPECT_EQ(status("GET / HTTP/9.9\r\n\r\n"), 400);
  EXPECT_EQ(status("POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"), 400);
  EXPECT_EQ(status("POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), 400);
  EXPECT_EQ(status("POST /forbidden HTTP/1.1\r\nContent-Length: 50\r\n\r\n"), 401);
  EXPECT_EQ(status("GET /throw HTTP/1.1\r\n\r\n"), 500);
  EXPECT_EQ(status("GET /drop HTTP/1.1\r\n\r\n"), 500);
  EXPECT_EQ(status("GET /echo HTTP/1.1\r\n\r\n"), 200);
}

TEST_F(HttpServerTest, AsksForABodyThatWaitsToBeAsked) {
  Start();
  TestClient client(server_->port());
  client.Send("POST /echo HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(client.Receive().status, 100);
  client.Send("hi");
  EXPECT_EQ(client.Receive().body, "POST /echo hi");
}

TEST_F(HttpServerTest, HeadHasNoBody) {
  Start();
  TestClient client(server_->port());
  client.Send("HEAD /echo HTTP/1.0\r\n\r\n");
  const std::string text = client.ReceiveAll();
  EXPECT_NE(text.find("Content-Length: 11\r\n"), std::string::npos) << text;
  EXPECT_EQ(text.substr(text.size() - 4), "\r\n\r\n");
}

TEST_F(HttpServerTest, NoticesThatAClientLeaves) {
  Start();
  for (const char* path : {"/hold", "/stream"}) {
    num_gone_ = 0;
    std::optional<TestClient> client(server_->port());
    client->Send(std::string("GET ") + path + " HTTP/1.1\r\nHost: x\r\n\r\n");
    const auto exchange = TakeHeld();
    ASSERT_TRUE(exchange);
    EXPECT_EQ(num_gone_, 0);
    client.reset();
    EXPECT_TRUE(Eventually([&] { return num_gone_ == 1; })) << path;
    // Who asks later is told at once.
    std::promise<void> told;
    exchange->OnGone([&] { told.set_value(); });
    told.get_future().wait();
    EXPECT_TRUE(Eventually([&] { return server_->num_connections() == 0; }));
    exchange->Respond(Text(200, "to nobody"));
  }
}

TEST_F(HttpServerTest, TimeoutsEndSlowAndSilentClients) {
  Start({.idle_timeout = milliseconds(50),
         .header_timeout = milliseconds(50),
         .body_timeout = milliseconds(50)});
  for (const char* beginning :
       {"", "GET /echo HT", "POST /echo HTTP/1.1\r\nContent-Length: 5\r\n\r\nab"}) {
    TestClient client(server_->port());
    client.Send(beginning);
    EXPECT_EQ(client.ReceiveAll(), "") << beginning;
  }
}

TEST_F(HttpServerTest, AReaderThatDoesNotReadIsCutOff) {
  Start({.max_queued_bytes = 100'000});
  TestClient client(server_->port());
  client.Send("GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
  const auto exchange = TakeHeld();
  ASSERT_TRUE(exchange);
  // More than the sockets' own buffers take.
  EXPECT_TRUE(Eventually([&] {
    exchange->Write(std::string(64 << 10, 'x'));
    return num_gone_ == 1;
  }));
}

TEST_F(HttpServerTest, DrainFinishesWhatRunsAndTakesNothingNew) {
  Start();
  TestClient idle(server_->port());
  EXPECT_EQ(idle.Post("/echo", "").status, 200);
  TestClient busy(server_->port());
  busy.Send("GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
  auto exchange = TakeHeld();
  ASSERT_TRUE(exchange);
  EXPECT_FALSE(server_->Drain(milliseconds(20)));
  EXPECT_EQ(idle.ReceiveAll(), "");
  exchange->Respond(Text(200, "done"));
  exchange.reset();
  const TestResponse response = busy.Receive();
  EXPECT_EQ(response.body, "done");
  EXPECT_TRUE(server_->Drain(milliseconds(5000)));
  EXPECT_EQ(busy.ReceiveAll(), "");
  EXPECT_THROW(TestClient(server_->port()), std::runtime_error);
}

TEST_F(HttpServerTest, RefusesABusyPortAndAStrangeHost) {
  Start();
  const auto open = [](HttpOptions options) { HttpServer server(options, {}, {}, Text); };
  EXPECT_THROW(open({.port = server_->port()}), Error);
  EXPECT_THROW(open({.host = "example.org", .port = 0}), Error);
}

}  // namespace
}  // namespace baleen
