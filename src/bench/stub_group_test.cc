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
  void start(const StubOptions& stub, int loops = 1,
             Duration keep_alive_after = std::chrono::seconds(15)) {
    auto model = model::Model::open(PD_SOURCE_DIR "/assets/models/stories260K");
    ASSERT_TRUE(model) << model.error().message;
    model_.emplace(std::move(*model));
    auto group = StubGroup::create(loop_, 2, 2, 0, stub);
    ASSERT_TRUE(group) << group.error().message;
    group_ = std::move(*group);
    gateway::GatewayOptions options;
    options.loops = loops;
    options.keep_alive_after = keep_alive_after;
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
  std::string get(const std::string& path) { return get(gateway_->port(), path); }
  std::string get(std::uint16_t port, const std::string& path) {
    net::HttpClient client(loop_);
    std::string body;
    client.fetch({.address = {"127.0.0.1", port}, .method = "GET", .target = path},
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

// A stream says that it lives, before its first token and after it, once a P has taken it; until
// then it can still be told 429, and no status has been sent.
TEST_F(StubGroupTest, ASilentStreamSaysThatItLives) {
  start({.prefill = 200ms, .pace = {.step = 200ms}, .slots = 1}, 1, 50ms);
  net::HttpClient client(loop_);
  std::vector<std::string> answers(3);
  std::size_t ended = 0;
  const Time began = loop_.now();
  std::vector<Duration> head(answers.size());
  for (std::size_t i = 0; i < answers.size(); ++i) {  // two P: the third waits for 200 ms
    net::HttpCall call;
    call.address = {"127.0.0.1", gateway_->port()};
    call.target = "/v1/completions";
    call.body = R"({"prompt":"a","max_tokens":2,"stream":true,"ignore_eos":true})";
    client.call(std::move(call),
                {.on_head =
                     [&, i](int status, const auto&) {
                       EXPECT_EQ(status, 200);
                       head[i] = loop_.now() - began;
                     },
                 .on_data = [&, i](std::string_view bytes) { answers[i] += bytes; },
                 .on_end =
                     [&](const Status& outcome) {
                       EXPECT_TRUE(outcome);
                       if (++ended == answers.size()) loop_.stop();
                     }});
  }
  loop_.run();
  const std::string comment = ": keep-alive\n\n";
  std::ranges::sort(head);
  EXPECT_LT(head[0], 200ms) << "before the first token";
  EXPECT_GE(head[2], 200ms) << "not while it waits";
  for (const std::string& answer : answers) {
    const std::size_t first = answer.find("data: ");
    EXPECT_NE(answer.find(comment, first), answer.npos) << answer;
    EXPECT_TRUE(answer.ends_with("data: [DONE]\n\n")) << answer;
  }
  EXPECT_EQ(std::ranges::count_if(answers, [&](const auto& a) { return a.starts_with(comment); }),
            3);
}

// As a server one has a local queue: none is rejected, and they are computed one after another.
TEST_F(StubGroupTest, AStubAsAServerQueues) {
  StubOptions options{.prefill = 2ms, .prefill_per_token = 10us, .slots = 1};
  options.count_tokens = [](const std::string& text) { return text.size(); };
  start(options);
  const std::string& address = group_->topology().instances.front().address;
  const auto stub = net::parse_address(address);
  ASSERT_TRUE(stub);
  net::HttpClient client(loop_);
  const LoadResult result = run_load(loop_, client, *stub,
                                     {.bodies = make_bodies(false, true, 2, 300),
                                      .tokens = 2,
                                      .arrivals = ClosedLoop{.at_once = 8, .requests = 8}});
  EXPECT_EQ(result.failure, "");
  ASSERT_EQ(result.ttft_ms.size(), 8U);
  for (std::size_t i = 0; i < 8; ++i)
    EXPECT_GE(result.ttft_ms[i], static_cast<double>(i + 1) * 5);  // 2 ms and 300 x 10 us
  const std::string metrics = get(stub->port, "/metrics");
  EXPECT_NE(metrics.find("stub_prompts_taken_total 8\n"), metrics.npos) << metrics;
  EXPECT_NE(metrics.find("stub_prompts_rejected_total 0\n"), metrics.npos) << metrics;
}

}  // namespace
}  // namespace pd::bench
