#include "policy/kv_blocks.h"

#include <gtest/gtest.h>

#include <set>

#include "base/rng.h"

namespace pd::policy {
namespace {

Holder holder(std::uint64_t n) { return {RequestId{0, n}, 1}; }
KvDemand demand(std::int64_t kv, std::int64_t output_max, std::int64_t output = 1) {
  return {Tokens(kv), Tokens(output), Tokens(output_max)};
}

TEST(GrowthModel, GuessesThenLearns) {
  GrowthOptions options;
  options.margin = 1.0;
  GrowthModel model(options);
  EXPECT_EQ(model.remaining(Tokens(1), Tokens(1000)), Tokens(255));
  EXPECT_EQ(model.remaining(Tokens(1), Tokens(16)), Tokens(15));
  for (int i = 0; i < 50; ++i) {
    model.on_finished(Tokens(20));
    model.on_finished(Tokens(40));
  }
  EXPECT_EQ(model.remaining(Tokens(0), Tokens(1000)), Tokens(30));
  EXPECT_EQ(model.remaining(Tokens(20), Tokens(1000)), Tokens(20));  // the 20s are out
  EXPECT_EQ(model.remaining(Tokens(40), Tokens(1000)), Tokens(40));  // outgrew all: as long again
  EXPECT_EQ(model.remaining(Tokens(90), Tokens(80)), Tokens(0));
}

TEST(GrowthModel, ForgetsWhatLeftTheWindow) {
  GrowthOptions options;
  options.margin = 1.0;
  options.window = 8;
  GrowthModel model(options);
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
  GrowthOptions growth;
  growth.margin = 1.0;
  growth.first_guess = Tokens(64);
  KvBlocks blocks(BlockCount(20), Tokens(16), growth);
  // 2 blocks now and 4 later each.
  EXPECT_EQ(blocks.admit(holder(1), demand(16, 65)), KvAdmission::kAccepted);
  EXPECT_EQ(blocks.reserve(), BlockCount(3));  // 16 + 1 + 63 tokens end in the fifth block
  EXPECT_EQ(blocks.admit(holder(2), demand(16, 65)), KvAdmission::kAccepted);
  EXPECT_EQ(blocks.admit(holder(3), demand(16, 65)), KvAdmission::kAccepted);
  EXPECT_EQ(blocks.admit(holder(4), demand(16, 65)), KvAdmission::kAccepted);
  EXPECT_EQ(blocks.used(), BlockCount(8));
  EXPECT_EQ(blocks.admit(holder(5), demand(16, 65)), KvAdmission::kBusy);
  EXPECT_EQ(blocks.admit(holder(5), demand(1, 2)), KvAdmission::kBusy);
  blocks.release(holder(1), false);
  EXPECT_EQ(blocks.admit(holder(5), demand(1, 2)), KvAdmission::kAccepted);
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
  GrowthOptions growth;
  growth.first_guess = Tokens(8);
  KvBlocks blocks(BlockCount(40), Tokens(4), growth);
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
  std::int64_t finished = 0, evicted = 0;
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
        blocks.release(it->first, false);
        it = running.erase(it);
        ++evicted;
        continue;
      }
      ++run.kv;
      blocks.on_output(it->first, Tokens(++run.output));
      ++it;
    }
  }
  EXPECT_GT(finished, 3000);
  EXPECT_LT(static_cast<double>(evicted), 0.01 * static_cast<double>(finished));
}

}  // namespace
}  // namespace pd::policy
