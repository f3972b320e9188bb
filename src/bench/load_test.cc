#include "bench/load.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>

#include "bench/process_use.h"
#include "bench/stub_worker.h"

namespace pd::bench {
namespace {

using namespace std::chrono_literals;

TEST(ProcessUse, ReadsPastAnyName) {
  const auto stat = parse_process_stat("7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 30 12 5 6 99 99");
  ASSERT_TRUE(stat);
  EXPECT_EQ(stat->parent, 1);
  EXPECT_EQ(stat->ticks, 53U);
  EXPECT_FALSE(parse_process_stat("7 (a) S 1 2 3"));
  EXPECT_FALSE(parse_process_stat(""));
}

TEST(ProcessUse, ReadsMemory) {
  const auto memory = parse_smaps_rollup("0-1 [rollup]\nRss:  12 kB\nPss_Dirty: 1 kB\nPss: 3 kB\n");
  ASSERT_TRUE(memory);
  EXPECT_EQ(memory->rss, Bytes(12 * 1024));
  EXPECT_EQ(memory->pss, Bytes(3 * 1024));
  EXPECT_FALSE(parse_smaps_rollup("Rss: 12 kB"));
}

TEST(ProcessUse, TakesAProcessWithItsChildren) {
  const int self = ::getpid();
  const std::vector<int> tree = process_tree(::getppid());
  EXPECT_EQ(tree.front(), ::getppid());
  EXPECT_TRUE(std::ranges::find(tree, self) != tree.end());
  EXPECT_TRUE(process_cpu_seconds(self));
  const auto memory = process_memory(self);
  ASSERT_TRUE(memory);
  EXPECT_GE(memory->rss, memory->pss);
  EXPECT_FALSE(process_cpu_seconds(-1));
  EXPECT_FALSE(process_memory(-1));
}

class LoadTest : public ::testing::Test {
 protected:
  LoadResult run(const StubOptions& stub, const LoadOptions& options) {
    auto worker = StubWorker::create(loop_, handoffs_, stub);
    EXPECT_TRUE(worker);
    net::HttpClient client(loop_);
    return run_load(loop_, client, {"127.0.0.1", (*worker)->port()}, options);
  }
  net::EventLoop loop_;
  StubHandoffs handoffs_;
};

TEST_F(LoadTest, MeasuresAStubAsItIsTold) {
  const LoadResult result =
      run({.prefill = 20ms, .pace = {.step = 2ms}},
          {.path = "/v1/chat/completions",
           .bodies = make_bodies(true, true, 5, 100),
           .tokens = 5,
           .arrivals = OpenLoop{.requests_per_second = 200, .length = 250ms, .even = true}});
  EXPECT_EQ(result.failure, "");
  EXPECT_EQ(result.failed, 0U);
  EXPECT_EQ(result.sent, 50U);
  EXPECT_EQ(result.tokens, 250U);
  ASSERT_EQ(result.ttft_ms.size(), 50U);
  EXPECT_GE(result.ttft_ms.front(), 20);  // no clock of ours runs too fast
  EXPECT_GE(result.e2e_ms.front(), 20 + 3 * 2);
  EXPECT_GE(to_ms(result.length), 245 + 20);
}

TEST_F(LoadTest, KeepsStreamsFullWithoutPause) {
  const LoadResult result = run({}, {.bodies = make_bodies(false, true, 1000, 100),
                                     .tokens = 1000,
                                     .arrivals = ClosedLoop{.at_once = 8, .requests = 20}});
  EXPECT_EQ(result.failure, "");
  EXPECT_EQ(result.tokens, 20'000U);
  EXPECT_EQ(result.e2e_ms.size(), 20U);
}

TEST_F(LoadTest, ReadsWholeAnswersToo) {
  const LoadResult result = run({}, {.bodies = make_bodies(false, false, 12, 10),
                                     .tokens = 12,
                                     .streamed = false,
                                     .arrivals = ClosedLoop{.at_once = 2, .requests = 4}});
  EXPECT_EQ(result.failure, "");
  EXPECT_EQ(result.tokens, 48U);
}

TEST_F(LoadTest, CountsEveryAnswerThatIsNotRight) {
  const LoadResult missing = run({}, {.bodies = make_bodies(false, true, 4, 10),
                                      .tokens = 5,
                                      .arrivals = ClosedLoop{.at_once = 1, .requests = 3}});
  EXPECT_EQ(missing.failed, 3U);
  EXPECT_EQ(missing.failure, "4 tokens came, 5 were asked for");
  EXPECT_TRUE(missing.ttft_ms.empty());
  const LoadResult lost = run(
      {},
      {.path = "/v1/other", .bodies = {"{}"}, .arrivals = ClosedLoop{.at_once = 1, .requests = 2}});
  EXPECT_EQ(lost.failed, 2U);
  EXPECT_EQ(lost.failure, "HTTP 404");
}

}  // namespace
}  // namespace pd::bench
