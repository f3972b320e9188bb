// The client against servers that do exactly what the test says: raw sockets on the test's thread
// or on one helper thread; the client's loop runs on the test's thread.
#include "net/http_client.h"

#include <gtest/gtest.h>

#include <memory>
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

TEST_F(HttpClientTest, SendsWhatTheCallSays) {
  std::string seen;
  HttpCall call = call_to(listener_.port());
  call.headers = {{"x-id", "7"}};
  const auto whole = fetch_while(std::move(call), [&] {
    RawSocket peer = listener_.accept();
    seen = read_request(peer);
    peer.send(kOk);
  });
  ASSERT_TRUE(whole.has_value()) << whole.error().message;
  EXPECT_EQ(whole->status, 200);
  EXPECT_EQ(whole->body, "ok");
  EXPECT_EQ(seen, "POST /x HTTP/1.1\r\nx-id: 7\r\nhost: 127.0.0.1:" +
                      std::to_string(listener_.port()) + "\r\ncontent-length: 2\r\n\r\n{}");
}

TEST_F(HttpClientTest, ResolvesNames) {
  HttpCall call = call_to(listener_.port());
  call.address.host = "localhost";
  const auto whole = fetch_while(std::move(call), [&] {
    RawSocket peer = listener_.accept();
    read_request(peer);
    peer.send(kOk);
  });
  EXPECT_TRUE(whole.has_value()) << whole.error().message;
  HttpCall nowhere = call_to(1);
  nowhere.address.host = "no-such-host.invalid";
  nowhere.connect_timeout = 10s;
  EXPECT_EQ(fetch(std::move(nowhere)).error().code, ErrorCode::kUnavailable);
}

TEST_F(HttpClientTest, ARefusedConnectionIsUnavailable) {
  const std::uint16_t port = listener_.port();
  listener_.close();
  const auto whole = fetch(call_to(port));
  ASSERT_FALSE(whole.has_value());
  EXPECT_EQ(whole.error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(whole.error().message,
            "cannot connect to 127.0.0.1:" + std::to_string(port) + ": Connection refused");
}

TEST_F(HttpClientTest, AServerThatAcceptsNothingIsADeadline) {
  RawListener full(0);
  std::vector<RawSocket> waiting;  // a backlog of 0 has room for one; SYNs after it are dropped
  waiting.push_back(RawSocket::to(full.port()));
  HttpCall call = call_to(full.port());
  call.connect_timeout = 50ms;
  HttpCall second = call;
  static_cast<void>(fetch(std::move(call)));  // may still find room
  const auto whole = fetch(std::move(second));
  ASSERT_FALSE(whole.has_value());
  EXPECT_EQ(whole.error().code, ErrorCode::kDeadlineExceeded) << whole.error().message;
}

TEST_F(HttpClientTest, SilenceIsADeadlineBytesAreNot) {
  HttpCall call = call_to(listener_.port());
  call.read_timeout = 400ms;
  std::string got;
  HttpCallHandlers handlers;
  Status outcome;
  handlers.on_data = [&](std::string_view bytes) { got += bytes; };
  handlers.on_end = [&](Status status) {
    outcome = std::move(status);
    loop_.stop();
  };
  RawSocket peer;
  int sent = 0;
  // 8 bytes, 60 ms apart: longer in all than the timeout, each gap shorter. Then silence.
  std::function<void()> drip = [&] {
    peer.send("x");
    if (++sent < 8) loop_.call_at(loop_.now() + 60ms, drip);
  };
  client_.call(std::move(call), std::move(handlers));
  loop_.call_at(loop_.now() + 1ms, [&] {
    peer = listener_.accept();
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
    drip();
  });
  loop_.run();
  EXPECT_EQ(got, "xxxxxxxx");
  ASSERT_FALSE(outcome.has_value());
  EXPECT_EQ(outcome.error().code, ErrorCode::kDeadlineExceeded);
}

TEST_F(HttpClientTest, CutShortCorruptAndTooLargeAreTold) {
  const auto code_of = [&](std::string answer, HttpCall call) {
    const auto whole = fetch_while(std::move(call), [&] {
      RawSocket peer = listener_.accept();
      read_request(peer);
      peer.send(answer);
    });
    return whole ? ErrorCode::kCancelled : whole.error().code;
  };
  const HttpCall call = call_to(listener_.port());
  EXPECT_EQ(code_of("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", call),
            ErrorCode::kUnavailable);
  EXPECT_EQ(code_of("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", call),
            ErrorCode::kUnavailable);
  EXPECT_EQ(code_of("", call), ErrorCode::kUnavailable);
  EXPECT_EQ(code_of("SSH-2.0-OpenSSH_9.2\r\n", call), ErrorCode::kCorrupt);
  HttpCall bounded = call;
  bounded.response_bytes_max = Bytes(3);
  EXPECT_EQ(code_of("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd", bounded),
            ErrorCode::kTooLarge);
  bounded.response_bytes_max = Bytes(4);
  EXPECT_EQ(code_of("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd", bounded),
            ErrorCode::kCancelled);  // that is: none
}

TEST_F(HttpClientTest, AnAnswerBeforeTheRequestIsSentIsHeard) {
  const auto whole =
      fetch_while(call_to(listener_.port(), "POST", std::string(20'000'000, 'x')), [&] {
        RawSocket peer = listener_.accept();
        peer.read_until("\r\n\r\n");
        peer.send("HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nlong");
        peer.end_sending();
        peer.close();  // with most of the request unread: a reset follows
      });
  // The reset can overtake the answer; what must not happen is a hang or a wrong success.
  if (whole) {
    EXPECT_EQ(whole->status, 413);
    EXPECT_EQ(whole->body, "long");
  } else {
    EXPECT_EQ(whole.error().code, ErrorCode::kUnavailable);
  }
  EXPECT_EQ(client_.connections_idle(), 0);
}

TEST_F(HttpClientTest, RefusesCallsThatWouldBreakTheMessage) {
  const auto code_of = [&](HttpCall call) { return fetch(std::move(call)).error().code; };
  HttpCall call = call_to(listener_.port());
  for (const char* target : {"", "x", "/a b", "/\r\nx", "http://a/"}) {
    HttpCall bad = call;
    bad.target = target;
    EXPECT_EQ(code_of(bad), ErrorCode::kInvalidArgument) << target;
  }
  for (const Header& header : std::vector<Header>{{"a b", "c"},
                                                  {"a", "b\r\nc: d"},
                                                  {"Content-Length", "3"},
                                                  {"connection", "close"},
                                                  {"transfer-encoding", "chunked"}}) {
    HttpCall bad = call;
    bad.headers = {header};
    EXPECT_EQ(code_of(bad), ErrorCode::kInvalidArgument) << header.first;
  }
  HttpCall bad = call;
  bad.method = "GET /";
  EXPECT_EQ(code_of(bad), ErrorCode::kInvalidArgument);
  EXPECT_EQ(client_.calls_under_way(), 0);
}

// --- ends inside callbacks -----------------------------------------------------------------------

TEST_F(HttpClientTest, CancelInsideACallbackIsTheLastWord) {
  for (const bool in_head : {true, false}) {
    HttpClient::CallId id = 0;
    HttpCallHandlers handlers;
    int data_calls = 0;
    handlers.on_head = [&](int, const std::vector<Header>&) {
      if (in_head) client_.cancel(id);
    };
    handlers.on_data = [&](std::string_view) {
      ++data_calls;
      client_.cancel(id);
    };
    handlers.on_end = [](Status) { ADD_FAILURE() << "a callback after cancel()"; };
    std::string left;
    const std::jthread peer([&] {
      RawSocket socket = listener_.accept();
      read_request(socket);
      socket.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n");
      socket.read_to_end();  // until the client resets it
      loop_.stop();
    });
    id = client_.call(call_to(listener_.port()), std::move(handlers));
    loop_.run();
    EXPECT_EQ(data_calls, in_head ? 0 : 1);
    EXPECT_EQ(client_.calls_under_way(), 0);
  }
}

TEST_F(HttpClientTest, TheClientCanEndInsideItsCallbacks) {
  for (const std::string when : {"head", "data", "end"}) {
    auto client = std::make_unique<HttpClient>(loop_);
    const auto finish = [&] {
      client.reset();
      loop_.post([this] { loop_.stop(); });
    };
    HttpCallHandlers handlers;
    handlers.on_head = [&](int, const std::vector<Header>&) {
      if (when == "head") finish();
    };
    handlers.on_data = [&](std::string_view) {
      if (when == "data") finish();
    };
    handlers.on_end = [&](Status) {
      EXPECT_EQ(when, "end");
      finish();
    };
    const std::jthread peer([&] {
      RawSocket socket = listener_.accept();
      read_request(socket);
      socket.send(kOk);
      socket.read_to_end();
    });
    client->call(call_to(listener_.port()), std::move(handlers));
    loop_.run();
    EXPECT_EQ(client, nullptr);
  }
}

TEST_F(HttpClientTest, ACallInsideOnEndReusesTheConnection) {
  std::string bodies;
  const std::jthread peer([&] {
    RawSocket socket = listener_.accept();
    for (int i = 0; i < 2; ++i) {
      read_request(socket);
      socket.send(kOk);
    }
  });
  client_.fetch(call_to(listener_.port()), [&](Result<HttpClient::Whole> first) {
    bodies += first->body;
    client_.fetch(call_to(listener_.port()), [&](Result<HttpClient::Whole> second) {
      bodies += second ? second->body : second.error().message;
      loop_.stop();
    });
  });
  loop_.run();
  EXPECT_EQ(bodies, "okok");
  EXPECT_EQ(client_.connections_opened(), 1u);
}

TEST_F(HttpClientTest, CancelBeforeAnythingHappenedIsSilent) {
  HttpCallHandlers handlers;
  handlers.on_end = [](Status) { ADD_FAILURE() << "a callback after cancel()"; };
  HttpCall invalid = call_to(listener_.port());
  invalid.target = "";
  client_.cancel(client_.call(std::move(invalid), handlers));
  client_.cancel(client_.call(call_to(listener_.port()), handlers));
  client_.cancel(4711);
  loop_.call_at(loop_.now() + 5ms, [&] { loop_.stop(); });
  loop_.run();
  EXPECT_EQ(client_.calls_under_way(), 0);
}

TEST(FetchBlocking, RunsOneCall) {
  RawListener listener;
  const std::jthread peer([&] {
    RawSocket socket = listener.accept();
    read_request(socket);
    socket.send(kOk);
  });
  const auto whole = fetch_blocking(call_to(listener.port()));
  ASSERT_TRUE(whole.has_value());
  EXPECT_EQ(whole->body, "ok");
}

TEST(FetchBlocking, EndsWithItsPatience) {
  RawListener listener;  // accepts, and says nothing
  const auto whole = fetch_blocking(call_to(listener.port()), {}, 50ms);
  ASSERT_FALSE(whole.has_value());
  EXPECT_EQ(whole.error().code, ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(whole.error().message, "no whole answer within 0.05 s");
}

TEST(ParseAddress, ReadsHostAndPort) {
  EXPECT_EQ(parse_address("127.0.0.1:8000"), (HttpAddress{"127.0.0.1", 8000}));
  EXPECT_EQ(parse_address("[::1]:80"), (HttpAddress{"::1", 80}));
  EXPECT_EQ(parse_address("worker-3.local:65535"), (HttpAddress{"worker-3.local", 65535}));
  EXPECT_EQ(to_string(HttpAddress{"::1", 80}), "[::1]:80");
  for (const char* bad : {"", "a", ":80", "a:", "a:0", "a:65536", "a:+1", "::1:80", "a b:1", "[]:1",
                          "a:1 ", "a/b:1"}) {
    EXPECT_FALSE(parse_address(bad).has_value()) << bad;
  }
}

}  // namespace
}  // namespace pd::net
