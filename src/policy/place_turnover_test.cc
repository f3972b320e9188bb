#include "policy/place_turnover.h"

#include <gtest/gtest.h>

namespace pd::policy {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class PlaceTurnoverTest : public testing::Test {
 protected:
  void hold_one(Duration hold) {
    const Time taken = now_;
    turnover_.on_taken(taken);
    now_ += hold;
    turnover_.on_freed(taken, true, now_);
  }
  // Times are kept as seconds in floating point.
  void expect_hold(Duration hold) {
    ASSERT_TRUE(turnover_.hold(now_));
    EXPECT_NEAR(to_seconds(*turnover_.hold(now_)), to_seconds(hold), 1e-6);
  }

  PlaceTurnover turnover_;
  Time now_{seconds(1000)};
};

TEST_F(PlaceTurnoverTest, BeforeOneHasEndedNothingIsKnown) {
  turnover_.on_taken(now_);
  now_ += seconds(5);
  EXPECT_FALSE(turnover_.hold(now_));
  EXPECT_FALSE(turnover_.freed_every(now_));
}

TEST_F(PlaceTurnoverTest, TheMeanFollowsAChangeAndIdleTimeIsNone) {
  hold_one(milliseconds(100));
  now_ += seconds(100);
  expect_hold(milliseconds(100));
  hold_one(milliseconds(900));
  expect_hold(milliseconds(200));
  for (int i = 0; i < 40; ++i) hold_one(milliseconds(900));
  EXPECT_GT(*turnover_.hold(now_), milliseconds(890));
}

TEST_F(PlaceTurnoverTest, ThoseThatStillHoldTheirsCountByTheirAge) {
  hold_one(milliseconds(50));
  turnover_.on_taken(now_);
  turnover_.on_taken(now_ + seconds(10));
  now_ += milliseconds(20);
  expect_hold(milliseconds(50));
  now_ += seconds(20);
  expect_hold(seconds(15) + milliseconds(20));
}

TEST_F(PlaceTurnoverTest, SeveralBecomeFreeThatMuchMoreOften) {
  hold_one(milliseconds(400));
  for (int i = 0; i < 4; ++i) turnover_.on_taken(now_);
  EXPECT_EQ(turnover_.held(), 4);
  EXPECT_EQ(turnover_.freed_every(now_), milliseconds(100));
}

// One that was cancelled says nothing of how long the others take.
TEST_F(PlaceTurnoverTest, WhatIsNotMeasuredOnlyFreesItsPlace) {
  hold_one(milliseconds(400));
  turnover_.on_taken(now_);
  turnover_.on_freed(now_, false, now_ + milliseconds(1));
  EXPECT_EQ(turnover_.held(), 0);
  expect_hold(milliseconds(400));
}

}  // namespace
}  // namespace pd::policy
