// Connections that the client uses more than once, and what can happen to them in between.
#include <gtest/gtest.h>

#include <functional>
#include <future>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "net/http_client_testing.h"

namespace pd::net {
namespace {

using testing::call_to;
using testing::HttpClientTest;
using testing::kOk;
using testing::RawListener;
using testing::RawSocket;
using testing::read_request;
using namespace std::chrono_literals;

// --- kept-alive connections ----------------------------------------------------------------------

// Serves one call and leaves the connection idle; returns the peer's end.
RawSocket serve_one(HttpClientTest&, RawListener& listener,
                    const std::function<Result<HttpClient::Whole>(std::function<void()>)>& run) {
  std::optional<RawSocket> peer;
  const auto whole = run([&] {
    peer = listener.accept();
    read_request(*peer);
    peer->send(kOk);
  });
  EXPECT_TRUE(whole.has_value());
  return std::move(*peer);
}

class KeptAlive : public HttpClientTest {
 protected:
  RawSocket first_call() {
    RawSocket peer = serve_one(*this, listener_, [&](std::function<void()> work) {
      return fetch_while(call_to(listener_.port()), std::move(work));
    });
    EXPECT_EQ(client_.connections_idle(), 1);
    return peer;
  }
};

TEST_F(KeptAlive, IsUsedAgain) {
  RawSocket peer = first_call();
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(fetch_while(call_to(listener_.port()), [&] {
                  read_request(peer);
                  peer.send(kOk);
                }).has_value());
  }
  EXPECT_EQ(client_.connections_opened(), 1u);
}

TEST_F(KeptAlive, AnIdleConnectionThatTheServerClosesIsForgotten) {
  RawSocket peer = first_call();
  peer.close();
  run_until([&] { return client_.connections_idle() == 0; });
}

TEST_F(KeptAlive, ACallOnAConnectionClosedUnnoticedGoesOutAgainUnseen) {
  RawSocket peer = first_call();
  peer.close();  // the loop has not run since: the client still believes in it
  const auto whole = fetch_while(call_to(listener_.port()), [&] {
    RawSocket fresh = listener_.accept();
    read_request(fresh);
    fresh.send(kOk);
  });
  EXPECT_TRUE(whole.has_value()) << whole.error().message;
  EXPECT_EQ(client_.connections_opened(), 2u);
}

TEST_F(KeptAlive, ACallThatTheServerReadIsNotSentTwice) {
  RawSocket peer = first_call();
  const auto whole = fetch_while(call_to(listener_.port()), [&] {
    read_request(peer);  // it may have acted on it
    peer.close();
  });
  ASSERT_FALSE(whole.has_value());
  EXPECT_EQ(whole.error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(client_.connections_opened(), 1u);
}

TEST_F(KeptAlive, AnIdempotentCallIsSentAgainOnceOnly) {
  RawSocket peer = first_call();
  int accepted = 0;
  const auto whole = fetch_while(call_to(listener_.port(), "PUT"), [&] {
    read_request(peer);
    peer.close();
    RawSocket fresh = listener_.accept();
    ++accepted;
    read_request(fresh);
    fresh.close();
  });
  EXPECT_FALSE(whole.has_value());
  EXPECT_EQ(accepted, 1);
  EXPECT_EQ(client_.connections_opened(), 2u);
}

TEST_F(KeptAlive, OneWithAByteOfResponseIsNotTriedAgain) {
  RawSocket peer = first_call();
  const auto whole = fetch_while(call_to(listener_.port(), "PUT"), [&] {
    read_request(peer);
    peer.send("H");
    peer.close();
  });
  EXPECT_FALSE(whole.has_value());
  EXPECT_EQ(client_.connections_opened(), 1u);
}

TEST_F(KeptAlive, BytesNobodyAskedForEndAnIdleConnection) {
  RawSocket peer = first_call();
  peer.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong");
  const auto whole = fetch_while(call_to(listener_.port()), [&] {
    RawSocket fresh = listener_.accept();
    read_request(fresh);
    fresh.send(kOk);
  });
  ASSERT_TRUE(whole.has_value()) << whole.error().message;
  EXPECT_EQ(whole->body, "ok");
}

class StaleAfter50Ms : public HttpClientTest {
 protected:
  Result<HttpClient::Whole> fetch_from(HttpClient& client, std::function<void()> peer) {
    const std::jthread thread(std::move(peer));
    Result<HttpClient::Whole> result = error(ErrorCode::kInternal, "no end");
    client.fetch(call_to(listener_.port()), [&](Result<HttpClient::Whole> whole) {
      result = std::move(whole);
      loop_.stop();
    });
    loop_.run();
    return result;
  }
  HttpClient impatient_{loop_,
                        {.response_limits = {}, .stale_after = 50ms, .vanished_after = 1200ms}};
  std::optional<RawSocket> peer_;
};

TEST_F(StaleAfter50Ms, ACallOnAConnectionThatVanishedSilentlyGoesOutAgain) {
  ASSERT_TRUE(fetch_from(impatient_, [&] {
                peer_ = listener_.accept();
                read_request(*peer_);
                peer_->send(kOk);
                peer_->go_silent();
              }).has_value());
  ASSERT_EQ(impatient_.connections_idle(), 1);
  const auto whole = fetch_from(impatient_, [&] {
    RawSocket fresh = listener_.accept();
    read_request(fresh);
    fresh.send(kOk);
  });
  EXPECT_TRUE(whole.has_value()) << whole.error().message;
  EXPECT_EQ(impatient_.connections_opened(), 2u);
}

TEST_F(StaleAfter50Ms, AServerWhoseMachineVanishedMidwayIsUnavailable) {
  HttpCall call = call_to(listener_.port());
  call.read_timeout.reset();
  const std::jthread peer([&] {
    peer_ = listener_.accept();
    read_request(*peer_);
    peer_->send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
    peer_->go_silent();
  });
  std::string got;
  Status outcome;
  HttpCallHandlers handlers;
  handlers.on_data = [&](std::string_view bytes) { got += bytes; };
  handlers.on_end = [&](Status status) {
    outcome = std::move(status);
    loop_.stop();
  };
  impatient_.call(std::move(call), std::move(handlers));
  loop_.run();
  EXPECT_EQ(got, "half");
  ASSERT_FALSE(outcome.has_value());
  EXPECT_EQ(outcome.error().code, ErrorCode::kUnavailable) << outcome.error().message;
}

TEST_F(StaleAfter50Ms, ASlowAnswerIsNotASilentConnection) {
  for (int round = 0; round < 2; ++round) {
    const auto whole = fetch_from(impatient_, [&] {
      if (!peer_) peer_ = listener_.accept();
      read_request(*peer_);
      // The answer comes when the loop has gone well past the limit.
      std::promise<void> later;
      loop_.post([&] { loop_.call_at(loop_.now() + 200ms, [&] { later.set_value(); }); });
      later.get_future().wait();
      peer_->send(kOk);
    });
    EXPECT_TRUE(whole.has_value()) << whole.error().message;
  }
  EXPECT_EQ(impatient_.connections_opened(), 1u);
}

TEST_F(KeptAlive, ExtraBytesBehindAResponseEndTheConnection) {
  const auto whole = fetch_while(call_to(listener_.port()), [&] {
    RawSocket peer = listener_.accept();
    read_request(peer);
    peer.send(std::string(kOk) + kOk);
    peer.read_to_end();
  });
  EXPECT_TRUE(whole.has_value());
  EXPECT_EQ(client_.connections_idle(), 0);
}

TEST_F(HttpClientTest, IdleConnectionsAgeOutAndAreBounded) {
  HttpClient client(loop_,
                    {.response_limits = {}, .idle_per_address_max = 2, .idle_timeout = 30ms});
  int ended = 0;
  const std::jthread peers([&] {
    std::vector<RawSocket> sockets;
    for (int i = 0; i < 3; ++i) sockets.push_back(listener_.accept());
    for (RawSocket& socket : sockets) {
      read_request(socket);
      socket.send(kOk);
    }
    for (RawSocket& socket : sockets) socket.read_to_end();
  });
  for (int i = 0; i < 3; ++i) {
    client.fetch(call_to(listener_.port()), [&](Result<HttpClient::Whole> whole) {
      EXPECT_TRUE(whole.has_value());
      if (++ended == 3) loop_.stop();
    });
  }
  loop_.run();
  EXPECT_EQ(client.connections_idle(), 2);
  run_until([&] { return client.connections_idle() == 0; });
}

}  // namespace
}  // namespace pd::net
