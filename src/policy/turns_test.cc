#include "policy/turns.h"

#include <gtest/gtest.h>

namespace pd::policy {
namespace {

using std::chrono::seconds;
using Told = std::vector<int>;

constexpr Time kStart{seconds(1000)};

TEST(Turns, TellsThoseWhoWereRejectedTheLongestAgoFirst) {
  Turns<int> turns({.told = 2});
  for (const int asker : {1, 2, 3, 1}) turns.on_rejected(asker, kStart);
  EXPECT_EQ(turns.on_free(kStart), (Told{1, 2}));
  EXPECT_EQ(turns.on_free(kStart), Told{3});
  EXPECT_EQ(turns.on_free(kStart), Told{}) << "each is told once for what it was rejected for";
}

TEST(Turns, WhoLosesTheRaceComesAfterThoseWhoWait) {
  Turns<int> turns({.told = 1});
  turns.on_rejected(1, kStart);
  turns.on_rejected(2, kStart);
  EXPECT_EQ(turns.on_free(kStart), Told{1});
  turns.on_rejected(1, kStart);  // somebody else was faster
  EXPECT_EQ(turns.on_free(kStart), Told{2});
  EXPECT_EQ(turns.on_free(kStart), Told{1});
}

TEST(Turns, WhoHasAPlaceOrWasRejectedLongAgoIsNotTold) {
  Turns<int> turns;
  turns.on_rejected(1, kStart);
  turns.on_rejected(2, kStart);
  turns.on_accepted(1);
  EXPECT_EQ(turns.on_free(kStart + seconds(5)), Told{2});
  turns.on_rejected(3, kStart);
  EXPECT_EQ(turns.on_free(kStart + seconds(6)), Told{});
}

TEST(Turns, RemembersNoMoreThanItMay) {
  Turns<int> turns({.told = 100, .askers_max = 3});
  for (int asker = 0; asker < 10; ++asker) turns.on_rejected(asker, kStart);
  EXPECT_EQ(turns.on_free(kStart), (Told{7, 8, 9}));
}

}  // namespace
}  // namespace pd::policy
