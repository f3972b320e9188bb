#include "bench/peer_worker.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <optional>

#include "bench/token_checker.h"
#include "net/http_client.h"

namespace pd::bench {
namespace {

constexpr std::uint32_t kTokens = 16;

class PeerWorkerTest : public ::testing::Test {
 protected:
  struct Answer {
    int status = 0;
    std::string body;
    bool ended = false;
  };

  void start(PeerManner manner) {
    for (auto* worker : {&prefill_, &decode_}) {
      const Role role = worker == &prefill_ ? Role::kPrefill : Role::kDecode;
      auto made = PeerWorker::create(loop_, handoffs_, manner, role, "a model", {});
      ASSERT_TRUE(made) << made.error().message;
      *worker = std::move(*made);
    }
  }
  void ask(const PeerWorker& worker, const std::string& body, Answer& answer) {
    net::HttpCall call;
    call.address = {"127.0.0.1", worker.port()};
    call.target = "/v1/completions";
    call.body = body;
    net::HttpCallHandlers handlers;
    handlers.on_head = [&answer](int status, const auto&) { answer.status = status; };
    handlers.on_data = [&answer](std::string_view bytes) { answer.body += bytes; };
    handlers.on_end = [this, &answer](const Status&) {
      answer.ended = true;
      if (--wanted_ == 0) loop_.stop();
    };
    client_.call(std::move(call), std::move(handlers));
  }
  void run_until_ended(int answers) {
    wanted_ = answers;
    loop_.run();
  }
  static std::string verdict(const Answer& answer, bool streamed, std::uint32_t tokens) {
    TokenChecker checker(streamed);
    checker.feed(answer.body);
    return checker.verdict(tokens);
  }

  net::EventLoop loop_;
  PeerHandoffs handoffs_;
  std::unique_ptr<PeerWorker> prefill_, decode_;
  net::HttpClient client_{loop_};
  int wanted_ = 0;
};

TEST_F(PeerWorkerTest, HalvesOfOneRoomGoOnTogether) {
  start(PeerManner::kSglang);
  for (const bool stream : {false, true}) {
    const std::string body = fmt::format(
        R"({{"prompt":"x","max_tokens":{},"stream":{},"bootstrap_room":7}})", kTokens, stream);
    Answer decoded;
    Answer prefilled;
    ask(*decode_, body, decoded);
    ask(*prefill_, body, prefilled);
    run_until_ended(2);
    EXPECT_EQ(decoded.status, 200);
    EXPECT_EQ(verdict(decoded, stream, kTokens), "");
    EXPECT_EQ(verdict(prefilled, stream, 1), "");
  }
  EXPECT_EQ(handoffs_.waiting(), 0U);
}

TEST_F(PeerWorkerTest, AHalfAloneWaits) {
  start(PeerManner::kSglang);
  const auto body = [](int room) {
    return fmt::format(R"({{"prompt":"x","max_tokens":2,"bootstrap_room":{}}})", room);
  };
  Answer alone;
  Answer decoded;
  Answer prefilled;
  ask(*decode_, body(1), alone);
  ask(*decode_, body(2), decoded);
  ask(*prefill_, body(2), prefilled);
  run_until_ended(2);
  EXPECT_FALSE(alone.ended);
  EXPECT_EQ(handoffs_.waiting(), 1U);
  Answer missing;
  ask(*decode_, R"({"prompt":"x"})", missing);
  run_until_ended(1);
  EXPECT_EQ(missing.status, 400);
}

TEST_F(PeerWorkerTest, DecodeNeedsWhatPrefillHolds) {
  start(PeerManner::kVllm);
  Answer prefilled;
  ask(*prefill_,
      R"({"prompt":"x","max_tokens":1,"stream":false,)"
      R"("kv_transfer_params":{"do_remote_decode":true,"do_remote_prefill":false}})",
      prefilled);
  run_until_ended(1);
  EXPECT_EQ(prefilled.status, 200);
  const std::size_t at = prefilled.body.find("\"kv_transfer_params\":");
  ASSERT_NE(at, std::string::npos);
  const std::string body =
      fmt::format(R"({{"prompt":"x","max_tokens":{},{})", kTokens, prefilled.body.substr(at));
  Answer decoded;
  ask(*decode_, body, decoded);
  run_until_ended(1);
  EXPECT_EQ(verdict(decoded, false, kTokens), "");
  EXPECT_EQ(handoffs_.waiting(), 0U);
  Answer again;
  ask(*decode_, body, again);
  run_until_ended(1);
  EXPECT_EQ(again.status, 400);
}

}  // namespace
}  // namespace pd::bench
