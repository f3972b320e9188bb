#include "load/generator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "base/unique_fd.h"
#include "net/http_server.h"

namespace pd::load {
namespace {

using namespace std::chrono_literals;
using Json = nlohmann::json;

// A server on the same loop that answers as `behave` says and keeps the bodies it got.
class GeneratorTest : public ::testing::Test {
 protected:
  using Behaviour = std::function<void(const Json& body, net::HttpResponse response)>;

  void serve(Behaviour behave) {
    auto created = net::HttpServer::create(
        loop_, {}, [this, behave](net::HttpRequest request, net::HttpResponse response) {
          bodies_.push_back(Json::parse(request.body));
          most_at_once_ = std::max(most_at_once_, ++at_once_);
          behave(bodies_.back(), std::move(response));
        });
    ASSERT_TRUE(created);
    server_ = std::move(*created);
  }
  // "one two three", a word each millisecond, then usage.
  Behaviour stream_words() {
    return [this](const Json&, net::HttpResponse response) {
      response.start(200, "text/event-stream");
      say(response, 0);
    };
  }
  void say(net::HttpResponse response, int word) {
    static constexpr const char* kWords[] = {"one", " two", " three"};
    if (word == 3) {
      --at_once_;
      response.write(
          "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,"
          "\"completion_tokens\":3}}\n\ndata: [DONE]\n\n");
      return response.end();
    }
    const Json chunk{{"choices", {{{"delta", {{"content", kWords[word]}}}}}}};
    response.write("data: " + chunk.dump() + "\n\n");
    loop_.call_at(loop_.now() + 1ms, [=, this] { say(response, word + 1); });
  }

  std::vector<Record> run(const Workload& workload, GeneratorOptions options, bool chat = true) {
    Target target;
    target.call.address = {"127.0.0.1", server_->port()};
    target.call.target = "/v1/chat/completions";
    target.chat = chat;
    target.model = "m\"1";
    net::HttpClient client(loop_);
    Generator generator(loop_, client, target, workload, std::move(options),
                        [this] { loop_.stop(); });
    if (stop_after_) loop_.call_at(loop_.now() + *stop_after_, [&] { generator.stop(); });
    generator.start();
    loop_.run();
    sending_s_ = generator.sending_s();
    own_trouble_ = generator.own_trouble();
    return generator.take_records();
  }

  net::EventLoop loop_;
  std::unique_ptr<net::HttpServer> server_;
  std::vector<Json> bodies_;
  int at_once_ = 0, most_at_once_ = 0;
  std::optional<Duration> stop_after_;
  double sending_s_ = 0;
  std::string own_trouble_;
  Rng rng_{1};
};

TEST_F(GeneratorTest, AnOpenLoopAsksAtItsTimes) {
  serve(stream_words());
  const Workload workload = take(50, unrelated({5, 5}, {3, 3}, rng_));
  std::vector<Duration> starts;
  for (int i = 0; i < 50; ++i) starts.push_back(i * 2ms);
  const auto records = run(workload, {.starts = starts});
  ASSERT_EQ(records.size(), 50U);
  for (const Record& record : records) {
    EXPECT_TRUE(record.completed()) << record.error;
    EXPECT_NEAR(record.due_s, static_cast<double>(record.index) * 0.002, 1e-9);
    EXPECT_GE(record.sent_s, record.due_s);
    EXPECT_EQ(record.itl_ms.size(), 2U);
    EXPECT_GT(record.ttft_ms, 0);
    EXPECT_GE(record.e2e_ms, record.ttft_ms + 2);
    EXPECT_EQ(record.output_tokens, 3U);
    EXPECT_EQ(record.prompt_tokens, 9U);
  }
  EXPECT_EQ(bodies_[0]["model"], "m\"1");
  EXPECT_EQ(bodies_[0]["max_tokens"], 3);
  EXPECT_EQ(bodies_[0]["stream"], true);
  EXPECT_EQ(bodies_[0]["ignore_eos"], true);
}

// A server that stalls must not look better because the client waits with it.
TEST_F(GeneratorTest, AStallCountsForAllWhoWereDueInIt) {
  bool stalled = false;
  serve([&, this](const Json& body, net::HttpResponse response) {
    if (!std::exchange(stalled, true)) {
      const Time until = SteadyTime::now() + 100ms;
      while (SteadyTime::now() < until) {
      }  // the loop, with server and client, stands still
    }
    stream_words()(body, std::move(response));
  });
  const Workload workload = take(10, unrelated({5, 5}, {3, 3}, rng_));
  const auto records = run(workload, {.starts = std::vector<Duration>(10, 1ms)});
  ASSERT_EQ(records.size(), 10U);
  for (const Record& record : records) EXPECT_GE(record.ttft_ms, 90) << record.index;
}

TEST_F(GeneratorTest, AClosedLoopHasSoManyUnderWay) {
  serve(stream_words());
  const auto records = run(take(40, unrelated({5, 5}, {3, 3}, rng_)), {.starts = {}, .at_once = 4});
  EXPECT_EQ(records.size(), 40U);
  EXPECT_EQ(most_at_once_, 4);
}

TEST_F(GeneratorTest, AClosedLoopGoesOnForItsTime) {
  serve(stream_words());
  Workload workload = take(3, unrelated({5, 5}, {3, 3}, Rng(1)));
  int drawn = 0;
  workload.more = [&drawn, source = unrelated({5, 5}, {3, 3}, Rng(2))] {
    return ++drawn, source();
  };
  const auto records = run(workload, {.starts = {}, .at_once = 2, .length = 200ms});
  EXPECT_GT(records.size(), 20U) << "far more than the three that are listed";
  EXPECT_EQ(records.size(), 3U + static_cast<std::size_t>(drawn)) << "each when it is asked";
  std::set<std::string> prompts;
  for (const Json& body : bodies_) prompts.insert(body["messages"].dump());
  EXPECT_EQ(prompts.size(), records.size());
}

TEST_F(GeneratorTest, SaysForHowLongItSent) {
  serve(stream_words());
  const auto five = take(5, unrelated({5, 5}, {3, 3}, rng_));
  Workload endless;
  endless.more = unrelated({5, 5}, {3, 3}, rng_);
  const std::vector<Duration> starts(5, 1ms);
  run(five, {.starts = starts, .length = 60ms});
  EXPECT_EQ(sending_s_, 0.06) << "though the last was due before that";
  run(five, {.starts = starts});
  EXPECT_EQ(sending_s_, 0) << "until the last was due";
  run(endless, {.starts = {}, .at_once = 2, .length = 50ms});
  EXPECT_EQ(sending_s_, 0.05);
  run(five, {.starts = {}, .at_once = 2, .length = 10s});
  EXPECT_EQ(sending_s_, 0) << "the workload was used up long before";
  stop_after_ = 40ms;
  run(endless, {.starts = {}, .at_once = 2, .length = 10s});
  EXPECT_NEAR(sending_s_, 0.04, 0.03);
}

TEST_F(GeneratorTest, ATurnHoldsAllThatWasSaid) {
  serve(stream_words());
  const auto records =
      run(take(5, conversations({3, 3}, 20, {4, 4}, {3, 3}, rng_)), {.starts = {}, .at_once = 2});
  ASSERT_EQ(records.size(), 15U);
  const auto longest = std::ranges::max_element(
      bodies_, {}, [](const Json& body) { return body["messages"].size(); });
  const Json& messages = (*longest)["messages"];
  ASSERT_EQ(messages.size(), 5U);
  EXPECT_EQ(messages[1]["role"], "assistant");
  EXPECT_EQ(messages[1]["content"], "one two three");
  EXPECT_EQ(messages[4]["role"], "user");
  // Each turn begins with the one before it, word for word.
  int found = 0;
  for (const Json& body : bodies_)
    found += body["messages"].size() == 3 && body["messages"][0] == messages[0] &&
                     body["messages"][2] == messages[2]
                 ? 1
                 : 0;
  EXPECT_EQ(found, 1);
}

TEST_F(GeneratorTest, AConversationEndsWithAnAnswerThatIsNone) {
  serve([this](const Json&, net::HttpResponse response) {
    --at_once_;
    response.send(429, "application/json", R"({"error":{"message":"busy"}})");
  });
  const auto records =
      run(take(6, conversations({3, 3}, 0, {4, 4}, {3, 3}, rng_)), {.starts = {}, .at_once = 2});
  ASSERT_EQ(records.size(), 6U);
  for (const Record& record : records) {
    EXPECT_EQ(record.outcome, Record::Outcome::kRejected);
    EXPECT_EQ(record.error, "HTTP 429: busy");
  }
}

TEST_F(GeneratorTest, PatienceEndsARequest) {
  std::vector<net::HttpResponse> kept;
  serve([&](const Json&, net::HttpResponse response) { kept.push_back(std::move(response)); });
  const auto records = run(take(3, unrelated({5, 5}, {3, 3}, rng_)),
                           {.starts = std::vector<Duration>(3, 0ms), .patience = 30ms});
  ASSERT_EQ(records.size(), 3U);
  for (const Record& record : records) {
    EXPECT_EQ(record.outcome, Record::Outcome::kTimedOut);
    EXPECT_FALSE(record.accepted());
    EXPECT_GE(record.e2e_ms, 30);
  }
  kept.clear();
}

TEST_F(GeneratorTest, WhatIsGivenUpInItsAnswerWasAccepted) {
  std::vector<net::HttpResponse> kept;
  serve([&](const Json&, net::HttpResponse response) {
    response.start(200, "text/event-stream");
    response.write("data: {\"choices\":[]}\n\n");
    kept.push_back(std::move(response));
  });
  const auto records = run(take(1, unrelated({5, 5}, {3, 3}, rng_)),
                           {.starts = std::vector<Duration>(1, 0ms), .patience = 100ms});
  ASSERT_EQ(records.size(), 1U);
  EXPECT_EQ(records[0].outcome, Record::Outcome::kTimedOut);
  EXPECT_TRUE(records[0].accepted());
  kept.clear();
}

TEST_F(GeneratorTest, AStopGivesUpWhatIsUnderWay) {
  std::vector<net::HttpResponse> kept;
  serve([&](const Json&, net::HttpResponse response) { kept.push_back(std::move(response)); });
  stop_after_ = 30ms;
  std::vector<Duration> starts(3, 0ms);
  starts.push_back(1h);
  const auto records = run(take(4, unrelated({5, 5}, {3, 3}, rng_)), {.starts = starts});
  ASSERT_EQ(records.size(), 3U);
  for (const Record& record : records) EXPECT_EQ(record.outcome, Record::Outcome::kUnfinished);
  kept.clear();
}

TEST_F(GeneratorTest, AnUnreachableServerIsAFailureEach) {
  serve(stream_words());
  server_->stop_accepting();
  const auto records = run(take(3, unrelated({5, 5}, {3, 3}, rng_)), {.starts = {}, .at_once = 3});
  ASSERT_EQ(records.size(), 3U);
  for (const Record& record : records) EXPECT_EQ(record.outcome, Record::Outcome::kFailed);
}

// What this client lacks is no failure of the server.
TEST_F(GeneratorTest, WithoutDescriptorsTheLoadEnds) {
  std::vector<net::HttpResponse> kept;
  serve([&](const Json&, net::HttpResponse response) { kept.push_back(std::move(response)); });
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  UniqueFd next(::dup(0));
  const rlimit low{static_cast<rlim_t>(next.get()) + 24, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &low), 0);
  const auto records =
      run(take(60, unrelated({5, 5}, {3, 3}, rng_)), {.starts = {}, .at_once = 60});
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_THAT(own_trouble_, testing::HasSubstr("Too many open files"));
  EXPECT_EQ(records.size(), 60U);
  for (const Record& record : records) EXPECT_EQ(record.outcome, Record::Outcome::kUnfinished);
  kept.clear();
}

TEST_F(GeneratorTest, NothingToAskEndsAtOnce) {
  serve(stream_words());
  EXPECT_TRUE(run({}, {.starts = {}, .at_once = 3}).empty());
  EXPECT_TRUE(run({}, {.starts = std::vector<Duration>{}}).empty());
}

}  // namespace
}  // namespace pd::load
