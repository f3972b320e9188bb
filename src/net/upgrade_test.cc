// Connections that change to another protocol: bytes both ways until either side ends it.
#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "net/http_client_testing.h"
#include "net/http_server_testing.h"

namespace pd::net {
namespace {

using testing::RawListener;
using testing::RawSocket;
using namespace std::chrono_literals;

constexpr const char* kAsk =
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: echo\r\n\r\n";

class UpgradedServer : public testing::HttpServerTest {
 protected:
  void serve_echo(HttpLimits limits = {}) {
    serve(
        [this](const HttpRequest& request, HttpResponse response) {
          if (!request.asks_for("echo")) return response.send(200, "text/plain", "plain");
          response.upgrade("echo", [response](std::string_view bytes) mutable {
            if (bytes.ends_with('!')) {
              response.write(bytes);
              return response.end();
            }
            response.write(bytes);
          });
          response.on_close([this] { closed_.push(1); });
          kept_.push_back(response);
          arrived_.push("upgraded");
        },
        limits);
  }
};

TEST_F(UpgradedServer, CarriesBytesBothWaysUntilItsEnd) {
  serve_echo();
  RawSocket client = RawSocket::to(port_);
  client.send(kAsk);
  const std::string head = client.read_until("\r\n\r\n");
  EXPECT_TRUE(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n")) << head;
  EXPECT_NE(head.find("connection: upgrade\r\nupgrade: echo\r\n"), std::string::npos) << head;
  EXPECT_EQ(head.find("content-length"), std::string::npos);
  client.send("one");
  EXPECT_EQ(client.read_until("one"), "one");
  client.send(std::string("\0\r\n\xff", 4));
  EXPECT_EQ(client.read_until("\xff"), std::string("\0\r\n\xff", 4));
  client.send("end!");
  EXPECT_EQ(client.read_to_end(), "end!");
}

TEST_F(UpgradedServer, WhatCameBehindTheRequestComesFirst) {
  serve_echo();
  for (int round = 0; round < 50; ++round) {
    RawSocket client = RawSocket::to(port_);
    client.send(std::string(kAsk) + "first ");
    client.send("second!");
    EXPECT_TRUE(client.read_to_end().ends_with("\r\n\r\nfirst second!"));
  }
}

TEST_F(UpgradedServer, AnyRequestThatDoesNotAskProperlyStaysHttp) {
  serve_echo();
  for (const char* ask : {
           "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: echo\r\nConnection: close\r\n\r\n",
           "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, upgrade\r\nUpgrade: h2c\r\n\r\n",
           "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, upgrade\r\nUpgrade: h2c, echo\r\n\r\n",
           "POST / HTTP/1.1\r\nHost: a\r\nConnection: close, upgrade\r\nUpgrade: echo\r\n"
           "Content-Length: 0\r\n\r\n",
       })
    EXPECT_TRUE(testing::answer_to(port_, ask).ends_with("plain")) << ask;
}

TEST_F(UpgradedServer, AClientThatEndsOrResetsIsGone) {
  serve_echo();
  for (const bool reset : {false, true}) {
    RawSocket client = RawSocket::to(port_);
    client.send(kAsk);
    arrival();
    client.read_until("\r\n\r\n");
    reset ? client.reset() : client.end_sending();
    EXPECT_TRUE(closes_in_time()) << reset;
  }
  on_loop([&] {
    EXPECT_FALSE(kept_.back().open());
    EXPECT_EQ(server_->connections(), 0);
  });
}

TEST_F(UpgradedServer, AReaderThatTakesNothingIsCut) {
  serve_echo({.write_buffer_max = Bytes(64 * 1024)});
  RawSocket client;
  client.set_receive_buffer(4096);
  client.connect(port_);
  client.send(kAsk);
  arrival();
  // More than any socket buffer takes, not in one turn.
  for (int i = 0; i < 200; ++i) on_loop([&] { kept_.back().write(std::string(64 * 1024, 'x')); });
  EXPECT_TRUE(closes_in_time());
}

class UpgradedClient : public testing::HttpClientTest {
 protected:
  // Runs `peer` against a call that asks for an upgrade, until the call's end.
  Status talk(std::function<void()> peer, std::function<void(std::string_view)> on_data = {}) {
    const std::jthread thread(std::move(peer));
    HttpCall call = testing::call_to(listener_.port(), "GET", "");
    call.read_timeout.reset();
    call.upgrade = "echo";
    call.vanished_after = 1200ms;
    Status outcome;
    HttpCallHandlers handlers;
    handlers.on_head = [this](int status, const std::vector<Header>&) {
      status_ = status;
      if (status == 101) client_.send(id_, "hello");
    };
    handlers.on_data = [&](std::string_view bytes) {
      got_ += bytes;
      if (on_data) on_data(bytes);
    };
    handlers.on_end = [&](Status ended) {
      outcome = std::move(ended);
      loop_.stop();
    };
    id_ = client_.call(std::move(call), std::move(handlers));
    loop_.run();
    return outcome;
  }
  HttpClient::CallId id_ = 0;
  int status_ = 0;
  std::string got_;
};

constexpr const char* kSwitch =
    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";

TEST_F(UpgradedClient, SendsAndReceivesUntilTheServerCloses) {
  std::string head;
  const Status outcome = talk(
      [&] {
        RawSocket peer = listener_.accept();
        head = peer.read_until("\r\n\r\n");
        peer.send(std::string(kSwitch) + "at once");
        EXPECT_EQ(peer.read_until("hello"), "hello");
        peer.send(" and later");
        EXPECT_EQ(peer.read_until("bye"), "bye");
      },
      [this](std::string_view bytes) {
        if (!bytes.ends_with("later")) return;
        client_.send(id_, "b");
        client_.send(id_, "ye");
      });
  EXPECT_NE(head.find("connection: upgrade\r\nupgrade: echo\r\n"), std::string::npos) << head;
  EXPECT_EQ(status_, 101);
  EXPECT_EQ(got_, "at once and later");
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, ErrorCode::kCancelled);
  EXPECT_EQ(client_.connections_idle(), 0);
}

TEST_F(UpgradedClient, AServerThatDoesNotAgreeGivesAnOrdinaryResponse) {
  const Status outcome = talk([&] {
    RawSocket peer = listener_.accept();
    peer.read_until("\r\n\r\n");
    peer.send("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno");
  });
  EXPECT_TRUE(outcome);
  EXPECT_EQ(status_, 404);
  EXPECT_EQ(got_, "no");
}

// Nothing is under way on it, and still its end is noticed.
TEST_F(UpgradedClient, AMachineThatVanishesIsNoticedWhileItIsIdle) {
  std::optional<RawSocket> peer;
  const Status outcome = talk([&] {
    peer = listener_.accept();
    peer->read_until("\r\n\r\n");
    peer->send(kSwitch);
    peer->read_until("hello");
    peer->go_silent();
  });
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, ErrorCode::kUnavailable);
}

TEST_F(UpgradedClient, MoreThanTheSocketTakesWaitsAndComesWhole) {
  const std::string large(8 << 20, 'x');
  const Status outcome = talk(
      [&] {
        RawSocket peer = listener_.accept();
        peer.read_until("\r\n\r\n");
        peer.send(std::string(kSwitch) + "go");
        peer.read_until("hello");
        std::size_t left = large.size();
        while (left > 0) {
          char piece[65536];
          const ssize_t n = ::recv(peer.fd(), piece, std::min(left, sizeof piece), 0);
          ASSERT_GT(n, 0);
          left -= static_cast<std::size_t>(n);
        }
      },
      [&](std::string_view) { client_.send(id_, large); });
  EXPECT_FALSE(outcome);
}

}  // namespace
}  // namespace pd::net
