#include "policy/linear_cost.h"

#include <gtest/gtest.h>

#include <limits>

#include "base/rng.h"

namespace pd::policy {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

TEST(LinearCost, FindsWhatIsFixedAndWhatGrows) {
  LinearCost cost(milliseconds(100), microseconds(0));
  EXPECT_DOUBLE_EQ(cost.seconds(50), 0.1) << "the guess";
  Rng rng(1);
  for (int i = 0; i < 300; ++i) {
    const auto units = static_cast<std::int64_t>(rng.below(1000));
    const auto noise = microseconds(static_cast<std::int64_t>(rng.below(200)) - 100);
    cost.on_measured(units, milliseconds(3) + microseconds(20) * units + noise);
  }
  EXPECT_NEAR(cost.seconds(0), 0.003, 0.0002);
  EXPECT_NEAR(cost.seconds(1000), 0.023, 0.0005);
  for (int i = 0; i < 300; ++i) cost.on_measured(500, milliseconds(40));
  EXPECT_NEAR(cost.seconds(500), 0.040, 0.002) << "it follows, also if all are alike";
}

TEST(LinearCost, ExtremesStayFinite) {
  LinearCost cost(milliseconds(1), microseconds(1));
  for (int i = 0; i < 10; ++i) cost.on_measured(INT64_MAX, Duration::max());
  for (int i = 0; i < 10; ++i) cost.on_measured(-5, Duration(-1));
  EXPECT_GE(cost.seconds(INT64_MAX), 0.0);
  EXPECT_LT(cost.seconds(INT64_MAX), 1e9);
}

TEST(LinearCost, FewTakeLongerThanAtMost) {
  LinearCost cost(milliseconds(1), microseconds(50));
  int beyond = 0;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    const auto units = static_cast<std::int64_t>(100 + counter_random(1, 2 * i) % 900);
    const auto noise = static_cast<std::int64_t>(counter_random(1, 2 * i + 1) % 20000);
    const Duration took = milliseconds(20) + units * microseconds(100) + microseconds(noise);
    if (i >= 100 && took > cost.at_most(units)) ++beyond;
    cost.on_measured(units, took);
  }
  EXPECT_LT(beyond, 9);
  EXPECT_GT(cost.at_most(500), milliseconds(20 + 50 + 10));
  EXPECT_LT(cost.at_most(500), milliseconds(20 + 50 + 10 + 25));
}

}  // namespace
}  // namespace pd::policy
