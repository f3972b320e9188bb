#include "base/rng.h"

#include <gtest/gtest.h>

#include <array>
#include <set>

namespace pd {
namespace {

TEST(Rng, SameSeedGivesTheSameStream) {
  Rng a(7), b(7), c(8);
  const auto first = a.next();
  EXPECT_EQ(first, b.next());
  EXPECT_NE(first, c.next());
}

TEST(Rng, BelowCoversItsRangeEvenly) {
  Rng rng(1);
  std::array<int, 10> seen{};
  for (int i = 0; i < 100000; ++i) ++seen[rng.below(10)];
  for (const int n : seen) EXPECT_NEAR(n, 10000, 500);  // 5 sigma of a binomial(1e5, 0.1)
}

TEST(CounterRandom, DependsOnSeedAndCounterOnly) {
  EXPECT_EQ(counter_random(5, 9), counter_random(5, 9));
  std::set<std::uint64_t> all;
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    for (std::uint64_t counter = 0; counter < 100; ++counter)
      all.insert(counter_random(seed, counter));
  }
  EXPECT_EQ(all.size(), 10000u);
}

}  // namespace
}  // namespace pd
