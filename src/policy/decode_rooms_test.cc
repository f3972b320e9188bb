#include "policy/decode_rooms.h"

#include <gtest/gtest.h>

#include "base/rng.h"

namespace pd::policy {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr WorkerId kD0{10}, kD1{11}, kD2{12};
constexpr Duration kStale = milliseconds(250);

class DecodeRoomsTest : public testing::Test {
 protected:
  DecodeRoomsTest() {
    for (const WorkerId worker : {kD0, kD1}) pool_.upsert(worker, 32);
  }
  static DecodeRoom room(std::int64_t requests, std::int64_t free, std::int64_t spare,
                         std::int64_t growth = 0) {
    return {.requests = requests,
            .places = 32 - requests,
            .free = BlockCount(free),
            .spare = BlockCount(spare),
            .block_tokens = Tokens(16),
            .growth = Tokens(growth)};
  }
  static DecodeDemand demand(std::int64_t kv, std::int64_t left = 1000) {
    return {Tokens(kv), Tokens(left)};
  }
  std::optional<WorkerId> choose(const DecodeDemand& demand,
                                 const std::set<WorkerId>& claimed = {}) const {
    return rooms_.choose(pool_, demand, claimed, 0, now_);
  }

  Time now_{seconds(1000)};
  WorkerPool pool_{WorkerPoolOptions{}};
  DecodeRooms rooms_{kStale};
};

TEST_F(DecodeRoomsTest, OnlyWhereItsBlocksAreFree) {
  rooms_.on_stated(kD0, room(1, 3, 3), now_);
  rooms_.on_stated(kD1, room(9, 8, 8), now_);
  EXPECT_EQ(choose(demand(47)), kD0) << "three blocks with the next token; fewer requests there";
  EXPECT_EQ(choose(demand(48)), kD1);
  EXPECT_EQ(choose(demand(127)), kD1);
  EXPECT_EQ(choose(demand(128)), std::nullopt);
}

TEST_F(DecodeRoomsTest, RatherWhereItsGrowthFitsToo) {
  rooms_.on_stated(kD0, room(1, 20, 3, 64), now_);
  rooms_.on_stated(kD1, room(9, 20, 8, 64), now_);
  EXPECT_EQ(choose(demand(31)), kD1);
  EXPECT_EQ(choose(demand(31, 8)), kD0) << "it cannot grow by more than is left of it";
  rooms_.on_stated(kD1, room(9, 20, 1, 64), now_);
  EXPECT_EQ(choose(demand(31)), kD0) << "nowhere whole: where it fits as it is";
}

TEST_F(DecodeRoomsTest, NoPlaceIsNoRoomAndAnEmptyOneTakesEverything) {
  DecodeRoom full = room(32, 100, 100);
  rooms_.on_stated(kD0, full, now_);
  rooms_.on_stated(kD1, full, now_);
  EXPECT_EQ(choose(demand(1)), std::nullopt);
  rooms_.on_stated(kD1, room(0, 4, 4), now_);
  EXPECT_EQ(choose(demand(500)), kD1) << "whether it is too large is for D to say";
}

TEST_F(DecodeRoomsTest, WhatIsOnItsWayIsTaken) {
  rooms_.on_stated(kD0, room(1, 10, 10), now_);
  rooms_.on_stated(kD1, room(2, 10, 10), now_);
  EXPECT_EQ(choose(demand(100)), kD0);
  rooms_.on_sent(kD0, demand(100));
  EXPECT_EQ(choose(demand(100)), kD1);
  rooms_.on_sent(kD1, demand(100));
  EXPECT_EQ(choose(demand(100)), std::nullopt);
  // D0 states what is left with it, then accepts.
  rooms_.on_stated(kD0, room(2, 3, 3), now_);
  rooms_.on_answered(kD0, demand(100));
  EXPECT_EQ(choose(demand(100)), std::nullopt);
  EXPECT_EQ(choose(demand(40)), kD0);
  rooms_.on_answered(kD1, demand(100));  // given up on the way
  EXPECT_EQ(choose(demand(100)), kD1);
}

TEST_F(DecodeRoomsTest, UnknownAndStaleMayBeAsked) {
  rooms_.on_stated(kD0, room(3, 0, 0), now_);
  rooms_.on_stated(kD1, room(3, 0, 0), now_ + milliseconds(10));
  EXPECT_EQ(choose(demand(1)), std::nullopt);
  EXPECT_EQ(rooms_.next_stale(now_), now_ + kStale);
  pool_.upsert(kD2, 32);
  EXPECT_EQ(choose(demand(1)), kD2) << "nothing is known of it";
  pool_.remove(kD2);
  now_ += kStale;
  EXPECT_EQ(choose(demand(1)), kD0);
  EXPECT_EQ(rooms_.next_stale(now_), now_ + milliseconds(10));
  now_ += milliseconds(10);
  EXPECT_EQ(rooms_.next_stale(now_), std::nullopt);
}

TEST_F(DecodeRoomsTest, ALargeOneKeepsTheRoomiestForItself) {
  rooms_.on_stated(kD0, room(5, 6, 4), now_);
  rooms_.on_stated(kD1, room(5, 6, 5), now_);
  EXPECT_EQ(choose(demand(200)), std::nullopt);
  const auto claimed = rooms_.claim(pool_, {});
  EXPECT_EQ(claimed, kD1);
  EXPECT_EQ(choose(demand(10), {*claimed}), kD0) << "a small one behind it goes elsewhere";
  EXPECT_EQ(rooms_.claim(pool_, {kD0, kD1}), std::nullopt);
}

TEST_F(DecodeRoomsTest, RandomOrdersLeaveNothingOnItsWay) {
  Rng rng(4);
  std::vector<DecodeDemand> open;
  for (int i = 0; i < 2000; ++i) {
    if (open.empty() || rng.below(2) == 0) {
      open.push_back(demand(static_cast<std::int64_t>(rng.below(1000))));
      rooms_.on_sent(kD0, open.back());
    } else {
      const auto at = rng.below(open.size());
      rooms_.on_answered(kD0, open[at]);
      open.erase(open.begin() + static_cast<std::ptrdiff_t>(at));
    }
  }
  for (const DecodeDemand& one : open) rooms_.on_answered(kD0, one);
  pool_.remove(kD1);
  rooms_.on_stated(kD0, room(1, 10, 10), now_);
  EXPECT_EQ(choose(demand(159)), kD0);
  EXPECT_EQ(choose(demand(160)), std::nullopt);
}

}  // namespace
}  // namespace pd::policy
