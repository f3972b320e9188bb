// The stubs against the real gateway: if they part from the protocol, this fails.
#include "bench/stub_group.h"

#include <gtest/gtest.h>

#include "bench/load.h"
#include "gateway/gateway.h"
#include "model/model.h"

namespace pd::bench {
namespace {

using namespace std::chrono_literals;

class StubGroupTest : public ::testing::Test {
 protected:
  void start(const StubOptions& stub, int loops = 1) {
    auto model = model::Model::open(PD_SOURCE_DIR "/assets/models/stories260K");
    ASSERT_TRUE(model) << model.error().message;
    model_.emplace(std::move(*model));
    auto group = StubGroup::create(loop_, 2, 2, 0, stub);
    ASSERT_TRUE(group) << group.error().message;
    group_ = std::move(*group);
    gateway::GatewayOptions options;
    options.loops = loops;
    options.controller = {"127.0.0.1", group_->controller_port()};
    options.model_name = "stories260K";
    options.context_max = Tokens(512);
    auto gateway = gateway::Gateway::create(loop_, *model_, std::move(options));
    ASSERT_TRUE(gateway) << gateway.error().message;
    gateway_ = std::move(*gateway);
  }
  LoadResult run(const LoadOptions& options) {
    net::HttpClient client(loop_);
    return run_load(loop_, client, {"127.0.0.1", gateway_->port()}, options);
  }
  std::string get(const std::string& path) {
    net::HttpClient client(loop_);
    std::string body;
    client.fetch({.address = {"127.0.0.1", gateway_->port()}, .method = "GET", .target = path},
                 [&](const Result<net::HttpClient::Whole>& answer) {
                   if (answer) body = answer->body;
                   loop_.stop();
                 });
    loop_.run();
    return body;
  }
  net::EventLoop loop_;
  std::optional<model::Model> model_;
  std::unique_ptr<StubGroup> group_;
  std::unique_ptr<gateway::Gateway> gateway_;
};

TEST_F(StubGroupTest, TheGatewayRelaysEveryTokenOnce) {
  start({.prefill = 5ms, .pace = {.step = 1ms}});
  for (const std::uint32_t tokens : {1U, 2U, 40U}) {
    const LoadResult result =
        run({.bodies = make_bodies(false, true, tokens, 200),
             .tokens = tokens,
             .arrivals = OpenLoop{.requests_per_second = 300, .length = 200ms}});
    EXPECT_EQ(result.failure, "");
    EXPECT_EQ(result.tokens, result.sent * tokens);
    EXPECT_GE(result.ttft_ms.front(), 5);
  }
  EXPECT_EQ(group_->held(), 0U);
}

TEST_F(StubGroupTest, TheGatewayKeepsUpWithStubsThatDoNotPause) {
  start({});
  const LoadResult result = run({.bodies = make_bodies(false, true, 400, 50),
                                 .tokens = 400,
                                 .arrivals = ClosedLoop{.at_once = 32, .requests = 64}});
  EXPECT_EQ(result.failure, "");
  EXPECT_EQ(result.tokens, 64U * 400U);
  EXPECT_EQ(group_->held(), 0U);
}

// The value of a metric without labels.
double value_of(const std::string& metrics, const std::string& name) {
  const auto at = metrics.find("\n" + name + " ");
  return at == std::string::npos ? -1
                                 : std::strtod(metrics.c_str() + at + name.size() + 2, nullptr);
}

TEST_F(StubGroupTest, SeveralLoopsAreOneGateway) {
  start({.prefill = 1ms, .pace = {.step = 1ms}}, 3);
  std::uint64_t sent = 0;
  // Connections of each round are new ones: the kernel deals them out anew.
  for (int round = 0; round < 4; ++round) {
    const LoadResult result = run({.bodies = make_bodies(false, true, 8, 50),
                                   .tokens = 8,
                                   .arrivals = ClosedLoop{.at_once = 24, .requests = 96}});
    EXPECT_EQ(result.failure, "");
    sent += result.sent;
    const std::string metrics = get("/metrics");
    EXPECT_EQ(value_of(metrics, "pdserve_requests_received_total"), static_cast<double>(sent));
    EXPECT_EQ(value_of(metrics, "pdserve_requests_completed_total"), static_cast<double>(sent));
    EXPECT_EQ(value_of(metrics, "pdserve_output_tokens_total"), static_cast<double>(8 * sent));
    for (const char* loop : {"0", "1", "2"})
      EXPECT_NE(metrics.find(std::string("pdserve_instances_silent{loop=\"") + loop), metrics.npos);
  }
  EXPECT_NE(get("/health").find(R"("status":"ok")"), std::string::npos);
  EXPECT_EQ(group_->held(), 0U);
  bool ended = false;
  gateway_->on_end([&] {
    ended = true;
    loop_.stop();
  });
  gateway_->drain(5s);
  loop_.run();
  EXPECT_TRUE(ended);
}

// Longer than it takes to give up an instance whose answers to renewals cannot be read.
TEST_F(StubGroupTest, LongStreamsAreRenewed) {
  start({.pace = {.step = 10ms}});
  const LoadResult result = run({.bodies = make_bodies(false, true, 260, 50),
                                 .tokens = 260,
                                 .arrivals = ClosedLoop{.at_once = 8, .requests = 8}});
  EXPECT_EQ(result.failure, "");
  EXPECT_EQ(result.tokens, 8U * 260U);
  EXPECT_NE(get("/metrics").find("pdserve_leg_faults_total 0"), std::string::npos);
  EXPECT_EQ(group_->held(), 0U);
}

TEST_F(StubGroupTest, BusyStubsMakeRequestsWait) {
  start({.prefill = 1ms, .pace = {.step = 1ms}, .slots = 1, .places = 2});
  const LoadResult result = run({.bodies = make_bodies(false, true, 8, 50),
                                 .tokens = 8,
                                 .arrivals = ClosedLoop{.at_once = 16, .requests = 64}});
  EXPECT_EQ(result.failure, "");
  EXPECT_EQ(result.tokens, 64U * 8U);
  EXPECT_EQ(group_->held(), 0U);
}

}  // namespace
}  // namespace pd::bench
