#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "net/event_loop.h"
#include "net/http_client.h"
#include "net/http_server.h"

namespace pd::net {
namespace {

// Server and client on one loop: no thread, no wait but the loop's own.
class HttpPair : public testing::Test {
 protected:
  HttpServer& serve(HttpServer::Handler handler, HttpLimits limits = {}) {
    auto created = HttpServer::create(loop_, {.limits = limits}, std::move(handler));
    EXPECT_TRUE(created.has_value());
    server_ = std::move(*created);
    return *server_;
  }
  HttpCall call_of(std::string method, std::string target, std::string body = {}) const {
    HttpCall call;
    call.address = {"127.0.0.1", server_->port()};
    call.method = std::move(method);
    call.target = std::move(target);
    call.body = std::move(body);
    call.read_timeout = std::chrono::seconds(5);
    return call;
  }
  Result<HttpClient::Whole> fetch(HttpCall call) {
    Result<HttpClient::Whole> result = error(ErrorCode::kInternal, "no end");
    client_.fetch(std::move(call), [&](Result<HttpClient::Whole> whole) {
      result = std::move(whole);
      loop_.stop();
    });
    loop_.run();
    return result;
  }

  EventLoop loop_;
  std::unique_ptr<HttpServer> server_;
  HttpClient client_{loop_};
};

TEST_F(HttpPair, AnswersAWholeResponse) {
  serve([](HttpRequest request, HttpResponse response) {
    response.send(201, "text/plain", request.method + " " + request.target + " " + request.body,
                  {{"x-id", "7"}});
  });
  const auto whole = fetch(call_of("POST", "/a?b", "body"));
  ASSERT_TRUE(whole.has_value()) << whole.error().message;
  EXPECT_EQ(whole->status, 201);
  EXPECT_EQ(whole->body, "POST /a?b body");
}

TEST_F(HttpPair, StreamsChunksAsTheyAreWritten) {
  std::vector<HttpResponse> open;
  serve([&](HttpRequest, HttpResponse response) {
    response.start(200, "text/event-stream");
    response.write("one");
    open.push_back(std::move(response));
  });
  std::vector<std::string> got;
  Status outcome = error(ErrorCode::kInternal, "no end");
  HttpCallHandlers handlers;
  handlers.on_data = [&](std::string_view bytes) {
    got.emplace_back(bytes);
    if (got.size() < 3) {
      open.front().write(got.size() == 1 ? "two" : "three");
    } else {
      open.front().end();
    }
  };
  handlers.on_end = [&](Status status) {
    outcome = std::move(status);
    loop_.stop();
  };
  client_.call(call_of("GET", "/"), std::move(handlers));
  loop_.run();
  EXPECT_TRUE(outcome.has_value());
  EXPECT_EQ(got, (std::vector<std::string>{"one", "two", "three"}));
}

TEST_F(HttpPair, ReusesAKeptAliveConnection) {
  serve([](HttpRequest, HttpResponse response) { response.send(200, "text/plain", "ok"); });
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(fetch(call_of("GET", "/")).has_value());
  EXPECT_EQ(client_.connections_opened(), 1u);
  EXPECT_EQ(server_->connections(), 1);
}

TEST_F(HttpPair, TellsTheHandlerThatTheClientHasGone) {
  HttpClient::CallId call = 0;
  bool closed = false;
  std::vector<HttpResponse> open;
  serve([&](HttpRequest, HttpResponse response) {
    open.push_back(response);
    response.on_close([&] {
      closed = true;
      loop_.stop();
    });
    client_.cancel(call);
  });
  HttpCallHandlers handlers;
  handlers.on_end = [](Status) { ADD_FAILURE() << "a callback after cancel()"; };
  call = client_.call(call_of("GET", "/"), std::move(handlers));
  loop_.run();
  EXPECT_TRUE(closed);
}

TEST_F(HttpPair, CarriesLargeBodiesBothWays) {
  serve([](HttpRequest request, HttpResponse response) {
    response.send(200, "application/octet-stream", request.body);
  });
  std::string body(9'000'000, 'x');
  for (std::size_t i = 0; i < body.size(); i += 997) body[i] = static_cast<char>(i);
  const auto whole = fetch(call_of("POST", "/", body));
  ASSERT_TRUE(whole.has_value()) << whole.error().message;
  EXPECT_EQ(whole->body, body);
}

// A stream of the load test: what one client expects and has got.
struct Stream {
  std::string expected, got;
  bool ended = false;
};

TEST_F(HttpPair, FiveHundredStreamsAtOnceStayApart) {
  constexpr int kStreams = 500;
  constexpr int kPieces = 20;
  std::vector<HttpResponse> open;
  std::vector<std::string> names;
  int round = 0;
  const std::function<void()> write_round = [&] {
    for (std::size_t i = 0; i < open.size(); ++i) {
      open[i].write(names[i] + "." + std::to_string(round) + ";");
      if (round == kPieces - 1) open[i].end();
    }
    if (++round < kPieces) loop_.post(write_round);
  };
  serve([&](HttpRequest request, HttpResponse response) {
    response.start(200, "text/event-stream");
    open.push_back(std::move(response));
    names.push_back(request.target);
    if (open.size() == kStreams) write_round();  // all of them stand before the first byte
  });
  std::vector<Stream> streams(kStreams);
  int ended = 0;
  for (int i = 0; i < kStreams; ++i) {
    Stream& stream = streams[static_cast<std::size_t>(i)];
    const std::string target = "/" + std::to_string(i);
    for (int piece = 0; piece < kPieces; ++piece) {
      stream.expected += target + "." + std::to_string(piece) + ";";
    }
    HttpCallHandlers handlers;
    handlers.on_data = [&stream](std::string_view bytes) { stream.got += bytes; };
    handlers.on_end = [&](Status outcome) {
      stream.ended = outcome.has_value();
      if (++ended == kStreams) loop_.stop();
    };
    HttpCall call = call_of("GET", target);
    call.connect_timeout = std::chrono::seconds(10);
    call.read_timeout = std::chrono::seconds(10);
    client_.call(std::move(call), std::move(handlers));
  }
  loop_.run();
  for (const Stream& stream : streams) {
    EXPECT_TRUE(stream.ended);
    EXPECT_EQ(stream.got, stream.expected);
  }
  EXPECT_EQ(client_.connections_opened(), static_cast<std::uint64_t>(kStreams));
  EXPECT_EQ(client_.connections_idle(), 256);  // what the pool keeps for one address
}

TEST_F(HttpPair, ManyCallsNeedFewConnections) {
  serve([](HttpRequest, HttpResponse response) { response.send(200, "text/plain", "ok"); });
  constexpr int kCalls = 5000;
  constexpr int kAtOnce = 16;
  int started = 0;
  int ended = 0;
  std::function<void()> start_one = [&] {
    ++started;
    client_.fetch(call_of("POST", "/", "{}"), [&](Result<HttpClient::Whole> whole) {
      EXPECT_TRUE(whole.has_value());
      if (++ended == kCalls) return loop_.stop();
      if (started < kCalls) start_one();
    });
  };
  for (int i = 0; i < kAtOnce; ++i) start_one();
  loop_.run();
  EXPECT_LE(client_.connections_opened(), static_cast<std::uint64_t>(kAtOnce));
}

}  // namespace
}  // namespace pd::net
