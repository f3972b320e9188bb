// The server against raw sockets: requests good and bad, its own end, the limits of the machine.
#include "net/http_server.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <string>
#include <thread>
#include <vector>

#include "net/http_server_testing.h"

namespace pd::net {
namespace {

using testing::answer_ok;
using testing::answer_to;
using testing::HttpServerTest;
using testing::kGet;
using testing::RawSocket;
using namespace std::chrono_literals;

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

TEST_F(HttpServerTest, WhatNoHandlerSeesIsCounted) {
  serve(answer_ok);
  answer_to(port_, "GET /\r\n\r\n");
  answer_to(port_, "GET / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\n\r\n");
  answer_to(port_, "nothing\r\n\r\n");
  std::map<int, std::uint64_t> refused;
  on_loop([&] { refused = server_->requests_refused(); });
  EXPECT_EQ(refused, (std::map<int, std::uint64_t>{{400, 2}, {415, 1}}));
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

TEST_F(HttpServerTest, BodiesTogetherAreBounded) {
  HttpLimits limits;
  limits.bodies_bytes_max = Bytes(1000);
  limits.idle_timeout = 20ms;  // answers are read to the end of their connection
  serve(answer_ok, limits);
  const std::string head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 600\r\n\r\n";
  for (int round = 0; round < 3; ++round) {  // what was held is given back
    RawSocket first = RawSocket::to(port_);
    first.send(head + std::string(500, 'x'));
    EXPECT_TRUE(answer_to(port_, kGet).starts_with("HTTP/1.1 200 ")) << "and now it has been read";
    const std::string second = answer_to(port_, head + std::string(590, 'x'));
    EXPECT_TRUE(second.starts_with("HTTP/1.1 503 ")) << second;
    first.send(std::string(100, 'x'));
    EXPECT_NE(first.read_until("HTTP/1.1 200 OK").find("200 OK"), std::string::npos);
    {
      RawSocket gone = RawSocket::to(port_);
      gone.send(head + std::string(590, 'x'));
    }
    EXPECT_TRUE(answer_to(port_, kGet).starts_with("HTTP/1.1 200 ")) << "and that it has gone";
  }
  EXPECT_TRUE(answer_to(port_, head + std::string(600, 'x')).starts_with("HTTP/1.1 200 "));
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

TEST_F(HttpServerTest, ABodyThatNobodyWantsIsNotWaitedFor) {
  HttpLimits limits;
  limits.bodies_bytes_max = Bytes(1000);
  serve(answer_ok, limits, nullptr,
        [](const HttpRequest& head) { return head.header("authorization") == "yes"; });
  const std::string head = "POST /x HTTP/1.1\r\nHost: a\r\n";
  for (const char* rest : {"Content-Length: 5000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n",
                           "Content-Length: 5000\r\nExpect: 100-continue\r\n\r\n"}) {
    RawSocket client = RawSocket::to(port_);
    client.send(head + rest + (std::string_view(rest).contains("Expect") ? "" : "ab"));
    const std::string answer = client.read_to_end();
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 200 OK")) << answer;
    EXPECT_TRUE(answer.contains("connection: close")) << answer;
    EXPECT_TRUE(answer.ends_with("got /x ")) << answer;
    EXPECT_EQ(holdings_->body_bytes, 0u);
  }
  RawSocket client = RawSocket::to(port_);
  client.send(head + "Authorization: yes\r\nContent-Length: 4\r\n\r\nab");
  client.send("cd");
  EXPECT_TRUE(client.read_until("abcd").ends_with("got /x abcd"));
}

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

TEST_F(HttpServerTest, ServersOfOnePortShareItsLimitsAndBeginWhenTheyAreTold) {
  const auto holdings = std::make_shared<HttpHoldings>();
  const HttpServerOptions options{
      .limits = {.connections_max = 1}, .holdings = holdings, .accepting = false};
  auto one = HttpServer::create(loop_, options, answer_ok);
  auto other = HttpServer::create(loop_, options, answer_ok);
  ASSERT_TRUE(one && other);
  thread_ = std::jthread([this] { loop_.run(); });
  RawSocket early = RawSocket::to((*one)->port());
  early.send(kGet);
  on_loop([&] { EXPECT_EQ(holdings->connections, 0) << "it waits in the socket"; });
  on_loop([&] {
    (*one)->start_accepting();
    (*other)->start_accepting();
  });
  EXPECT_TRUE(early.read_until("\r\n\r\n").starts_with("HTTP/1.1 200 "));
  EXPECT_TRUE(answer_to((*other)->port(), kGet).starts_with("HTTP/1.1 503 "));
  on_loop([&] {
    (*one)->close_all();
    EXPECT_EQ(holdings->connections, 0);
  });
  EXPECT_TRUE(answer_to((*other)->port(), kGet).starts_with("HTTP/1.1 200 "));
  on_loop([&] {
    one->reset();
    other->reset();
  });
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
