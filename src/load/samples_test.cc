#include "load/samples.h"

#include <gtest/gtest.h>

namespace pd::load {
namespace {

TEST(Samples, PercentileIsTheNearestRank) {
  const std::vector<double> ten{1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  EXPECT_EQ(percentile(ten, 0.5), 5);
  EXPECT_EQ(percentile(ten, 0.51), 6);
  EXPECT_EQ(percentile(ten, 0.99), 10);
  EXPECT_EQ(percentile(ten, 1.0), 10);
  EXPECT_EQ(percentile(ten, 0.01), 1);
  EXPECT_EQ(percentile({7}, 0.99), 7);
  EXPECT_EQ(percentile({}, 0.5), 0);
}

TEST(Samples, SpreadIsMedianAndRange) {
  const Spread odd = spread({3, 1, 2});
  EXPECT_EQ(odd.median, 2);
  EXPECT_EQ(odd.least, 1);
  EXPECT_EQ(odd.most, 3);
  EXPECT_EQ(spread({4, 1, 2, 3}).median, 2.5);
  EXPECT_EQ(to_string(odd, 1), "2.0 [1.0, 3.0]");
}

}  // namespace
}  // namespace pd::load
