#include "policy/retry_budget.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace pd::policy {
namespace {

using std::chrono::seconds;

TEST(RetryBudget, IsAShareOfTheTrafficOnceTheBurstIsSpent) {
  RetryBudget budget({.share = 0.1, .per_second = 1e-9, .burst = 5});
  const Time now{seconds(10)};
  int granted = 0;
  while (budget.take(now)) ++granted;
  EXPECT_EQ(granted, 5);
  for (int i = 0; i < 1000; ++i) {
    budget.on_request();
    granted += budget.take(now);
  }
  EXPECT_NEAR(granted, 105, 1);
}

TEST(RetryBudget, DelaysAndSaysUntilWhen) {
  RetryBudget budget({.share = 0, .per_second = 4, .burst = 2});
  Time now{seconds(10)};
  EXPECT_TRUE(budget.take(now));
  EXPECT_TRUE(budget.take(now));
  EXPECT_FALSE(budget.take(now));
  const Time next = budget.next(now);
  EXPECT_NEAR(to_seconds(next - now), 0.25, 1e-6);
  EXPECT_FALSE(budget.take(now + (next - now) / 2));
  EXPECT_TRUE(budget.take(next));
}

TEST(RetryBudget, SavesUpNoMoreThanItsBurst) {
  RetryBudget budget({.share = 1, .per_second = 100, .burst = 3});
  Time now{seconds(10)};
  EXPECT_TRUE(budget.take(now));
  now += seconds(3600);
  for (int i = 0; i < 100; ++i) budget.on_request();
  int granted = 0;
  while (budget.take(now)) ++granted;
  EXPECT_EQ(granted, 3);
}

// G8, with the defaults: whoever asks all the time is granted a tenth of the traffic.
TEST(RetryBudget, GrantsATenthOfTheTrafficAtEveryPace) {
  for (const int every_ms : {1, 100, 1000, 100000}) {
    const RetryBudgetOptions shipped;
    RetryBudget budget(shipped);
    Time now{seconds(10)};
    const int requests = 600;
    int granted = 0;
    for (int i = 0; i < requests; ++i, now += std::chrono::milliseconds(every_ms)) {
      budget.on_request();
      while (budget.take(now)) ++granted;
    }
    const double idle = every_ms * 1e-3 * requests * shipped.per_second;
    EXPECT_LE(granted, shipped.burst + std::max(requests * 0.1, idle) + 1) << every_ms << " ms";
    EXPECT_GE(granted, shipped.burst + requests * 0.1 - 2) << every_ms << " ms";
  }
}

}  // namespace
}  // namespace pd::policy
