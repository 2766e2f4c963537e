// server/client_testing.h: a client for tests that says exactly what it is told to.
#ifndef BALEEN_SERVER_CLIENT_TESTING_H_
#define BALEEN_SERVER_CLIENT_TESTING_H_

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

#include "baleen/error.h"

namespace baleen {

struct TestResponse {
  int status = 0;
  std::string head;
  std::string body;  // chunks joined
};

// Blocking; gives up after 30 s without a byte. Throws std::runtime_error when it cannot connect or
// the answer is no HTTP.
class TestClient {
 public:
  explicit TestClient(uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    const timeval patience = {.tv_sec = 30, .tv_usec = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
      ::close(fd_);
      throw std::runtime_error("no connection");
    }
  }
  ~TestClient() { ::close(fd_); }
  TestClient(const TestClient&) = delete;
  TestClient& operator=(const TestClient&) = delete;

  int fd() const { return fd_; }

  void Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t count = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (count <= 0) return;  // the server has said what it had to
      bytes.remove_prefix(static_cast<size_t>(count));
    }
  }

  TestResponse Receive() {
    TestResponse response;
    response.head = ReadUntil("\r\n\r\n");
    if (response.head.rfind("HTTP/1.", 0) != 0) throw std::runtime_error("no HTTP answer");
    response.status = std::stoi(response.head.substr(9, 3));
    const size_t length = response.head.find("Content-Length: ");
    if (length != std::string::npos) {
      response.body = ReadBytes(std::stoul(response.head.substr(length + 16)));
    } else if (response.head.find("Transfer-Encoding: chunked") != std::string::npos) {
      while (const size_t size = std::stoul(ReadUntil("\r\n"), nullptr, 16)) {
        response.body += ReadBytes(size);
        ReadUntil("\r\n");
      }
      ReadUntil("\r\n");
    }
    return response;
  }

  TestResponse Get(std::string_view path, std::string_view headers = "") {
    Send("GET " + std::string(path) + " HTTP/1.1\r\nHost: test\r\n" + std::string(headers) +
         "\r\n");
    return Receive();
  }

  TestResponse Post(std::string_view path, std::string_view body, std::string_view headers = "") {
    StartPost(path, body, headers);
    return Receive();
  }
  void StartPost(std::string_view path, std::string_view body, std::string_view headers = "") {
    Send("POST " + std::string(path) + " HTTP/1.1\r\nHost: test\r\nContent-Length: " +
         std::to_string(body.size()) + "\r\n" + std::string(headers) + "\r\n" + std::string(body));
  }

  // What comes until the server closes the connection.
  std::string ReceiveAll() {
    while (Fill()) {
    }
    return std::exchange(buffer_, "");
  }

  // Everything up to and with `end`.
  std::string ReadUntil(std::string_view end) {
    size_t found;
    while ((found = buffer_.find(end)) == std::string::npos) {
      if (!Fill()) throw std::runtime_error("the connection ended after: " + buffer_);
    }
    return Take(found + end.size());
  }

 private:
  std::string ReadBytes(size_t count) {
    while (buffer_.size() < count) {
      if (!Fill()) throw std::runtime_error("the connection ended in a body");
    }
    return Take(count);
  }

  bool Fill() {
    char bytes[65536];
    const ssize_t count = ::recv(fd_, bytes, sizeof(bytes), 0);
    if (count <= 0) return false;
    buffer_.append(bytes, static_cast<size_t>(count));
    return true;
  }

  std::string Take(size_t count) {
    const std::string taken = buffer_.substr(0, count);
    buffer_.erase(0, count);
    return taken;
  }

  int fd_;
  std::string buffer_;
};

}  // namespace baleen

#endif  // BALEEN_SERVER_CLIENT_TESTING_H_
