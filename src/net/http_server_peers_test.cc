// The server and clients that go, stay half, vanish or read slowly.
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <string>

#include "net/http_server_testing.h"

namespace pd::net {
namespace {

using testing::answer_ok;
using testing::answer_to;
using testing::kGet;
using testing::RawSocket;
using namespace std::chrono_literals;

using HttpServerPeers = testing::HttpServerTest;

// --- clients that go -----------------------------------------------------------------------------

TEST_F(HttpServerPeers, AClosedConnectionIsNoticedBeforeTheResponseBegins) {
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

TEST_F(HttpServerPeers, AClosedConnectionIsNoticedWhileAStreamIsSilent) {
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

TEST_F(HttpServerPeers, AResetIsNoticedAtEachStage) {
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

TEST_F(HttpServerPeers, AClientThatHasOnlyFinishedSendingGetsItsWholeResponse) {
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

TEST_F(HttpServerPeers, AHalfClosedClientsStreamGoesOnCorrectly) {
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

TEST_F(HttpServerPeers, PipelinedRequestsOfAHalfClosedClientAreAllAnswered) {
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

TEST_F(HttpServerPeers, ACallbackThatHoldsItsResponseGoesAfterTheEnd) {
  const auto held = std::make_shared<int>(0);
  serve([&](HttpRequest, HttpResponse response) {
    response.on_close([held, response] { ADD_FAILURE() << "the peer is there"; });
    response.on_drained([held, response] {});
    response.send(200, "text/plain", "done");
  });
  RawSocket client = RawSocket::to(port_);
  for (int i = 0; i < 3; ++i) {
    client.send(kGet);
    EXPECT_TRUE(client.read_until("done").ends_with("done"));
  }
  std::int64_t holders = 0;
  const Time started = SteadyTime::now();
  do on_loop([&] { holders = held.use_count(); });
  while (holders > 1 && SteadyTime::now() - started < 5s);
  EXPECT_EQ(holders, 1) << "only this test";
}

TEST_F(HttpServerPeers, OnCloseRegisteredTooLateIsStillCalled) {
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

TEST_F(HttpServerPeers, AReaderSlowerThanItsBufferIsCut) {
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

// Many that are each within their limit: what they hold together is bounded, and given back.
TEST_F(HttpServerPeers, SlowReadersTogetherAreBounded) {
  HttpLimits limits;
  limits.write_buffer_max = Bytes(1024 * 1024);
  limits.write_buffers_max = Bytes(2 * 1024 * 1024);
  serve_and_keep(limits);
  constexpr int kReaders = 8;
  std::vector<RawSocket> readers(kReaders);
  for (RawSocket& reader : readers) {
    reader.set_receive_buffer(4096);
    reader.connect(port_);
    reader.send(kGet);
    arrival();
  }
  on_loop([&] {
    for (HttpResponse& response : kept_) response.start(200, "text/plain");
  });
  const std::string piece(16 * 1024, 'x');
  std::size_t together = 0;
  const auto open = [this] { return std::ranges::count_if(kept_, &HttpResponse::open); };
  for (int i = 0; i < 600; ++i) {  // 9.6 MB each: more than the socket buffers hold
    on_loop([&] {
      for (HttpResponse& response : kept_) response.write(piece);
      together = std::max<std::size_t>(together, holdings_->unsent_bytes);
    });
  }
  EXPECT_LT(together, 2 * 1024 * 1024 + kReaders * (64 + 2 * 16) * 1024);
  on_loop([&] { EXPECT_LT(open(), kReaders); });
  readers.clear();
  bool all_gone = false;
  const Time started = SteadyTime::now();
  while (!all_gone && SteadyTime::now() - started < 5s)
    on_loop([&] { all_gone = server_->connections() == 0; });
  EXPECT_TRUE(all_gone);
  EXPECT_EQ(holdings_->unsent_bytes, 0U);
}

// The same for answers that are there at once.
TEST_F(HttpServerPeers, WholeAnswersOfSlowReadersTogetherAreBounded) {
  constexpr std::size_t kAnswer = 8 * 1024 * 1024;  // more than the sockets' buffers hold
  HttpLimits limits;
  limits.write_buffer_max = Bytes(1024 * 1024);
  limits.write_buffers_max = Bytes(2 * kAnswer);
  serve_and_keep(limits);
  std::vector<RawSocket> readers(8);
  for (RawSocket& reader : readers) {
    reader.set_receive_buffer(4096);
    reader.connect(port_);
    reader.send(kGet);
    arrival();
    on_loop([&] { kept_.back().send(200, "text/plain", std::string(kAnswer, 'x')); });
  }
  std::size_t together = SIZE_MAX;
  int left = 0;
  on_loop([&] {
    together = holdings_->unsent_bytes;
    left = server_->connections();
  });
  // How much the sockets hold is the kernel's choice, and with it how many readers are left.
  EXPECT_LE(together, 3 * kAnswer);
  EXPECT_GE(left, 2);
  EXPECT_LT(left, 8);
}

TEST_F(HttpServerPeers, ABurstInOneTurnIsNotASlowReader) {
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

TEST_F(HttpServerPeers, AReaderThatTakesNothingOfAWholeResponseIsCutInTime) {
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

TEST_F(HttpServerPeers, AClientWhoseMachineVanishedIsNoticed) {
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

TEST_F(HttpServerPeers, OnDrainedTellsWhenTheReaderHasCaughtUp) {
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

}  // namespace
}  // namespace pd::net
