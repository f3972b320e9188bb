// The driver against workers whose answers the test writes frame by frame.
#include "gateway/leg_driver.h"

#include <gtest/gtest.h>

#include <functional>

#include "net/http_server.h"

namespace pd::gateway {
namespace {

using namespace std::chrono_literals;
using protocol::FinishReason;
using protocol::TokensFrame;

// Answers both verbs on one port. Tokens come on the legs' own streams unless it is made with one
// for all.
class ScriptedWorker {
 public:
  using Script = std::function<void(int leg, net::HttpResponse response)>;  // the 1st, 2nd ... leg
  struct TokenStream {
    std::optional<net::HttpResponse> response;
    void say(std::uint32_t attempt, const protocol::Frame& frame) {
      std::string bytes;
      protocol::append_leg(bytes, {kRequest, attempt});
      protocol::append_frame(bytes, frame);
      response->write(bytes);
    }
  };
  static constexpr RequestId kRequest{1, 2};

  ScriptedWorker(net::EventLoop& loop, Script on_prefill, Script on_decode,
                 TokenStream* token_stream = nullptr) {
    auto server = net::HttpServer::create(
        loop, {},
        [this, token_stream, on_prefill = std::move(on_prefill), on_decode = std::move(on_decode)](
            const net::HttpRequest& request, net::HttpResponse response) {
          if (request.path() == "/pd/v1/tokens") {
            if (token_stream == nullptr) return response.send(404, "text/plain", "");
            response.start(200, "application/octet-stream");
            token_stream->response = response;
            return;
          }
          if (request.path() == "/pd/v1/renew")
            return response.send(200, "application/octet-stream",
                                 protocol::encode(protocol::LeaseAnswer{}));
          response.start(200, "application/octet-stream");
          request.path() == "/pd/v1/prefill" ? on_prefill(++prefills_, response)
                                             : on_decode(++decodes_, response);
        });
    EXPECT_TRUE(server);
    server_ = std::move(*server);
  }
  std::string address() const { return "127.0.0.1:" + std::to_string(server_->port()); }

 private:
  std::unique_ptr<net::HttpServer> server_;
  int prefills_ = 0;
  int decodes_ = 0;
};

void say(net::HttpResponse& response, const std::vector<protocol::Frame>& frames) {
  std::string bytes;
  for (const auto& frame : frames) protocol::append_frame(bytes, frame);
  response.write(bytes);
}

TokensFrame tokens(std::uint32_t index, std::vector<TokenId> ids,
                   FinishReason finish = FinishReason::kNone) {
  TokensFrame out;
  out.index = index;
  out.ids = std::move(ids);
  out.finish = finish;
  return out;
}

class LegDriverTest : public ::testing::Test {
 protected:
  struct Outcome {
    std::vector<TokenId> ids;
    policy::RequestEnd end;
    Duration took{0};
  };

  // Runs one request on one P and one D.
  Outcome run(const ScriptedWorker& prefill, const ScriptedWorker& decode) {
    driver_.on_topology(
        {.revision = 1,
         .instances = {{WorkerId(1), BootId(1), prefill.address(), Role::kPrefill, 4},
                       {WorkerId(2), BootId(2), decode.address(), Role::kDecode, 0, 4}}});
    Job job;
    job.id = ScriptedWorker::kRequest;
    job.prompt = std::make_shared<const std::vector<TokenId>>(std::vector<TokenId>{7, 8, 9});
    const Time start = loop_.now();
    job.deadlines = {start + 5s, start + 5s};
    Outcome out;
    JobObserver observer;
    observer.on_tokens = [&](const TokensFrame& frame) {
      out.ids.insert(out.ids.end(), frame.ids.begin(), frame.ids.end());
      if (on_token_) on_token_(frame.ids.back());
    };
    observer.on_prefilled = [](const protocol::Prefilled&) {};
    observer.on_end = [&](const policy::Finish& finish) {
      out.end = finish.end;
      loop_.stop();
    };
    driver_.start(std::move(job), std::move(observer));
    loop_.run();
    out.took = loop_.now() - start;
    return out;
  }

  std::function<void(TokenId)> on_token_;  // of each frame, the last
  net::EventLoop loop_;
  Metrics metrics_;
  net::HttpClient http_{loop_};
  policy::DispatcherOptions options_;
  LegDriver driver_{loop_, http_, options_, "", metrics_};
};

ScriptedWorker::Script prefill_from(std::vector<TokenId> first_of_leg) {
  return [first = std::move(first_of_leg)](int leg, net::HttpResponse response) {
    const auto index = static_cast<std::uint32_t>(leg - 1);
    say(response, {protocol::Accepted{}, protocol::Prefilled{"kv"},
                   tokens(index * 2, {first.at(index)}), protocol::Released{}});
    response.end();
  };
}

TEST_F(LegDriverTest, TokensOfManyFramesInOneReadAllCount) {
  const ScriptedWorker prefill(loop_, prefill_from({10}), {});
  const ScriptedWorker decode(loop_, {}, [](int, net::HttpResponse response) {
    say(response, {protocol::Accepted{}, protocol::Joined{}, tokens(1, {11}), tokens(2, {12, 13}),
                   tokens(4, {14}, FinishReason::kLength)});
    response.end();
  });
  const Outcome out = run(prefill, decode);
  EXPECT_EQ(out.end.why, policy::RequestEnd::Why::kCompleted);
  EXPECT_EQ(out.ids, (std::vector<TokenId>{10, 11, 12, 13, 14}));
  EXPECT_EQ(driver_.in_flight(), 0U);
}

class TokenStreamTest : public LegDriverTest {
 protected:
  // On the second leg's streams; on the fourth, after a fault, everything on its own.
  Outcome run_with(ScriptedWorker::Script first_decode) {
    const ScriptedWorker prefill(loop_, prefill_from({10, 14}), {});
    const ScriptedWorker decode(
        loop_, {},
        [&first_decode](int leg, net::HttpResponse response) {
          if (leg == 1) return first_decode(leg, std::move(response));
          say(response,
              {protocol::Accepted{}, protocol::Joined{}, tokens(3, {15}, FinishReason::kLength)});
          response.end();
        },
        &stream_);
    // The stream stands before the request comes.
    driver_.on_topology(
        {.revision = 1,
         .instances = {{WorkerId(1), BootId(1), prefill.address(), Role::kPrefill, 4},
                       {WorkerId(2), BootId(2), decode.address(), Role::kDecode, 0, 4}}});
    loop_.call_at(loop_.now() + 30ms, [this] { loop_.stop(); });
    loop_.run();
    EXPECT_TRUE(stream_.response);
    return run(prefill, decode);
  }
  void after(Duration pause, std::function<void()> work) {
    loop_.call_at(loop_.now() + pause, std::move(work));
  }
  ScriptedWorker::TokenStream stream_;
  const std::vector<TokenId> expected_{10, 11, 12, 13};
};

TEST_F(TokenStreamTest, TokensComeOnItAndTheEndOnTheLegsOwn) {
  const Outcome out = run_with([this](int, net::HttpResponse response) {
    say(response, {protocol::Accepted{}, protocol::Joined{}});
    stream_.say(2, tokens(1, {11}));
    stream_.say(2, tokens(2, {12}));
    stream_.say(9, tokens(1, {99}));  // of a leg that was given up long ago
    after(20ms, [response]() mutable {
      say(response, {tokens(3, {13}, FinishReason::kLength)});
      response.end();
    });
  });
  EXPECT_EQ(out.end.why, policy::RequestEnd::Why::kCompleted);
  EXPECT_EQ(out.ids, expected_);
}

TEST_F(TokenStreamTest, AnEndThatIsReadBeforeItsTokensWaitsForThem) {
  const Outcome out = run_with([this](int, net::HttpResponse response) {
    say(response,
        {protocol::Accepted{}, protocol::Joined{}, tokens(3, {13}, FinishReason::kLength)});
    response.end();
    after(20ms, [this] { stream_.say(2, tokens(1, {11})); });
    after(40ms, [this] { stream_.say(2, tokens(2, {12})); });
  });
  EXPECT_EQ(out.end.why, policy::RequestEnd::Why::kCompleted);
  EXPECT_EQ(out.ids, expected_);
  EXPECT_LT(out.took, 500ms);
}

TEST_F(TokenStreamTest, TokensThatAreLostWithItPlaceTheRequestAgain) {
  const Outcome out = run_with([this](int, net::HttpResponse response) {
    stream_.say(2, tokens(1, {11}));
    after(20ms, [this, response]() mutable {
      stream_.response->abort();
      // What D had written to it is gone; it goes on with the leg's own stream.
      say(response,
          {protocol::Accepted{}, protocol::Joined{}, tokens(9, {19}, FinishReason::kLength)});
      response.end();
    });
  });
  EXPECT_EQ(out.end.why, policy::RequestEnd::Why::kCompleted);
  EXPECT_EQ(out.ids, (std::vector<TokenId>{10, 11, 14, 15}));
}

TEST_F(TokenStreamTest, GarbageOnItEndsItAndNoRequest) {
  const Outcome out = run_with([this](int, net::HttpResponse response) {
    stream_.response->write(std::string(25, '\xff'));
    after(20ms, [response]() mutable {
      say(response, {protocol::Accepted{}, protocol::Joined{}, tokens(1, {11, 12}),
                     tokens(3, {13}, FinishReason::kLength)});
      response.end();
    });
  });
  EXPECT_EQ(out.end.why, policy::RequestEnd::Why::kCompleted);
  EXPECT_EQ(out.ids, expected_);
}

// P hears from D that it may let go, and D may be done before P has said so.
TEST_F(LegDriverTest, APrefillWhoseKvWasPulledEndsByItselfAndKeepsItsConnection) {
  net::HttpResponse held{nullptr};
  bool cut = false;
  const ScriptedWorker prefill(
      loop_,
      [&](int, net::HttpResponse response) {
        response.on_close([&cut] { cut = true; });
        say(response, {protocol::Accepted{}, protocol::Prefilled{"kv"}, tokens(0, {10})});
        held = std::move(response);
      },
      {});
  const ScriptedWorker decode(loop_, {}, [](int, net::HttpResponse response) {
    say(response,
        {protocol::Accepted{}, protocol::Joined{}, tokens(1, {11}, FinishReason::kLength)});
    response.end();
  });
  for (int i = 0; i < 2; ++i) {
    const Outcome out = run(prefill, decode);
    EXPECT_EQ(out.end.why, policy::RequestEnd::Why::kCompleted);
    say(held, {protocol::Released{}});
    held.end();
    loop_.call_at(loop_.now() + 20ms, [this] { loop_.stop(); });
    loop_.run();
    EXPECT_EQ(http_.calls_under_way(), 0);
  }
  EXPECT_FALSE(cut);
  EXPECT_EQ(http_.connections_opened(), 2U);
}

TEST_F(LegDriverTest, APrefillThatNeverEndsItsStreamIsCutInTheEnd) {
  net::HttpResponse held{nullptr};
  const ScriptedWorker prefill(
      loop_,
      [&](int, net::HttpResponse response) {
        response.on_close([this] { loop_.stop(); });
        say(response, {protocol::Accepted{}, protocol::Prefilled{"kv"}, tokens(0, {10})});
        held = std::move(response);
      },
      {});
  const ScriptedWorker decode(loop_, {}, [](int, net::HttpResponse response) {
    say(response,
        {protocol::Accepted{}, protocol::Joined{}, tokens(1, {11}, FinishReason::kLength)});
    response.end();
  });
  EXPECT_EQ(run(prefill, decode).end.why, policy::RequestEnd::Why::kCompleted);
  EXPECT_EQ(http_.calls_under_way(), 1);
  loop_.run();  // until P sees its connection go
  EXPECT_EQ(http_.calls_under_way(), 0);
}

// Tokens alone make no decision due, but a gap among them does: at once, not with the next timer.
TEST_F(LegDriverTest, AGapInTheTokensPlacesTheRequestAgainAtOnce) {
  const ScriptedWorker prefill(loop_, prefill_from({10, 12}), {});
  net::HttpResponse kept{nullptr};
  const ScriptedWorker decode(loop_, {}, [&kept](int leg, net::HttpResponse response) {
    if (leg == 1) {
      say(response, {protocol::Accepted{}, protocol::Joined{}, tokens(1, {11})});
      kept = std::move(response);
      return;
    }
    say(response,
        {protocol::Accepted{}, protocol::Joined{}, tokens(3, {13}, FinishReason::kLength)});
    response.end();
  });
  // In a read of its own; D goes on as if nothing were wrong.
  on_token_ = [&kept](TokenId id) {
    if (id == 11) say(kept, {tokens(3, {99})});
  };
  const Outcome out = run(prefill, decode);
  EXPECT_EQ(out.end.why, policy::RequestEnd::Why::kCompleted);
  EXPECT_EQ(out.ids, (std::vector<TokenId>{10, 11, 12, 13}));
  EXPECT_LT(out.took, options_.links.renew_every / 2);
}

}  // namespace
}  // namespace pd::gateway
