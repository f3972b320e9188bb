// Both sides of a channel over real sockets, on one loop.
#include <gtest/gtest.h>

#include <optional>
#include <utility>
#include <vector>

#include "legs/leg_channel.h"
#include "legs/leg_server.h"

namespace pd::legs {
namespace {

using namespace std::chrono_literals;
using protocol::AttemptId;

protocol::PrefillRequest prefill(std::uint32_t attempt, std::size_t tokens = 3) {
  protocol::PrefillRequest out;
  out.id = {{1, 2}, attempt};
  out.prompt.assign(tokens, 7);
  return out;
}

protocol::DecodeRequest decode(std::uint32_t attempt) {
  protocol::DecodeRequest out;
  out.id = {{1, 2}, attempt};
  out.prompt_tokens = 3;
  out.emitted = {9};
  return out;
}

class LegsTest : public ::testing::Test {
 protected:
  LegsTest() { open_server(0); }
  void open_server(std::uint16_t port) {
    auto server = net::HttpServer::create(
        loop_, {.port = port}, [this](const net::HttpRequest& request, net::HttpResponse response) {
          if (answer_instead_) return (*answer_instead_)(std::move(response));
          legs_.take(request, std::move(response));
        });
    ASSERT_TRUE(server) << server.error().message;
    server_ = std::move(*server);
  }
  LegChannel channel_to(std::uint16_t port) {
    return {http_,
            {"127.0.0.1", port},
            "secret",
            {.on_frame =
                 [this](const protocol::LegFrame& frame) {
                   frames_.push_back(frame);
                   if (frames_.size() == frames_wanted_) loop_.stop();
                 },
             .on_read = [this] { ++reads_; },
             .on_open =
                 [this] {
                   ++opened_;
                   if (stop_when_open_) loop_.stop();
                 },
             .on_lost =
                 [this](const Error& error) {
                   lost_ = error;
                   loop_.stop();
                 }}};
  }
  // Until so many frames in all have come; or the channel is lost, or time is up.
  void run(std::size_t frames_wanted) {
    frames_wanted_ = frames_wanted;
    const auto limit = loop_.call_at(loop_.now() + 5s, [this] {
      ADD_FAILURE() << "nothing came";
      loop_.stop();
    });
    loop_.run();
    loop_.cancel(limit);
  }
  void run_for(Duration time) {
    loop_.call_at(loop_.now() + time, [this] { loop_.stop(); });
    loop_.run();
  }

  net::EventLoop loop_;
  net::HttpClient http_{loop_};
  std::vector<std::pair<protocol::PrefillRequest, LegReply>> prefills_;
  std::vector<std::pair<protocol::DecodeRequest, LegReply>> decodes_;
  std::function<void()> on_leg_;
  LegServer legs_{{[this](protocol::PrefillRequest request, LegReply reply) {
                     prefills_.emplace_back(std::move(request), std::move(reply));
                     if (on_leg_) on_leg_();
                   },
                   [this](protocol::DecodeRequest request, LegReply reply) {
                     decodes_.emplace_back(std::move(request), std::move(reply));
                     if (on_leg_) on_leg_();
                   }}};
  std::optional<std::function<void(net::HttpResponse)>> answer_instead_;
  std::unique_ptr<net::HttpServer> server_;
  std::vector<protocol::LegFrame> frames_;
  std::size_t frames_wanted_ = 0;
  int reads_ = 0;
  int opened_ = 0;
  bool stop_when_open_ = false;
  std::optional<Error> lost_;
};

TEST_F(LegsTest, LegsOfBothKindsShareOneConnection) {
  LegChannel channel = channel_to(server_->port());
  channel.start(prefill(1));
  channel.start(decode(2));
  on_leg_ = [this] {
    if (prefills_.size() + decodes_.size() == 2) loop_.stop();
  };
  run(0);
  ASSERT_EQ(prefills_.size(), 1U);
  ASSERT_EQ(decodes_.size(), 1U);
  EXPECT_EQ(prefills_[0].first, prefill(1));
  EXPECT_EQ(decodes_[0].first, decode(2));
  decodes_[0].second.send(protocol::Accepted{});
  prefills_[0].second.send(protocol::Accepted{});
  prefills_[0].second.finish(protocol::Released{});
  run(3);
  ASSERT_EQ(frames_.size(), 3U);
  EXPECT_EQ(frames_[0].leg, decode(2).id);
  EXPECT_EQ(frames_[1].leg, prefill(1).id);
  EXPECT_EQ(frames_[2].frame, protocol::Frame(protocol::Released{}));
  EXPECT_EQ(http_.connections_opened(), 1U);
}

TEST_F(LegsTest, AnInstanceSaysWhatIsOfNoLegToWhoeverAskedIt) {
  std::optional<LegPeer> peer;
  {
    LegChannel channel = channel_to(server_->port());
    channel.start(prefill(1));
    channel.start(prefill(2));
    on_leg_ = [this] {
      if (prefills_.size() == 2) loop_.stop();
    };
    run(0);
    peer = prefills_[0].second.peer();
    EXPECT_EQ(*peer, prefills_[1].second.peer()) << "both came from there";
    for (auto& [request, reply] : prefills_) reply.finish(protocol::Rejected{});
    prefills_.clear();
    run(2);
    peer->say(protocol::Vacant{});  // none of its legs runs any more
    run(3);
    EXPECT_EQ(frames_[2].leg, protocol::kNoLeg);
    EXPECT_EQ(frames_[2].frame, protocol::Frame(protocol::Vacant{}));
    LegChannel other = channel_to(server_->port());
    other.start(prefill(3));
    on_leg_ = [this] { loop_.stop(); };
    run(0);
    EXPECT_FALSE(*peer == prefills_[0].second.peer());
  }
  run_for(20ms);
  peer->say(protocol::Vacant{});  // into the void
}

TEST_F(LegsTest, FramesOfOneTurnComeInOneRead) {
  LegChannel channel = channel_to(server_->port());
  channel.start(prefill(1));
  channel.start(prefill(2));
  on_leg_ = [this] {
    if (prefills_.size() < 2) return;
    for (int i = 0; i < 50; ++i) {
      for (auto& [request, reply] : prefills_) reply.send(protocol::Accepted{});
    }
  };
  run(100);
  run_for(0ms);
  EXPECT_EQ(reads_, 1);
}

TEST_F(LegsTest, ACancelledLegIsGivenUpAndSaysNothingMore) {
  LegChannel channel = channel_to(server_->port());
  channel.start(prefill(1));
  channel.start(prefill(2));
  int given_up = 0;
  on_leg_ = [&] {
    prefills_.back().second.on_close([&, attempt = prefills_.back().first.id.attempt] {
      EXPECT_EQ(attempt, 1U);
      ++given_up;
      prefills_[0].second.send(protocol::Accepted{});  // to nobody
      prefills_[1].second.send(protocol::Evicted{});
    });
    if (prefills_.size() == 2) channel.cancel(prefill(1).id);
  };
  run(1);
  EXPECT_EQ(given_up, 1);
  EXPECT_FALSE(prefills_[0].second.open());
  ASSERT_EQ(frames_.size(), 1U);
  EXPECT_EQ(frames_[0].leg, prefill(2).id);
  channel.cancel(prefill(1).id);  // again, and one that never was
  channel.cancel({{8, 9}, 1});
  prefills_[1].second.send(protocol::Evicted{});
  run(2);
  EXPECT_EQ(given_up, 1);
}

TEST_F(LegsTest, AChannelThatGoesGivesUpAllItsLegsAndNoOthers) {
  std::optional<LegChannel> first;
  first.emplace(http_, net::HttpAddress{"127.0.0.1", server_->port()}, "", LegChannelObserver{});
  LegChannel second = channel_to(server_->port());
  first->start(prefill(1));
  first->start(decode(2));
  second.start(prefill(3));
  int given_up = 0;
  on_leg_ = [&] {
    auto count = [&] {
      if (++given_up == 2) loop_.stop();
    };
    if (!prefills_.empty()) prefills_.back().second.on_close(count);
    if (!decodes_.empty()) decodes_.back().second.on_close(count);
    if (prefills_.size() + decodes_.size() == 3) first.reset();
  };
  run(0);
  EXPECT_EQ(given_up, 2);
  for (const auto& [request, reply] : prefills_) EXPECT_EQ(reply.open(), request.id.attempt == 3);
}

TEST_F(LegsTest, AnInstanceThatDiesIsReportedAndItsSuccessorIsConnectedTo) {
  const std::uint16_t port = server_->port();
  LegChannel channel = channel_to(port);
  channel.start(prefill(1));
  on_leg_ = [this] { server_.reset(); };
  run(0);
  ASSERT_TRUE(lost_);
  EXPECT_EQ(lost_->code, ErrorCode::kCancelled);
  lost_.reset();
  open_server(port);
  on_leg_ = [this] { prefills_.back().second.finish(protocol::Evicted{}); };
  channel.start(prefill(2));
  run(1);
  EXPECT_FALSE(lost_);
  ASSERT_EQ(frames_.size(), 1U);
  EXPECT_EQ(frames_[0].leg.attempt, 2U);
}

TEST_F(LegsTest, AChannelIsOpenedWithoutALegAndSaysWhetherItIsLost) {
  const std::uint16_t port = server_->port();
  LegChannel channel = channel_to(port);
  EXPECT_FALSE(channel.lost()) << "nobody has asked yet";
  server_.reset();
  channel.open();
  run(0);
  EXPECT_TRUE(lost_);
  EXPECT_TRUE(channel.lost());
  open_server(port);
  stop_when_open_ = true;
  channel.open();
  channel.open();  // once is enough
  EXPECT_TRUE(channel.lost()) << "it is being opened";
  run(0);
  EXPECT_FALSE(channel.lost());
  channel.open();
  stop_when_open_ = false;
  on_leg_ = [this] { prefills_.back().second.finish(protocol::Evicted{}); };
  channel.start(prefill(1));
  run(1);
  EXPECT_EQ(opened_, 1);
  EXPECT_EQ(http_.connections_opened(), 2U) << "refused, then taken";
}

TEST_F(LegsTest, NobodyListens) {
  const std::uint16_t port = server_->port();
  server_.reset();
  LegChannel channel = channel_to(port);
  channel.start(prefill(1));
  run(0);
  ASSERT_TRUE(lost_);
  EXPECT_EQ(lost_->code, ErrorCode::kUnavailable);
}

TEST_F(LegsTest, AServerThatSpeaksSomethingElseIsNamedIncompatible) {
  answer_instead_ = [](net::HttpResponse response) { response.send(404, "text/plain", "what?"); };
  LegChannel channel = channel_to(server_->port());
  channel.start(prefill(1));
  run(0);
  ASSERT_TRUE(lost_);
  EXPECT_EQ(lost_->code, ErrorCode::kIncompatible);
  EXPECT_NE(lost_->message.find("404"), std::string::npos);
}

TEST_F(LegsTest, BytesThatAreNoFramesLoseTheChannel) {
  std::optional<net::HttpResponse> held;
  answer_instead_ = [&held](net::HttpResponse response) {
    response.upgrade(protocol::kLegProtocol, [](std::string_view) {});
    response.write(std::string(64, '\xff'));
    held = std::move(response);
  };
  LegChannel channel = channel_to(server_->port());
  channel.start(prefill(1));
  run(0);
  ASSERT_TRUE(lost_);
  EXPECT_EQ(lost_->code, ErrorCode::kCorrupt);
  run_for(10ms);
  EXPECT_FALSE(held->open());
}

TEST_F(LegsTest, ALegThatIsBegunTwiceOrIsNoCommandClosesTheChannel) {
  LegChannel channel = channel_to(server_->port());
  channel.start(prefill(1));
  channel.start(prefill(1));
  bool given_up = false;
  on_leg_ = [&] { prefills_.back().second.on_close([&given_up] { given_up = true; }); };
  run(0);
  EXPECT_TRUE(lost_);
  EXPECT_TRUE(given_up);
  EXPECT_EQ(prefills_.size(), 1U);
}

TEST_F(LegsTest, AReplyThatIsForgottenIsAFault) {
  LegChannel channel = channel_to(server_->port());
  channel.start(prefill(1));
  on_leg_ = [this] { prefills_.clear(); };
  run(1);
  ASSERT_EQ(frames_.size(), 1U);
  const auto* fault = std::get_if<protocol::Fault>(&frames_[0].frame);
  ASSERT_NE(fault, nullptr);
  EXPECT_EQ(fault->code, ErrorCode::kInternal);
}

// A command of several reads, with another behind it.
TEST_F(LegsTest, ALongPromptComesWhole) {
  LegChannel channel = channel_to(server_->port());
  channel.start(prefill(1, 1'000'000));
  channel.start(prefill(2));
  on_leg_ = [this] {
    if (prefills_.size() == 2) loop_.stop();
  };
  run(0);
  ASSERT_EQ(prefills_.size(), 2U);
  EXPECT_EQ(prefills_[0].first.prompt.size(), 1'000'000U);
  EXPECT_EQ(prefills_[1].first, prefill(2));
}

TEST_F(LegsTest, ARequestThatDoesNotAskForAChannelIsToldHow) {
  net::HttpCall call;
  call.address = {"127.0.0.1", server_->port()};
  call.method = "GET";
  call.target = "/pd/v1/legs";
  std::optional<net::HttpClient::Whole> answer;
  http_.fetch(std::move(call), [&](Result<net::HttpClient::Whole> whole) {
    answer = std::move(*whole);
    loop_.stop();
  });
  run(0);
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 426);
  EXPECT_NE(answer->body.find(protocol::kLegProtocol), std::string::npos);
}

}  // namespace
}  // namespace pd::legs
