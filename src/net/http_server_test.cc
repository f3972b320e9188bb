// The server against raw sockets: its loop runs on a thread of its own, the test is the client.
#include "net/http_server.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <future>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/bounded_queue.h"
#include "net/raw_socket_testing.h"

namespace pd::net {
namespace {

using testing::RawSocket;
using namespace std::chrono_literals;

constexpr const char* kGet = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

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

  void serve(HttpServer::Handler handler, HttpLimits limits = {}) {
    auto created = HttpServer::create(loop_, {.limits = limits}, std::move(handler));
    ASSERT_TRUE(created.has_value()) << created.error().message;
    server_ = std::move(*created);
    port_ = server_->port();
    thread_ = std::jthread([this] { loop_.run(); });
  }
  // A handler that keeps its response for the test and says so through arrived_.
  void serve_and_keep(HttpLimits limits = {}) {
    serve(
        [this](HttpRequest request, HttpResponse response) {
          response.on_close([this] { closed_.push(1); });
          kept_.push_back(response);
          arrived_.push(std::move(request.target));
        },
        limits);
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
  bool closes_in_time() { return closed_.pop_until(SteadyTime::now() + 5s).has_value(); }
  std::string arrival() {
    return arrived_.pop_until(SteadyTime::now() + 5s).value_or("nothing arrived");
  }

  EventLoop loop_;
  std::unique_ptr<HttpServer> server_;
  std::uint16_t port_ = 0;
  std::vector<HttpResponse> kept_;  // loop thread
  BoundedQueue<std::string> arrived_{1000};
  BoundedQueue<int> closed_{1000};
  std::jthread thread_;
};

void answer_ok(HttpRequest request, HttpResponse response) {
  response.send(200, "text/plain", "got " + request.target + " " + request.body);
}

std::string answer_to(std::uint16_t port, std::string_view bytes) {
  RawSocket client = RawSocket::to(port);
  client.send(bytes);
  return client.read_to_end();
}

// --- what is no request --------------------------------------------------------------------------

TEST_F(HttpServerTest, AnswersGarbageWithAJsonErrorAndCloses) {
  serve([](HttpRequest, HttpResponse) { ADD_FAILURE() << "garbage reached the handler"; });
  const std::string bad = answer_to(port_, "GET / HTTP/1.1\nHost: a\n\n");
  EXPECT_TRUE(bad.starts_with("HTTP/1.1 400 Bad Request\r\n")) << bad;
  EXPECT_NE(bad.find("connection: close\r\n"), std::string::npos);
  EXPECT_NE(bad.find(R"({"error":{"message":")"), std::string::npos);
  const std::string http2 = answer_to(port_, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  EXPECT_TRUE(http2.starts_with("HTTP/1.1 505 ")) << http2;
  EXPECT_TRUE(answer_to(port_, "\x16\x03\x01\x02\x00\x01").starts_with("HTTP/1.1 400 "));
  EXPECT_TRUE(answer_to(port_, "GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 400 "));
}

TEST_F(HttpServerTest, AClientStillSendingABodyTooLargeReadsThe413) {
  HttpLimits limits;
  limits.body_bytes_max = Bytes(1000);
  serve(answer_ok, limits);
  RawSocket client = RawSocket::to(port_);
  client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n");
  client.send(std::string(3'000'000, 'x'));  // more than the sockets' buffers hold
  EXPECT_TRUE(client.read_to_end().starts_with("HTTP/1.1 413 "));
  EXPECT_FALSE(client.was_reset());
}

TEST_F(HttpServerTest, SlowHeadersAndBodiesEndWith408IdleConnectionsSilently) {
  HttpLimits limits;
  limits.header_timeout = 30ms;
  limits.body_timeout = 30ms;
  limits.idle_timeout = 60ms;
  serve(answer_ok, limits);
  EXPECT_TRUE(answer_to(port_, "GET / HT").starts_with("HTTP/1.1 408 "));
  EXPECT_TRUE(answer_to(port_, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")
                  .starts_with("HTTP/1.1 408 "));
  EXPECT_EQ(answer_to(port_, ""), "");
  const std::string kept_alive = answer_to(port_, kGet);
  EXPECT_TRUE(kept_alive.starts_with("HTTP/1.1 200 "));
  EXPECT_EQ(kept_alive.find("408"), std::string::npos);
}

TEST_F(HttpServerTest, OneByteAtATimeDoesNotExtendTheHeadersTime) {
  HttpLimits limits;
  limits.header_timeout = 100ms;
  serve(answer_ok, limits);
  RawSocket client = RawSocket::to(port_);
  const Time started = SteadyTime::now();
  client.send("GET / HTTP/1.1\r\n");
  // A slow-header attack: each byte comes in time, the head never.
  while (client.send("X: y\r\n") && SteadyTime::now() - started < 5s) std::this_thread::yield();
  EXPECT_LT(SteadyTime::now() - started, 4s);
}

// --- the ordinary course -------------------------------------------------------------------------

TEST_F(HttpServerTest, PipelinedRequestsAreHandledOneAfterTheOther) {
  serve_and_keep();
  RawSocket client = RawSocket::to(port_);
  client.send(
      "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n"
      "okGET /3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  for (const char* target : {"/1", "/2", "/3"}) {
    EXPECT_EQ(arrival(), target);
    on_loop([&] {
      EXPECT_EQ(kept_.size(), 1u);  // not before the response before it has ended
      kept_.back().send(200, "text/plain", target);
      kept_.clear();
    });
  }
  const std::string all = client.read_to_end();
  EXPECT_LT(all.find("\r\n\r\n/1HTTP"), all.find("\r\n\r\n/2HTTP"));
  EXPECT_TRUE(all.ends_with("\r\n\r\n/3"));
}

TEST_F(HttpServerTest, ARequestInSingleBytesIsARequest) {
  serve(answer_ok);
  RawSocket client = RawSocket::to(port_);
  for (const char c : std::string_view(
           "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
           "3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n")) {
    client.send({&c, 1});
  }
  EXPECT_TRUE(client.read_to_end().ends_with("got /x abcd"));
}

TEST_F(HttpServerTest, SaysContinueBeforeTheBodyComes) {
  serve(answer_ok);
  RawSocket client = RawSocket::to(port_);
  client.send(
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n"
      "Connection: close\r\n\r\n");
  EXPECT_EQ(client.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("ok");
  EXPECT_TRUE(client.read_to_end().ends_with("got / ok"));
}

TEST_F(HttpServerTest, HeadAndBodylessStatusesHaveNoBody) {
  serve([](HttpRequest request, HttpResponse response) {
    response.send(request.target == "/204" ? 204 : 200, "text/plain", "body");
  });
  const std::string head =
      answer_to(port_, "HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  EXPECT_NE(head.find("content-length: 4\r\n"), std::string::npos);
  EXPECT_TRUE(head.ends_with("\r\n\r\n"));
  const std::string none =
      answer_to(port_, "GET /204 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(none.find("content-length"), std::string::npos);
  EXPECT_TRUE(none.ends_with("\r\n\r\n"));
}

TEST_F(HttpServerTest, Http10StreamsEndWithTheConnectionAndWholeResponsesKeepItWhenAsked) {
  serve([](HttpRequest request, HttpResponse response) {
    if (request.target == "/whole") return response.send(200, "text/plain", "whole");
    response.start(200, "text/plain");
    response.write("a");
    response.write("b");
    response.end();
  });
  RawSocket client = RawSocket::to(port_);
  client.send("GET /whole HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_NE(client.read_until("\r\n\r\nwhole").find("connection: keep-alive\r\n"),
            std::string::npos);
  client.send("GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  const std::string stream = client.read_to_end();
  EXPECT_EQ(stream.find("transfer-encoding"), std::string::npos);
  EXPECT_NE(stream.find("connection: close\r\n"), std::string::npos);
  EXPECT_TRUE(stream.ends_with("\r\n\r\nab"));
}

TEST_F(HttpServerTest, WhatIsWrittenInOneTurnLeavesTogether) {
  serve([](HttpRequest, HttpResponse response) {
    response.start(200, "text/plain", {{"x-a", "1"}});
    response.write("one");
    response.write("");
    response.write("three");
    response.end();
  });
  RawSocket client = RawSocket::to(port_);
  client.send(kGet);
  char piece[4096];
  const ssize_t got = ::recv(client.fd(), piece, sizeof piece, 0);  // one segment has it all
  ASSERT_GT(got, 0);
  const std::string_view bytes(piece, static_cast<std::size_t>(got));
  EXPECT_NE(bytes.find("x-a: 1\r\n"), std::string_view::npos) << bytes;
  EXPECT_TRUE(bytes.ends_with("\r\n\r\n3\r\none\r\n5\r\nthree\r\n0\r\n\r\n")) << bytes;
}

TEST_F(HttpServerTest, AHeaderValueCannotEndTheHead) {
  serve([](HttpRequest, HttpResponse response) {
    response.send(200, "text/plain", "x",
                  {{"x-id", "a\r\nset-cookie: b"}, {"bad name", "c"}, {"Content-Length", "99"}});
  });
  const std::string answer =
      answer_to(port_, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  EXPECT_NE(answer.find("x-id: a  set-cookie: b\r\n"), std::string::npos) << answer;
  EXPECT_EQ(answer.find("bad name"), std::string::npos);
  EXPECT_EQ(answer.find("99"), std::string::npos);
}

TEST_F(HttpServerTest, AHandlerThatForgetsItsResponseGivesA500OrACutConnection) {
  serve([](HttpRequest request, HttpResponse response) {
    if (request.target == "/started") response.start(200, "text/plain");
  });
  EXPECT_TRUE(answer_to(port_, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                  .starts_with("HTTP/1.1 500 "));
  RawSocket client = RawSocket::to(port_);
  client.send("GET /started HTTP/1.1\r\nHost: a\r\n\r\n");
  client.read_to_end();
  EXPECT_TRUE(client.was_reset());
}

TEST_F(HttpServerTest, AbortCutsAStreamWithoutItsEnd) {
  serve_and_keep();
  RawSocket client = RawSocket::to(port_);
  client.send(kGet);
  arrival();
  on_loop([&] {
    kept_.back().start(200, "text/plain");
    kept_.back().write("half");
  });
  EXPECT_TRUE(client.read_until("half\r\n").ends_with("half\r\n"));
  on_loop([&] {
    kept_.back().abort();
    EXPECT_FALSE(kept_.back().open());
    kept_.back().write("more");  // harmless
    kept_.back().end();
    EXPECT_EQ(server_->connections(), 0);
  });
  EXPECT_EQ(client.read_to_end(), "");
  EXPECT_TRUE(client.was_reset());
  EXPECT_FALSE(closed_.try_pop().has_value());
}

// --- clients that go -----------------------------------------------------------------------------

TEST_F(HttpServerTest, AClosedConnectionIsNoticedBeforeTheResponseBegins) {
  serve_and_keep();
  RawSocket client = RawSocket::to(port_);
  client.send(kGet);
  arrival();
  client.close();  // FIN only: the same on the wire as a client that has merely finished sending
  EXPECT_TRUE(closes_in_time());
  on_loop([&] {
    EXPECT_FALSE(kept_.back().open());
    EXPECT_EQ(server_->connections(), 0);
  });
}

TEST_F(HttpServerTest, AClosedConnectionIsNoticedWhileAStreamIsSilent) {
  serve_and_keep();
  RawSocket client = RawSocket::to(port_);
  client.send(kGet);
  arrival();
  on_loop([&] {
    kept_.back().start(200, "text/plain");
    kept_.back().write("first");
  });
  client.read_until("first\r\n");
  client.close();
  EXPECT_TRUE(closes_in_time());
}

TEST_F(HttpServerTest, AResetIsNoticedAtEachStage) {
  serve_and_keep();
  for (const bool started : {false, true}) {
    RawSocket client = RawSocket::to(port_);
    client.send(kGet);
    arrival();
    on_loop([&] {
      if (started) kept_.back().start(200, "text/plain");
    });
    client.reset();
    EXPECT_TRUE(closes_in_time()) << started;
  }
  RawSocket inside_head = RawSocket::to(port_);
  inside_head.send("GET / HT");
  inside_head.reset();
  EXPECT_TRUE(answer_to(port_, "x\r\n\r\n").starts_with("HTTP/1.1 400"));  // the server lives
  on_loop([&] { EXPECT_LE(server_->connections(), 1); });
}

TEST_F(HttpServerTest, AClientThatHasOnlyFinishedSendingGetsItsWholeResponse) {
  serve_and_keep();
  RawSocket client = RawSocket::to(port_);
  client.send(kGet);
  arrival();
  client.end_sending();
  // The server has seen the end when its probe, the response's first byte, is here.
  EXPECT_EQ(client.read_until("H"), "H");
  on_loop([&] { kept_.back().send(200, "text/plain", "late"); });
  const std::string rest = client.read_to_end();
  EXPECT_TRUE(rest.starts_with("TTP/1.1 200 OK\r\n")) << rest;
  EXPECT_TRUE(rest.ends_with("\r\n\r\nlate")) << rest;
  EXPECT_FALSE(closed_.try_pop().has_value());
}

TEST_F(HttpServerTest, AHalfClosedClientsStreamGoesOnCorrectly) {
  serve_and_keep();
  RawSocket client = RawSocket::to(port_);
  client.send(kGet);
  arrival();
  on_loop([&] {
    kept_.back().start(200, "text/plain");
    kept_.back().write("one");
  });
  client.read_until("3\r\none\r\n");
  client.end_sending();
  EXPECT_EQ(client.read_until("0"), "0");  // the probe
  on_loop([&] {
    EXPECT_TRUE(kept_.back().open());
    kept_.back().write("three");
    kept_.back().end();
  });
  EXPECT_EQ(client.read_to_end(), "5\r\nthree\r\n0\r\n\r\n");
}

TEST_F(HttpServerTest, PipelinedRequestsOfAHalfClosedClientAreAllAnswered) {
  serve(answer_ok);
  RawSocket client = RawSocket::to(port_);
  client.send(std::string(kGet) + kGet + kGet + "GET /unfinished HT");
  client.end_sending();
  const std::string all = client.read_to_end();
  int answers = 0;
  for (std::size_t at = 0; (at = all.find("got / ", at)) != std::string::npos; ++at) ++answers;
  EXPECT_EQ(answers, 3);
  EXPECT_EQ(all.find("unfinished"), std::string::npos);
}

TEST_F(HttpServerTest, OnCloseRegisteredTooLateIsStillCalled) {
  std::optional<HttpResponse> kept;
  serve([&](HttpRequest, HttpResponse response) {
    kept = response;
    arrived_.push("here");
  });
  RawSocket client = RawSocket::to(port_);
  client.send(kGet);
  arrival();
  client.reset();
  bool open = true;
  const Time started = SteadyTime::now();
  while (open && SteadyTime::now() - started < 5s) on_loop([&] { open = kept->open(); });
  on_loop([&] { kept->on_close([this] { closed_.push(1); }); });
  EXPECT_TRUE(closes_in_time());
  on_loop([&] { kept.reset(); });
}

// --- slow readers --------------------------------------------------------------------------------

TEST_F(HttpServerTest, AReaderSlowerThanItsBufferIsCut) {
  HttpLimits limits;
  limits.write_buffer_max = Bytes(64 * 1024);
  serve_and_keep(limits);
  RawSocket client;
  client.set_receive_buffer(4096);
  client.connect(port_);
  client.send(kGet);
  arrival();
  on_loop([&] { kept_.back().start(200, "text/plain"); });
  const std::string piece(16 * 1024, 'x');
  std::int64_t unsent_max = 0;
  bool open = true;
  for (int i = 0; i < 4000 && open; ++i) {  // 64 MB: more than any socket buffer
    on_loop([&] {
      open = kept_.back().open();
      kept_.back().write(piece);
      unsent_max = std::max(unsent_max, kept_.back().unsent().value());
    });
  }
  EXPECT_FALSE(open);
  EXPECT_TRUE(closes_in_time());
  EXPECT_LT(unsent_max, 64 * 1024 + 2 * 16 * 1024);
}

TEST_F(HttpServerTest, ABurstInOneTurnIsNotASlowReader) {
  HttpLimits limits;
  limits.write_buffer_max = Bytes(16 * 1024);
  serve(
      [](HttpRequest, HttpResponse response) {
        response.start(200, "text/plain");
        for (int i = 0; i < 100; ++i) response.write(std::string(1024, 'x'));
        response.end();
      },
      limits);
  EXPECT_TRUE(answer_to(port_, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                  .ends_with("0\r\n\r\n"));
}

TEST_F(HttpServerTest, AReaderThatTakesNothingOfAWholeResponseIsCutInTime) {
  HttpLimits limits;
  limits.write_timeout = 50ms;
  serve(
      [this](HttpRequest, HttpResponse response) {
        response.send(200, "text/plain", std::string(20'000'000, 'x'));
        arrived_.push("sent");
      },
      limits);
  RawSocket client;
  client.set_receive_buffer(4096);
  client.connect(port_);
  client.send(kGet);
  arrival();
  int connections = 1;
  const Time started = SteadyTime::now();
  while (connections > 0 && SteadyTime::now() - started < 5s) {
    on_loop([&] { connections = server_->connections(); });
  }
  EXPECT_EQ(connections, 0);
}

TEST_F(HttpServerTest, AClientWhoseMachineVanishedIsNoticed) {
  HttpLimits limits;
  limits.write_timeout = 300ms;
  serve_and_keep(limits);
  RawSocket client = RawSocket::to(port_);
  client.send(kGet);
  arrival();
  client.go_silent();
  on_loop([&] {
    kept_.back().start(200, "text/plain");
    kept_.back().write("into the void");  // the socket takes it; nobody acknowledges it
  });
  EXPECT_TRUE(closes_in_time());
}

TEST_F(HttpServerTest, OnDrainedTellsWhenTheReaderHasCaughtUp) {
  HttpLimits limits;
  limits.write_buffer_max = Bytes(1024 * 1024);
  BoundedQueue<std::int64_t> drained(10);
  serve(
      [&](HttpRequest, HttpResponse response) {
        response.start(200, "text/plain");
        response.write(std::string(8'000'000, 'x'));  // more than the sockets' buffers hold
        response.on_drained([&drained, response]() mutable {
          drained.push(response.unsent().value());
          response.end();
        });
        arrived_.push("written");
      },
      limits);
  RawSocket client;
  client.set_receive_buffer(4096);
  client.connect(port_);
  client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(arrival(), "written");
  const std::string all = client.read_to_end();
  EXPECT_TRUE(all.ends_with("0\r\n\r\n"));
  const auto unsent = drained.pop_until(SteadyTime::now() + 5s);
  ASSERT_TRUE(unsent.has_value());
  EXPECT_LT(*unsent, 256 * 1024);
}

// --- the server's own end ------------------------------------------------------------------------

TEST_F(HttpServerTest, StopAcceptingLetsRunningResponsesEnd) {
  serve_and_keep();
  RawSocket idle = RawSocket::to(port_);
  RawSocket busy = RawSocket::to(port_);
  busy.send(kGet);
  arrival();
  on_loop([&] {
    EXPECT_EQ(server_->connections(), 2);
    server_->stop_accepting();
    EXPECT_EQ(server_->connections(), 1);
  });
  EXPECT_EQ(idle.read_to_end(), "");
  RawSocket refused;
  const sockaddr_in address = testing::loopback(port_);
  EXPECT_NE(::connect(refused.fd(), reinterpret_cast<const sockaddr*>(&address), sizeof address),
            0);
  on_loop([&] { kept_.back().send(200, "text/plain", "done"); });
  const std::string answer = busy.read_to_end();
  EXPECT_NE(answer.find("connection: close\r\n"), std::string::npos) << answer;
  EXPECT_TRUE(answer.ends_with("done"));
}

TEST_F(HttpServerTest, CloseAllCutsAndTells) {
  serve_and_keep();
  RawSocket client = RawSocket::to(port_);
  client.send(kGet);
  arrival();
  on_loop([&] { server_->close_all(); });
  EXPECT_TRUE(closes_in_time());
  EXPECT_EQ(client.read_to_end(), "");
}

TEST_F(HttpServerTest, AResponseOutlivesItsServerHarmlessly) {
  serve_and_keep();
  RawSocket client = RawSocket::to(port_);
  client.send(kGet);
  arrival();
  on_loop([&] {
    server_.reset();
    EXPECT_FALSE(kept_.back().open());
    kept_.back().send(200, "text/plain", "x");
    kept_.back().on_close([] { FAIL(); });
    EXPECT_EQ(kept_.back().unsent(), Bytes(0));
  });
  EXPECT_FALSE(closed_.try_pop().has_value());
}

// --- limits of the machine -----------------------------------------------------------------------

TEST_F(HttpServerTest, TooManyConnectionsAreAnsweredWith503) {
  HttpLimits limits;
  limits.connections_max = 1;
  serve_and_keep(limits);
  RawSocket first = RawSocket::to(port_);
  first.send(kGet);
  arrival();
  const std::string refused = answer_to(port_, kGet);
  EXPECT_TRUE(refused.starts_with("HTTP/1.1 503 ")) << refused;
  EXPECT_NE(refused.find("retry-after: 1\r\n"), std::string::npos);
  on_loop([&] { EXPECT_EQ(server_->connections_refused(), 1u); });
}

TEST_F(HttpServerTest, OutOfDescriptorsItAnswers503AndRecovers) {
  serve(answer_ok);
  RawSocket client;  // has its descriptor already
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit low{.rlim_cur = 64, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &low), 0);
  std::vector<UniqueFd> taken;
  while (true) {
    UniqueFd fd(::dup(client.fd()));
    if (!fd) break;
    taken.push_back(std::move(fd));
  }
  client.connect(port_);
  client.send(kGet);
  const std::string refused = client.read_to_end();
  taken.clear();
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_TRUE(refused.starts_with("HTTP/1.1 503 ")) << refused;
  on_loop([&] { EXPECT_GE(server_->connections_refused(), 1u); });
  EXPECT_TRUE(answer_to(port_, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                  .starts_with("HTTP/1.1 200 "));
}

TEST_F(HttpServerTest, APortInUseIsReportedWithItsOwner) {
  serve(answer_ok);
  EventLoop other;
  const auto second = HttpServer::create(other, {.port = port_}, answer_ok);
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, ErrorCode::kAlreadyExists);
  EXPECT_NE(second.error().message.find(std::to_string(port_)), std::string::npos);
  EXPECT_NE(second.error().message.find("by process " + std::to_string(::getpid())),
            std::string::npos)
      << second.error().message;
  const auto nowhere = HttpServer::create(other, {.host = "192.0.2.1"}, answer_ok);
  ASSERT_FALSE(nowhere.has_value());
  EXPECT_EQ(nowhere.error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace pd::net
