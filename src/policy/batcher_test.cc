#include "policy/batcher.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "base/rng.h"

namespace pd::policy {
namespace {

using std::chrono::seconds;

Holder holder(std::uint64_t n) { return {RequestId{0, n}, 1}; }
constexpr Time kNever = Time::max();
constexpr Tokens kAny{1 << 30};

BatcherOptions budget(std::int64_t tokens, double share = 0.25) {
  BatcherOptions options;
  options.budget = Tokens(tokens);
  options.oldest_share = share;
  return options;
}

TEST(PrefillBatcher, CutsAPromptIntoChunks) {
  PrefillBatcher batcher(budget(100));
  ASSERT_TRUE(batcher.add(holder(1), Tokens(250), kAny, kNever));
  EXPECT_FALSE(batcher.add(holder(1), Tokens(250), kAny, kNever));
  EXPECT_EQ(batcher.next(Time{}).chunks, (std::vector<PrefillChunk>{{holder(1), Tokens(100)}}));
  EXPECT_EQ(batcher.next(Time{}).chunks, (std::vector<PrefillChunk>{{holder(1), Tokens(100)}}));
  EXPECT_EQ(batcher.next(Time{}).chunks, (std::vector<PrefillChunk>{{holder(1), Tokens(50)}}));
  EXPECT_TRUE(batcher.empty());
  EXPECT_TRUE(batcher.next(Time{}).chunks.empty());
}

TEST(PrefillBatcher, ShortPromptsPassALongOneWhichStillMoves) {
  PrefillBatcher batcher(budget(100));
  batcher.add(holder(1), Tokens(10000), kAny, kNever);
  batcher.add(holder(2), Tokens(60), kAny, kNever);
  batcher.add(holder(3), Tokens(40), kAny, kNever);
  EXPECT_EQ(batcher.next(Time{}).chunks,
            (std::vector<PrefillChunk>{
                {holder(1), Tokens(25)}, {holder(2), Tokens(35)}, {holder(3), Tokens(40)}}));
  // The rest of the short one, and what is left goes to the long one.
  EXPECT_EQ(batcher.next(Time{}).chunks,
            (std::vector<PrefillChunk>{{holder(1), Tokens(75)}, {holder(2), Tokens(25)}}));
}

TEST(PrefillBatcher, ExpiredJobsCostNothing) {
  PrefillBatcher batcher(budget(100));
  batcher.add(holder(1), Tokens(50), kAny, Time{} + seconds(1));
  batcher.add(holder(2), Tokens(50), kAny, Time{} + seconds(2));
  const PrefillPlan plan = batcher.next(Time{} + seconds(1));
  EXPECT_EQ(plan.expired, std::vector<Holder>{holder(1)});
  EXPECT_EQ(plan.chunks, (std::vector<PrefillChunk>{{holder(2), Tokens(50)}}));
  EXPECT_TRUE(batcher.empty());
}

TEST(PrefillBatcher, ChunkMaxBoundsOneJobOnly) {
  PrefillBatcher batcher(budget(100, 1.0));
  batcher.add(holder(1), Tokens(50), Tokens(8), kNever);
  batcher.add(holder(2), Tokens(200), kAny, kNever);
  EXPECT_EQ(batcher.next(Time{}).chunks,
            (std::vector<PrefillChunk>{{holder(1), Tokens(8)}, {holder(2), Tokens(92)}}));
}

TEST(PrefillBatcher, SkippedAndRemovedTokensAreNotPlanned) {
  PrefillBatcher batcher(budget(100));
  batcher.add(holder(1), Tokens(50), kAny, kNever);
  batcher.add(holder(2), Tokens(50), kAny, kNever);
  batcher.skip(holder(1), Tokens(49));
  batcher.remove(holder(2));
  batcher.remove(holder(2));
  EXPECT_EQ(batcher.queued(), Tokens(1));
  EXPECT_EQ(batcher.next(Time{}).chunks, (std::vector<PrefillChunk>{{holder(1), Tokens(1)}}));
}

// Any load: the budget is kept and used, every token planned once, and whoever becomes the oldest
// ends within its work over its share.
TEST(PrefillBatcher, EveryJobEndsWithinItsBound) {
  Rng rng(31);
  PrefillBatcher batcher(budget(64));
  struct Seen {
    std::int64_t left;
    std::int64_t age = 0;    // iterations
    std::int64_t bound = 0;  // most iterations: (work of older ones + own) / share, plus one each
  };
  std::map<std::uint64_t, Seen> live;
  std::uint64_t next = 0;
  for (int iteration = 0; iteration < 20000; ++iteration) {
    // Short ones arrive as fast as they are served, a long one sometimes.
    for (std::uint64_t n = rng.below(4); n-- > 0;) {
      const std::int64_t size =
          1 + static_cast<std::int64_t>(rng.below(100) == 0 ? 3000 : rng.below(50));
      std::int64_t bound = 0;
      for (const auto& [id, seen] : live) bound += (seen.left + 15) / 16;
      live[next] = {size, 0, bound + (size + 15) / 16};
      ASSERT_TRUE(batcher.add(holder(next++), Tokens(size), kAny, kNever));
    }
    std::int64_t queued = 0;
    for (auto& [id, seen] : live) {
      queued += seen.left;
      ++seen.age;
    }
    ASSERT_EQ(batcher.queued(), Tokens(queued));
    std::int64_t planned = 0;
    for (const PrefillChunk& chunk : batcher.next(Time{}).chunks) {
      planned += chunk.tokens.value();
      Seen& seen = live.at(chunk.job.request.low);
      seen.left -= chunk.tokens.value();
      ASSERT_GE(seen.left, 0);
      if (seen.left > 0) continue;
      ASSERT_LE(seen.age, seen.bound);
      live.erase(chunk.job.request.low);
    }
    ASSERT_EQ(planned, std::min<std::int64_t>(64, queued));
  }
}

// Prompts of 500 tokens at a load of 60 %, alone and with one in twenty of 8,000 tokens beside them
// (the load then is 100 % and more). Time is counted in iterations.
double short_p99(bool with_long) {
  Rng rng(37);
  PrefillBatcher batcher(budget(500));
  struct Short {
    int arrived;
    std::int64_t left = 500;
  };
  std::map<std::uint64_t, Short> shorts;
  std::vector<int> waits;
  std::uint64_t next = 0;
  for (int iteration = 0; iteration < 20000; ++iteration) {
    for (int i = 0; i < 6; ++i) {
      if (rng.below(10) != 0) continue;  // 0.6 per iteration
      if (with_long && rng.below(20) == 0 && batcher.queued() < Tokens(50000)) {
        batcher.add(holder(next++), Tokens(8000), kAny, kNever);
      } else {
        shorts[next] = {iteration};
        batcher.add(holder(next++), Tokens(500), kAny, kNever);
      }
    }
    for (const PrefillChunk& chunk : batcher.next(Time{}).chunks) {
      const auto it = shorts.find(chunk.job.request.low);
      if (it == shorts.end() || (it->second.left -= chunk.tokens.value()) > 0) continue;
      waits.push_back(iteration + 1 - it->second.arrived);
      shorts.erase(it);
    }
  }
  std::sort(waits.begin(), waits.end());
  return waits[waits.size() * 99 / 100];
}

TEST(PrefillBatcher, LongPromptsHardlyDelayShortOnes) {
  EXPECT_LE(short_p99(true), 3.0 * short_p99(false));
}

}  // namespace
}  // namespace pd::policy
