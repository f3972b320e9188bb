// A server on a thread of its own, for tests that are its clients through raw sockets.
#pragma once

#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/bounded_queue.h"
#include "net/http_server.h"
#include "net/raw_socket_testing.h"

namespace pd::net::testing {

inline constexpr const char* kGet = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

class HttpServerTest : public ::testing::Test {
 protected:
  ~HttpServerTest() override {
    if (thread_.joinable()) {
      on_loop([this] {
        kept_.clear();
        server_.reset();
      });
      loop_.stop();
    }
  }

  void serve(HttpServer::Handler handler, HttpLimits limits = {},
             std::shared_ptr<const TlsServerContext> tls = nullptr,
             std::function<bool(const HttpRequest&)> wants_body = nullptr) {
    auto created = HttpServer::create(loop_,
                                      {.limits = limits,
                                       .tls = std::move(tls),
                                       .holdings = holdings_,
                                       .wants_body = std::move(wants_body)},
                                      std::move(handler));
    ASSERT_TRUE(created.has_value()) << created.error().message;
    server_ = std::move(*created);
    port_ = server_->port();
    thread_ = std::jthread([this] { loop_.run(); });
  }
  // A handler that keeps its response for the test and says so through arrived_.
  void serve_and_keep(HttpLimits limits = {},
                      std::shared_ptr<const TlsServerContext> tls = nullptr) {
    serve(
        [this](HttpRequest request, HttpResponse response) {
          response.on_close([this] { closed_.push(1); });
          kept_.push_back(response);
          arrived_.push(std::move(request.target));
        },
        limits, std::move(tls));
  }
  // Runs on the loop's thread; returns when it has run.
  template <typename Work>
  void on_loop(Work work) {
    std::promise<void> done;
    loop_.post([&] {
      work();
      done.set_value();
    });
    done.get_future().wait();
  }
  bool closes_in_time() {
    return closed_.pop_until(SteadyTime::now() + std::chrono::seconds(5)).has_value();
  }
  std::string arrival() {
    return arrived_.pop_until(SteadyTime::now() + std::chrono::seconds(5))
        .value_or("nothing arrived");
  }

  EventLoop loop_;
  std::shared_ptr<HttpHoldings> holdings_ = std::make_shared<HttpHoldings>();
  std::unique_ptr<HttpServer> server_;
  std::uint16_t port_ = 0;
  std::vector<HttpResponse> kept_;  // loop thread
  BoundedQueue<std::string> arrived_{1000};
  BoundedQueue<int> closed_{1000};
  std::jthread thread_;
};

inline void answer_ok(HttpRequest request, HttpResponse response) {
  response.send(200, "text/plain", "got " + request.target + " " + request.body);
}

inline std::string answer_to(std::uint16_t port, std::string_view bytes) {
  RawSocket client = RawSocket::to(port);
  client.send(bytes);
  return client.read_to_end();
}

}  // namespace pd::net::testing
