// The driver against workers whose answers the test writes frame by frame.
#include "gateway/leg_driver.h"

#include <gtest/gtest.h>

#include <functional>

#include "legs/leg_server.h"
#include "net/http_server.h"

namespace pd::gateway {
namespace {

using namespace std::chrono_literals;
using protocol::FinishReason;
using protocol::TokensFrame;

// An instance that answers each leg as the test says.
class ScriptedWorker {
 public:
  using Reply = std::shared_ptr<legs::LegReply>;
  using Script = std::function<void(int leg, Reply reply)>;  // the 1st, 2nd ... leg
  static constexpr RequestId kRequest{1, 2};

  ScriptedWorker(net::EventLoop& loop, Script on_prefill, Script on_decode, std::uint16_t port = 0)
      : legs_({[this, on_prefill = std::move(on_prefill)](const protocol::PrefillRequest&,
                                                          legs::LegReply reply) {
                 on_prefill(++prefills_, std::make_shared<legs::LegReply>(std::move(reply)));
               },
               [this, on_decode = std::move(on_decode)](const protocol::DecodeRequest&,
                                                        legs::LegReply reply) {
                 on_decode(++decodes_, std::make_shared<legs::LegReply>(std::move(reply)));
               }}) {
    auto server = net::HttpServer::create(
        loop, {.port = port}, [this](const net::HttpRequest& request, net::HttpResponse response) {
          if (request.path() == "/pd/v1/legs") {
            ++channels_;
            channel_ = response;
            return legs_.take(request, std::move(response));
          }
          response.send(200, "application/octet-stream", protocol::encode(protocol::LeaseAnswer{}));
        });
    EXPECT_TRUE(server);
    server_ = std::move(*server);
  }
  std::string address() const { return "127.0.0.1:" + std::to_string(server_->port()); }
  std::uint16_t port() const { return server_->port(); }
  net::HttpResponse& channel() { return *channel_; }  // the one that came last
  int channels() const { return channels_; }

 private:
  legs::LegServer legs_;
  std::optional<net::HttpResponse> channel_;
  std::unique_ptr<net::HttpServer> server_;
  int channels_ = 0;
  int prefills_ = 0;
  int decodes_ = 0;
};

void say(const ScriptedWorker::Reply& reply, const std::vector<protocol::Frame>& frames) {
  for (const auto& frame : frames) reply->send(frame);
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
    know({{WorkerId(1), BootId(1), prefill.address(), Role::kPrefill, 4},
          {WorkerId(2), BootId(2), decode.address(), Role::kDecode, 0, 4}});
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

  // Whatever `has_happened` waits for, at most a few seconds.
  bool comes(const std::function<bool()>& has_happened) {
    const Time end = loop_.now() + 5s;
    while (!has_happened() && loop_.now() < end) pass(5ms);
    return has_happened();
  }
  void pass(Duration time) {
    loop_.call_at(loop_.now() + time, [this] { loop_.stop(); });
    loop_.run();
  }
  void know(std::vector<protocol::Instance> instances) {
    driver_.on_topology({.revision = ++revision_, .instances = std::move(instances)});
  }

  // Its value, as it is exposed.
  std::string metric(const std::string& name) const {
    const std::string text = metrics_.text();
    const auto at = text.find("\n" + name + " ");
    if (at == std::string::npos) return "absent";
    const auto begin = at + name.size() + 2;
    return text.substr(begin, text.find('\n', begin) - begin);
  }

  std::function<void(TokenId)> on_token_;  // of each frame, the last
  std::uint64_t revision_ = 0;
  net::EventLoop loop_;
  Metrics metrics_;
  net::HttpClient http_{loop_};
  policy::DispatcherOptions options_;
  LegDriver driver_{loop_, http_, options_, "", metrics_};
};

ScriptedWorker::Script prefill_from(std::vector<TokenId> first_of_leg) {
  return [first = std::move(first_of_leg)](int leg, const ScriptedWorker::Reply& reply) {
    const auto index = static_cast<std::uint32_t>(leg - 1);
    say(reply,
        {protocol::Accepted{}, protocol::Prefilled{"kv"}, tokens(index * 2, {first.at(index)})});
    reply->finish(protocol::Released{});
  };
}

TEST_F(LegDriverTest, TokensOfManyFramesInOneReadAllCount) {
  const ScriptedWorker prefill(loop_, prefill_from({10}), {});
  const ScriptedWorker decode(loop_, {}, [](int, const ScriptedWorker::Reply& reply) {
    say(reply, {protocol::Accepted{}, protocol::Joined{}, tokens(1, {11}), tokens(2, {12, 13}),
                tokens(4, {14}, FinishReason::kLength)});
    reply->end();
  });
  const Outcome out = run(prefill, decode);
  EXPECT_EQ(out.end.why, policy::RequestEnd::Why::kCompleted);
  EXPECT_EQ(out.ids, (std::vector<TokenId>{10, 11, 12, 13, 14}));
  EXPECT_EQ(driver_.in_flight(), 0U);
}

// What had been written and was never read is gone with the channel.
TEST_F(LegDriverTest, AChannelThatBreaksPlacesItsLegsAgainWithoutATokenLostOrDoubled) {
  const ScriptedWorker prefill(loop_, prefill_from({10, 12}), {});
  std::optional<ScriptedWorker> decode;
  ScriptedWorker::Reply kept;
  decode.emplace(loop_, ScriptedWorker::Script{}, [&](int leg, const ScriptedWorker::Reply& reply) {
    if (leg == 1) {
      kept = reply;
      return say(reply, {protocol::Accepted{}, protocol::Joined{}, tokens(1, {11})});
    }
    say(reply, {protocol::Accepted{}, protocol::Joined{}, tokens(3, {13}, FinishReason::kLength)});
    reply->end();
  });
  on_token_ = [&](TokenId id) {
    if (id == 11) decode->channel().abort();
  };
  const Outcome out = run(prefill, *decode);
  EXPECT_EQ(out.end.why, policy::RequestEnd::Why::kCompleted);
  EXPECT_EQ(out.ids, (std::vector<TokenId>{10, 11, 12, 13}));
  EXPECT_EQ(metric("pdserve_restarts_total"), "1");
}

TEST_F(LegDriverTest, ARequestThatFindsNoPlaceIsCountedAsWaiting) {
  std::string while_blocked;
  const ScriptedWorker prefill(
      loop_,
      [&](int leg, const ScriptedWorker::Reply& reply) {
        if (leg == 1) {
          loop_.call_at(loop_.now() + 50ms,
                        [&] { while_blocked = metric("pdserve_requests_waiting"); });
          return reply->finish(protocol::Rejected{protocol::RejectReason::kBusy, 100'000});
        }
        say(reply, {protocol::Accepted{}, protocol::Prefilled{"kv"},
                    tokens(0, {10}, FinishReason::kLength)});
        reply->end();
      },
      ScriptedWorker::Script{});
  const ScriptedWorker decode(loop_, {}, {});
  EXPECT_EQ(run(prefill, decode).end.why, policy::RequestEnd::Why::kCompleted);
  EXPECT_EQ(while_blocked, "1");
  loop_.call_at(loop_.now() + 5ms, [this] { loop_.stop(); });
  loop_.run();
  EXPECT_EQ(metric("pdserve_requests_waiting"), "0");
  EXPECT_EQ(metric("pdserve_restarts_total"), "0") << "busy is not broken";
}

TEST_F(LegDriverTest, GarbageOnAChannelEndsItAndNoRequest) {
  const ScriptedWorker prefill(loop_, prefill_from({10, 12}), {});
  std::optional<ScriptedWorker> decode;
  decode.emplace(loop_, ScriptedWorker::Script{}, [&](int leg, const ScriptedWorker::Reply& reply) {
    say(reply, {protocol::Accepted{}, protocol::Joined{}});
    if (leg == 1) {
      say(reply, {tokens(1, {11})});
      decode->channel().write(std::string(64, '\xff'));
      return;
    }
    say(reply, {tokens(3, {13}, FinishReason::kLength)});
    reply->end();
  });
  const Outcome out = run(prefill, *decode);
  EXPECT_EQ(out.end.why, policy::RequestEnd::Why::kCompleted);
  EXPECT_EQ(out.ids, (std::vector<TokenId>{10, 11, 12, 13}));
}

// A leg number that is not held any more, and one of an instance that it does not run on.
TEST_F(LegDriverTest, FramesOfOtherLegsChangeNothing) {
  std::optional<ScriptedWorker> prefill;
  prefill.emplace(
      loop_,
      [&](int leg, const ScriptedWorker::Reply& reply) {
        std::string bytes;
        for (const std::uint32_t attempt : {2U, 9U}) {
          protocol::append_leg(bytes, {ScriptedWorker::kRequest, attempt});
          protocol::append_frame(bytes, tokens(1, {99}));
        }
        prefill_from({10})(leg, reply);
        prefill->channel().write(bytes);
      },
      ScriptedWorker::Script{});
  const ScriptedWorker decode(loop_, {}, [&](int, const ScriptedWorker::Reply& reply) {
    std::string bytes;
    protocol::append_leg(bytes, {ScriptedWorker::kRequest, 2});
    protocol::append_frame(bytes, tokens(1, {98}));
    prefill->channel().write(bytes);
    say(reply, {protocol::Accepted{}, protocol::Joined{}});
    loop_.call_at(loop_.now() + 20ms, [reply] {
      say(reply, {tokens(1, {11}, FinishReason::kLength)});
      reply->end();
    });
  });
  const Outcome out = run(*prefill, decode);
  EXPECT_EQ(out.end.why, policy::RequestEnd::Why::kCompleted);
  EXPECT_EQ(out.ids, (std::vector<TokenId>{10, 11}));
}

// P hears from D that it may let go, and D may be done before P has said so.
TEST_F(LegDriverTest, APrefillWhoseKvWasPulledEndsByItselfAndIsNotCancelled) {
  ScriptedWorker::Reply held;
  bool cancelled = false;
  const ScriptedWorker prefill(
      loop_,
      [&](int, const ScriptedWorker::Reply& reply) {
        reply->on_close([&cancelled] { cancelled = true; });
        say(reply, {protocol::Accepted{}, protocol::Prefilled{"kv"}, tokens(0, {10})});
        held = reply;
      },
      {});
  const ScriptedWorker decode(loop_, {}, [](int, const ScriptedWorker::Reply& reply) {
    say(reply, {protocol::Accepted{}, protocol::Joined{}, tokens(1, {11}, FinishReason::kLength)});
    reply->end();
  });
  EXPECT_EQ(run(prefill, decode).end.why, policy::RequestEnd::Why::kCompleted);
  EXPECT_TRUE(held->open());
  held->finish(protocol::Released{});
  loop_.call_at(loop_.now() + 20ms, [this] { loop_.stop(); });
  loop_.run();
  EXPECT_FALSE(cancelled);
  EXPECT_EQ(http_.connections_opened(), 2U);
}

TEST_F(LegDriverTest, ACancelledRequestGivesUpItsLegs) {
  int given_up = 0;
  const auto on_close = [&] {
    if (++given_up == 2) loop_.stop();
  };
  const ScriptedWorker prefill(
      loop_,
      [&](int, const ScriptedWorker::Reply& reply) {
        reply->on_close([reply, on_close] { on_close(); });
        say(reply, {protocol::Accepted{}, protocol::Prefilled{"kv"}, tokens(0, {10})});
      },
      {});
  const ScriptedWorker decode(loop_, {}, [&](int, const ScriptedWorker::Reply& reply) {
    reply->on_close([reply, on_close] { on_close(); });
    say(reply, {protocol::Accepted{}});  // it pulls
    driver_.cancel(ScriptedWorker::kRequest);
  });
  EXPECT_EQ(run(prefill, decode).end.why, policy::RequestEnd::Why::kCancelled);
  loop_.run();
  EXPECT_EQ(given_up, 2);
}

// Tokens alone make no decision due, but a gap among them does: at once, not with the next timer.
TEST_F(LegDriverTest, AGapInTheTokensPlacesTheRequestAgainAtOnce) {
  const ScriptedWorker prefill(loop_, prefill_from({10, 12}), {});
  ScriptedWorker::Reply kept;
  const ScriptedWorker decode(loop_, {}, [&kept](int leg, const ScriptedWorker::Reply& reply) {
    if (leg == 1) {
      say(reply, {protocol::Accepted{}, protocol::Joined{}, tokens(1, {11})});
      kept = reply;
      return;
    }
    say(reply, {protocol::Accepted{}, protocol::Joined{}, tokens(3, {13}, FinishReason::kLength)});
    reply->end();
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

TEST_F(LegDriverTest, ItCanServeWithSomebodyWhoPrefillsAndSomebodyWhoDecodes) {
  const protocol::Instance p{WorkerId(1), BootId(1), "127.0.0.1:1", Role::kPrefill, 4};
  const protocol::Instance d{WorkerId(2), BootId(2), "127.0.0.1:2", Role::kDecode, 0, 4};
  const protocol::Instance both{WorkerId(3), BootId(3), "127.0.0.1:3", Role::kBoth, 4, 4};
  const protocol::Instance standby{WorkerId(4), BootId(4), "127.0.0.1:4", Role::kNone};
  const auto can_serve_with = [this](std::vector<protocol::Instance> instances) {
    know(std::move(instances));
    return driver_.can_serve();
  };
  EXPECT_FALSE(driver_.can_serve());
  EXPECT_TRUE(can_serve_with({p, d}));
  EXPECT_TRUE(can_serve_with({both}));
  EXPECT_FALSE(can_serve_with({p, standby}));
  EXPECT_TRUE(driver_.knows_instances());
  EXPECT_FALSE(can_serve_with({d}));
  EXPECT_FALSE(can_serve_with({}));
  EXPECT_FALSE(driver_.knows_instances());
  protocol::Instance draining = d;
  draining.admits = false;
  EXPECT_FALSE(can_serve_with({p, draining}));
}

// Nobody sends to a gateway that says it cannot serve: it looks for its instances by itself.
TEST_F(LegDriverTest, AnIdleDriverNoticesThatItsOnlyInstanceDiesAndThatItIsBack) {
  std::optional<ScriptedWorker> prefill;
  prefill.emplace(loop_, prefill_from({10}), ScriptedWorker::Script{});
  const auto decode_one = [](int, const ScriptedWorker::Reply& reply) {
    say(reply, {protocol::Accepted{}, protocol::Joined{}, tokens(1, {11}, FinishReason::kLength)});
    reply->end();
  };
  const ScriptedWorker decode(loop_, {}, decode_one);
  EXPECT_EQ(run(*prefill, decode).ids, (std::vector<TokenId>{10, 11}));
  EXPECT_TRUE(driver_.can_serve());
  const std::uint16_t port = prefill->port();
  prefill.reset();
  EXPECT_TRUE(comes([this] { return !driver_.can_serve(); }));
  EXPECT_TRUE(driver_.knows_instances());
  prefill.emplace(loop_, prefill_from({10}), ScriptedWorker::Script{}, port);
  EXPECT_TRUE(comes([this] { return driver_.can_serve(); }));
  EXPECT_EQ(prefill->channels(), 1);
  EXPECT_EQ(run(*prefill, decode).ids, (std::vector<TokenId>{10, 11}));
  EXPECT_EQ(prefill->channels(), 1) << "the leg has used the one that stood";
  EXPECT_EQ(metric("pdserve_leg_faults_total"), "0");
}

TEST_F(LegDriverTest, AnInstanceThatLeftIsNotLookedFor) {
  std::optional<ScriptedWorker> prefill;
  prefill.emplace(loop_, prefill_from({10}), ScriptedWorker::Script{});
  const ScriptedWorker decode(loop_, {}, [](int, const ScriptedWorker::Reply& reply) {
    say(reply, {protocol::Accepted{}, protocol::Joined{}, tokens(1, {11}, FinishReason::kLength)});
    reply->end();
  });
  run(*prefill, decode);
  const std::uint16_t port = prefill->port();
  prefill.reset();
  EXPECT_TRUE(comes([this] { return !driver_.can_serve(); }));
  know({{WorkerId(2), BootId(2), decode.address(), Role::kDecode, 0, 4}});
  prefill.emplace(loop_, prefill_from({10}), ScriptedWorker::Script{}, port);
  pass(1500ms);
  EXPECT_EQ(prefill->channels(), 0);
}

}  // namespace
}  // namespace pd::gateway
