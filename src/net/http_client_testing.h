// A client on the test's thread, for tests that are its server through raw sockets.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <thread>
#include <utility>

#include "net/http_client.h"
#include "net/raw_socket_testing.h"

namespace pd::net::testing {

inline constexpr const char* kOk = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

inline HttpCall call_to(std::uint16_t port, std::string method = "POST", std::string body = "{}") {
  HttpCall call;
  call.address = {"127.0.0.1", port};
  call.method = std::move(method);
  call.target = "/x";
  call.body = std::move(body);
  call.read_timeout = std::chrono::seconds(10);
  return call;
}

class HttpClientTest : public ::testing::Test {
 protected:
  Result<HttpClient::Whole> fetch(HttpCall call) {
    Result<HttpClient::Whole> result = error(ErrorCode::kInternal, "no end");
    client_.fetch(std::move(call), [&](Result<HttpClient::Whole> whole) {
      result = std::move(whole);
      loop_.stop();
    });
    loop_.run();
    return result;
  }
  // Runs `peer` on a thread while `call` runs here.
  Result<HttpClient::Whole> fetch_while(HttpCall call, std::function<void()> peer) {
    const std::jthread thread(std::move(peer));
    return fetch(std::move(call));
  }
  void run_until(const std::function<bool()>& reached) {
    const Time limit = SteadyTime::now() + std::chrono::seconds(5);
    std::function<void()> look = [&] {
      if (reached() || SteadyTime::now() > limit) return loop_.stop();
      loop_.call_at(loop_.now() + std::chrono::milliseconds(1), look);
    };
    look();
    loop_.run();
    EXPECT_TRUE(reached());
  }

  RawListener listener_;
  EventLoop loop_;
  HttpClient client_{loop_};
};

inline std::string read_request(RawSocket& socket) { return socket.read_until("\r\n\r\n{}"); }

}  // namespace pd::net::testing
