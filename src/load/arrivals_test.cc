#include "load/arrivals.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace pd::load {
namespace {

using namespace std::chrono_literals;
constexpr std::size_t kAll = SIZE_MAX;

std::vector<Duration> times(OpenArrivals arrivals, Duration length, std::uint64_t seed = 1) {
  Rng rng(seed);
  return arrival_times(arrivals, length, kAll, rng);
}

// Mean and coefficient of variation of the gaps, in seconds.
std::pair<double, double> gaps(const std::vector<Duration>& at) {
  double sum = 0, squares = 0;
  for (std::size_t i = 1; i < at.size(); ++i) {
    const double gap = to_seconds(at[i] - at[i - 1]);
    sum += gap, squares += gap * gap;
  }
  const double n = static_cast<double>(at.size() - 1), mean = sum / n;
  return {mean, std::sqrt(squares / n - mean * mean) / mean};
}

TEST(Arrivals, KeepTheirRate) {
  const auto even = times({.law = OpenArrivals::Law::kEven, .rate = 100, .end_rate = {}}, 2s);
  ASSERT_EQ(even.size(), 200U);
  EXPECT_EQ(even[0], 0s);
  EXPECT_NEAR(to_seconds(even[150]), 1.5, 1e-6);
  const auto poisson = times({.rate = 1000, .end_rate = {}}, 20s);
  // The count is Poisson with mean 20,000: five standard deviations are 707.
  EXPECT_NEAR(static_cast<double>(poisson.size()), 20000, 707);
  EXPECT_TRUE(std::ranges::is_sorted(poisson));
  EXPECT_LT(poisson.back(), 20s);
  const auto [mean, variation] = gaps(poisson);
  EXPECT_NEAR(mean, 0.001, 0.00005);
  EXPECT_NEAR(variation, 1, 0.05);
  EXPECT_EQ(poisson, times({.rate = 1000, .end_rate = {}}, 20s));
  EXPECT_NE(poisson, times({.rate = 1000, .end_rate = {}}, 20s, 2));
  EXPECT_TRUE(times({.rate = 0, .end_rate = {}}, 20s).empty());
}

TEST(Arrivals, BurstsVaryAsAskedAndKeepTheRate) {
  for (const double wanted : {0.5, 2.0, 5.0}) {
    const auto at = times(
        {.law = OpenArrivals::Law::kGamma, .rate = 1000, .end_rate = {}, .burstiness = wanted},
        200s);
    const auto [mean, variation] = gaps(at);
    // The mean of n gaps varies by variation / sqrt(n); the bounds are wide multiples of that.
    EXPECT_NEAR(mean, 0.001, 0.0001 * wanted) << wanted;
    EXPECT_NEAR(variation / wanted, 1, 0.1) << wanted;
  }
}

TEST(Arrivals, ARampChangesEvenly) {
  const auto up = times({.law = OpenArrivals::Law::kEven, .rate = 10, .end_rate = 90}, 10s);
  EXPECT_NEAR(static_cast<double>(up.size()), 500, 2);
  const auto before = [&up](Duration limit) {
    return std::ranges::lower_bound(up, limit) - up.begin();
  };
  EXPECT_NEAR(static_cast<double>(before(5s)), 10 * 5 + 0.5 * 8 * 25, 2);
  const auto down = times({.rate = 90, .end_rate = 10}, 10s);
  EXPECT_NEAR(static_cast<double>(down.size()), 500, 112);
  EXPECT_TRUE(std::ranges::is_sorted(down));
}

TEST(Arrivals, ACountEndsThem) {
  Rng rng(1);
  EXPECT_EQ(arrival_times({.rate = 5, .end_rate = {}}, std::nullopt, 17, rng).size(), 17U);
}

TEST(Draws, HaveTheirMeans) {
  Rng rng(3);
  const auto mean = [](auto draw) {
    double sum = 0;
    for (int i = 0; i < 200'000; ++i) sum += draw();
    return sum / 200'000;
  };
  EXPECT_NEAR(mean([&] { return gamma_draw(rng, 0.25, 8); }), 2, 0.05);
  EXPECT_NEAR(mean([&] { return gamma_draw(rng, 9, 0.5); }), 4.5, 0.05);
  EXPECT_NEAR(mean([&] { return weibull_draw(rng, 0.5, 1); }), 2, 0.06);
  EXPECT_NEAR(mean([&] { return normal_draw(rng); }), 0, 0.02);
}

TEST(ParseRate, TakesARateOrARamp) {
  EXPECT_EQ(parse_rate("12.5")->rate, 12.5);
  EXPECT_EQ(parse_rate("12.5")->end_rate, std::nullopt);
  EXPECT_EQ(parse_rate("1:50")->end_rate, 50);
  for (const char* bad : {"", "0", "-1", "x", "1:", ":2", "1:0", "1:2:3", "nan", "inf", "1e9"})
    EXPECT_FALSE(parse_rate(bad)) << bad;
}

}  // namespace
}  // namespace pd::load
