#include "policy/kv_blocks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/rng.h"

namespace pd::policy {
namespace {

Holder holder(std::uint64_t n) { return {RequestId{0, n}, 1}; }
KvDemand demand(std::int64_t kv, std::int64_t output_max, std::int64_t output = 1) {
  return {Tokens(kv), Tokens(output), Tokens(output_max)};
}

TEST(GrowthModel, GuessesThenLearns) {
  GrowthModel model(256, Tokens(256));
  EXPECT_EQ(model.remaining(Tokens(1), Tokens(1000)), Tokens(255));
  EXPECT_EQ(model.remaining(Tokens(1), Tokens(16)), Tokens(15));
  EXPECT_EQ(model.goes_beyond(Tokens(1), Tokens(254), Tokens(1000)), 1.0);
  EXPECT_EQ(model.goes_beyond(Tokens(1), Tokens(255), Tokens(1000)), 0.0);
  for (int i = 0; i < 50; ++i) {
    model.on_finished(Tokens(20));
    model.on_finished(Tokens(40));
  }
  EXPECT_EQ(model.remaining(Tokens(0), Tokens(1000)), Tokens(30));
  EXPECT_EQ(model.remaining_max(Tokens(0), Tokens(1000)), Tokens(40));
  EXPECT_EQ(model.goes_beyond(Tokens(10), Tokens(9), Tokens(1000)), 1.0);
  EXPECT_EQ(model.goes_beyond(Tokens(10), Tokens(10), Tokens(1000)), 0.5);
  EXPECT_EQ(model.goes_beyond(Tokens(10), Tokens(10), Tokens(20)), 0.0);
  EXPECT_EQ(model.remaining(Tokens(20), Tokens(1000)), Tokens(20));  // the 20s are out
  EXPECT_EQ(model.remaining(Tokens(40), Tokens(1000)), Tokens(40));  // outgrew all: as long again
  EXPECT_EQ(model.goes_beyond(Tokens(40), Tokens(39), Tokens(1000)), 1.0);
  EXPECT_EQ(model.remaining(Tokens(90), Tokens(80)), Tokens(0));
  EXPECT_EQ(model.remaining_max(Tokens(90), Tokens(80)), Tokens(0));
}

TEST(GrowthModel, ForgetsWhatLeftTheWindow) {
  GrowthModel model(8, Tokens(256));
  for (int i = 0; i < 8; ++i) model.on_finished(Tokens(1000 + i));
  for (int i = 0; i < 8; ++i) model.on_finished(Tokens(10));
  EXPECT_EQ(model.remaining(Tokens(0), Tokens(5000)), Tokens(10));
}

TEST(KvBlocks, TakesBlocksForTheKvAndTheNextToken) {
  KvBlocks blocks(BlockCount(10), Tokens(16), {});
  EXPECT_EQ(blocks.admit(holder(1), demand(31, 2)), KvAdmission::kAccepted);
  EXPECT_EQ(blocks.table(holder(1)).size(), 2U);
  EXPECT_EQ(blocks.admit(holder(2), demand(32, 2)), KvAdmission::kAccepted);
  EXPECT_EQ(blocks.table(holder(2)).size(), 3U);
  EXPECT_EQ(blocks.admit(holder(2), demand(32, 2)), KvAdmission::kDuplicate);
  EXPECT_EQ(blocks.free(), BlockCount(5));
  blocks.release(holder(1), false);
  blocks.release(holder(1), false);
  EXPECT_EQ(blocks.free(), BlockCount(7));
  EXPECT_TRUE(blocks.table(holder(1)).empty());
}

TEST(KvBlocks, KeepsRoomForTheGrowthOfThoseItHas) {
  KvBlocksOptions options;
  options.first_guess = Tokens(64);
  KvBlocks blocks(BlockCount(22), Tokens(16), options);
  // Two blocks at once and five in the end: 16 + 1 + 63 tokens.
  for (std::uint64_t n = 1; n <= 4; ++n) {
    EXPECT_EQ(blocks.admit(holder(n), demand(16, 65)), KvAdmission::kAccepted);
  }
  EXPECT_EQ(blocks.used(), BlockCount(8));
  EXPECT_EQ(blocks.need(), BlockCount(20));
  EXPECT_EQ(blocks.admit(holder(5), demand(16, 65)), KvAdmission::kBusy);
  EXPECT_EQ(blocks.admit(holder(5), demand(1, 2)), KvAdmission::kAccepted);
  blocks.release(holder(1), false);
  EXPECT_EQ(blocks.admit(holder(6), demand(16, 65)), KvAdmission::kAccepted);
}

TEST(KvBlocks, CountsOnThoseThatWillHaveEnded) {
  KvBlocksOptions options;
  options.deviations = 0.0;
  KvBlocks blocks(BlockCount(20), Tokens(16), options);
  // Learned: outputs have 40 tokens, always.
  for (std::uint64_t n = 0; n < 20; ++n) {
    ASSERT_EQ(blocks.admit(holder(n), demand(1, 1000)), KvAdmission::kAccepted);
    blocks.on_output(holder(n), Tokens(40));
    blocks.release(holder(n), true);
  }
  // Nine blocks, ending within five tokens; before that nobody else grows much.
  ASSERT_EQ(blocks.admit(holder(100), demand(140, 1000, 36)), KvAdmission::kAccepted);
  // Nine blocks with twelve in the end: together they never need more than twenty.
  EXPECT_EQ(blocks.admit(holder(101), demand(140, 1000, 1)), KvAdmission::kAccepted);
}

TEST(KvBlocks, AloneARequestNeedsNoReserve) {
  KvBlocks blocks(BlockCount(4), Tokens(16), {});
  EXPECT_EQ(blocks.admit(holder(1), demand(40, 1000)), KvAdmission::kAccepted);
  EXPECT_EQ(blocks.admit(holder(2), demand(1, 1000)), KvAdmission::kBusy);
}

TEST(KvBlocks, WhatNeverFitsIsToldApartFromBusy) {
  KvBlocks blocks(BlockCount(4), Tokens(16), {});
  EXPECT_EQ(blocks.admit(holder(1), demand(64, 2)), KvAdmission::kTooLarge);
  EXPECT_EQ(blocks.admit(holder(1), demand(INT64_MAX, 2)), KvAdmission::kTooLarge);
  EXPECT_EQ(blocks.admit(holder(1), demand(-1, 2)), KvAdmission::kTooLarge);
  EXPECT_EQ(blocks.admit(holder(1), demand(63, INT64_MAX)), KvAdmission::kAccepted);
  KvBlocks none(BlockCount(0), Tokens(16), {});
  EXPECT_EQ(none.admit(holder(1), demand(0, 2)), KvAdmission::kTooLarge);
}

TEST(KvBlocks, GrowsOrChangesNothing) {
  KvBlocks blocks(BlockCount(3), Tokens(4), {});
  ASSERT_EQ(blocks.admit(holder(1), demand(3, 100)), KvAdmission::kAccepted);
  EXPECT_TRUE(blocks.grow(holder(1), Tokens(4)));
  EXPECT_EQ(blocks.used(), BlockCount(1));
  EXPECT_TRUE(blocks.grow(holder(1), Tokens(12)));
  EXPECT_EQ(blocks.used(), BlockCount(3));
  EXPECT_FALSE(blocks.grow(holder(1), Tokens(13)));
  EXPECT_EQ(blocks.table(holder(1)).size(), 3U);
}

TEST(KvBlocks, BlocksAreConserved) {
  Rng rng(17);
  KvBlocksOptions options;
  options.first_guess = Tokens(8);
  KvBlocks blocks(BlockCount(40), Tokens(4), options);
  std::map<Holder, std::int64_t> lengths;
  int accepted = 0, refused = 0, stuck = 0;
  for (int step = 0; step < 50000; ++step) {
    const Holder who = holder(rng.below(20));
    switch (rng.below(3)) {
      case 0: {
        const auto kv = static_cast<std::int64_t>(rng.below(50));
        const KvAdmission answer = blocks.admit(who, demand(kv, 1 + (std::int64_t)rng.below(40)));
        ASSERT_EQ(answer == KvAdmission::kDuplicate, lengths.contains(who));
        if (answer == KvAdmission::kAccepted) lengths[who] = kv + 1;
        (answer == KvAdmission::kAccepted ? accepted : refused) += 1;
        break;
      }
      case 1:
        if (!lengths.contains(who)) break;
        if (blocks.grow(who, Tokens(lengths[who] + 1))) {
          ++lengths[who];
        } else {
          ASSERT_EQ(blocks.free(), BlockCount(0));
          ++stuck;
        }
        break;
      default:
        blocks.release(who, rng.below(2) == 0);
        lengths.erase(who);
    }
    std::set<BlockIndex> taken;
    for (const auto& [h, length] : lengths) {
      const auto table = blocks.table(h);
      ASSERT_EQ(BlockCount(static_cast<std::int64_t>(table.size())),
                blocks_for(Tokens(length), Tokens(4)));
      for (BlockIndex block : table) {
        ASSERT_LT(block.value(), 40U);
        ASSERT_TRUE(taken.insert(block).second);
      }
    }
    ASSERT_EQ(blocks.used(), BlockCount(static_cast<std::int64_t>(taken.size())));
    ASSERT_EQ(blocks.free() + blocks.used(), blocks.total());
    ASSERT_EQ(blocks.holders(), lengths.size());
  }
  EXPECT_GT(accepted, 1000);
  EXPECT_GT(refused, 1000);
  EXPECT_GT(stuck, 0);
}

// Lengths drawn from the distribution that was learned: hardly anyone may run out.
TEST(KvBlocks, TheReserveMakesRunningOutRare) {
  Rng rng(23);
  KvBlocks blocks(BlockCount(400), Tokens(16), {});
  struct Run {
    std::int64_t kv, output, end;
  };
  std::map<Holder, Run> running;
  std::uint64_t next = 0;
  std::int64_t finished = 0, evicted = 0, used = 0;
  for (int step = 0; step < 20000; ++step) {
    for (int tries = 0; tries < 2; ++tries) {
      const auto kv = static_cast<std::int64_t>(20 + rng.below(200));
      const Holder who = holder(++next);
      if (blocks.admit(who, demand(kv, 1024)) != KvAdmission::kAccepted) continue;
      // Geometric with mean 100: memoryless, the hardest to foresee.
      std::int64_t end = 2;
      while (end < 1024 && rng.below(100) != 0) ++end;
      running[who] = {kv, 1, end};
    }
    for (auto it = running.begin(); it != running.end();) {
      Run& run = it->second;
      if (run.output == run.end) {
        blocks.release(it->first, true);
        it = running.erase(it);
        ++finished;
        continue;
      }
      if (!blocks.grow(it->first, Tokens(run.kv + 1))) {
        blocks.evict(it->first);
        it = running.erase(it);
        ++evicted;
        continue;
      }
      ++run.kv;
      blocks.on_output(it->first, Tokens(++run.output));
      ++it;
    }
    used += blocks.used().value();
  }
  EXPECT_GT(finished, 5000);
  EXPECT_GT(static_cast<double>(used), 0.8 * 400 * 20000);
  EXPECT_LT(static_cast<double>(evicted), 0.01 * static_cast<double>(finished));
}

TEST(ChooseVictim, TheLeastOutputGoesAndOfEqualsTheLastToCome) {
  using Candidates = std::vector<EvictionCandidate>;
  const Candidates least = {{holder(1), false, Tokens(9), 0},
                            {holder(2), false, Tokens(3), 1},
                            {holder(3), false, Tokens(5), 2}};
  EXPECT_EQ(choose_victim(least), holder(2));
  const Candidates equals = {{holder(1), false, Tokens(3), 5},
                             {holder(2), false, Tokens(3), 7},
                             {holder(3), false, Tokens(3), 6}};
  EXPECT_EQ(choose_victim(equals), holder(2));
  const Candidates again = {{holder(1), true, Tokens(3), 5}, {holder(2), false, Tokens(70), 1}};
  EXPECT_EQ(choose_victim(again), holder(2));
}

TEST(ChooseVictim, WhoWasEvictedTwiceStays) {
  using Candidates = std::vector<EvictionCandidate>;
  const Candidates all = {{holder(1), true, Tokens(3), 5, kEvictionsMax},
                          {holder(2), true, Tokens(70), 1, 1}};
  EXPECT_EQ(choose_victim(all), holder(2));
}

TEST(KvBlocks, WhoWasEvictedTwiceComesInWithAllThatItCanNeed) {
  KvBlocks blocks(BlockCount(20), Tokens(16), {});
  ASSERT_EQ(blocks.admit(holder(1), demand(160, 2)), KvAdmission::kAccepted);  // 11 blocks
  KvDemand again = demand(31, 130, 2);  // 2 blocks now, 31 + 128 positions in the end: 10
  again.evictions = kEvictionsMax;
  EXPECT_EQ(blocks.admit(holder(2), again), KvAdmission::kBusy);
  blocks.release(holder(1), false);
  ASSERT_EQ(blocks.admit(holder(2), again), KvAdmission::kAccepted);
  EXPECT_EQ(blocks.used(), BlockCount(10));
  for (int output = 3; output <= 130; ++output) {
    ASSERT_TRUE(blocks.grow(holder(2), Tokens(31 + output - 2)));
    blocks.on_output(holder(2), Tokens(output));
  }
  EXPECT_EQ(blocks.used(), BlockCount(10));
  blocks.release(holder(2), true);
  // More than there is: it gets everything, alone.
  again.output_max = Tokens(1 << 20);
  ASSERT_EQ(blocks.admit(holder(3), again), KvAdmission::kAccepted);
  EXPECT_EQ(blocks.free(), BlockCount(0));
}

struct Run {
  std::int64_t kv = 0, output = 0, end = 0;
  std::uint64_t arrival = 0;
  int evictions = 0;
  int ready = 0;  // step at which it is back
};

// One decode instance under more load than it can take. An evicted request comes back to it 40
// steps (a new prefill) later.
class Overload {
 public:
  explicit Overload(std::uint64_t seed) : rng_(seed) {}

  void step(std::int64_t mean_output) {
    ++now_;
    for (auto it = away_.begin(); it != away_.end();) {
      const bool back = it->second.ready <= now_ && admit(it->first, it->second);
      it = back ? away_.erase(it) : std::next(it);
    }
    for (int tries = 0; tries < 2; ++tries) {
      Run run;
      run.kv = 50 + static_cast<std::int64_t>(rng_.below(100));
      run.output = 1;
      run.end = mean_output / 2 +
                static_cast<std::int64_t>(rng_.below(static_cast<std::uint64_t>(mean_output)));
      admit(holder(++submitted_), run);
    }
    std::vector<Holder> order;
    for (const auto& [who, run] : running_) order.push_back(who);
    for (const Holder& who : order) {
      while (running_.contains(who) && !blocks_.grow(who, Tokens(running_[who].kv + 1))) evict();
      if (running_.contains(who)) advance(who);
    }
  }

  std::int64_t tokens = 0;
  int evictions_max = 0;  // of one request

 private:
  bool admit(const Holder& who, Run run) {
    if (blocks_.admit(who, {Tokens(run.kv), Tokens(run.output), Tokens(4096), run.evictions}) !=
        KvAdmission::kAccepted) {
      return false;
    }
    run.arrival = arrivals_++;
    running_[who] = run;
    return true;
  }
  void evict() {
    std::vector<EvictionCandidate> candidates;
    for (const auto& [who, run] : running_)
      candidates.push_back(
          {who, run.evictions > 0, Tokens(run.output), run.arrival, run.evictions});
    const Holder victim = choose_victim(candidates);
    Run run = running_[victim];
    running_.erase(victim);
    blocks_.evict(victim);
    run.ready = now_ + 40;
    evictions_max = std::max(evictions_max, ++run.evictions);
    away_[victim] = run;
  }
  void advance(const Holder& who) {
    Run& run = running_[who];
    ++run.kv;
    ++tokens;
    blocks_.on_output(who, Tokens(++run.output));
    if (run.output < run.end) return;
    blocks_.release(who, true);
    running_.erase(who);
  }

  Rng rng_;
  KvBlocks blocks_{BlockCount(500), Tokens(16), {}};
  std::map<Holder, Run> running_, away_;
  std::uint64_t submitted_ = 0, arrivals_ = 0;
  int now_ = 0;
};

TEST(KvBlocks, OutputsFourTimesLongerThanLearnedDoNotThrash) {
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    Overload overload(seed);
    for (int step = 0; step < 3000; ++step) overload.step(50);
    // Rates over 200 steps, from the turn on.
    std::vector<std::int64_t> rates;
    for (int window = 0; window < 20; ++window) {
      const std::int64_t before = overload.tokens;
      for (int step = 0; step < 200; ++step) overload.step(200);
      rates.push_back(overload.tokens - before);
    }
    EXPECT_LE(overload.evictions_max, 2) << seed;
    // The first two windows still have short requests, and more of them fit.
    const double peak = static_cast<double>(*std::max_element(rates.begin() + 2, rates.end()));
    EXPECT_GE(static_cast<double>(*std::min_element(rates.begin(), rates.end())), 0.7 * peak);
  }
}

}  // namespace
}  // namespace pd::policy
