#include "transfer/send_buffer.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/rng.h"

namespace pd::transfer {
namespace {

TEST(SendBuffer, GrantsUntilFullAndMergesWhatIsFreed) {
  SendBuffer buffer(Bytes(4 * 4096));
  const auto a = buffer.reserve(Bytes(1));
  const auto b = buffer.reserve(Bytes(4096));
  const auto c = buffer.reserve(Bytes(4097));
  ASSERT_TRUE(a && b && c);
  EXPECT_EQ(buffer.used(), Bytes(4 * 4096));
  EXPECT_FALSE(buffer.reserve(Bytes(1)));
  buffer.release(*a);
  buffer.release(*c);
  EXPECT_EQ(buffer.largest_gap(), Bytes(2 * 4096));
  buffer.release(*b);
  EXPECT_EQ(buffer.largest_gap(), buffer.capacity());
  EXPECT_EQ(buffer.ranges(), 0U);
}

TEST(SendBuffer, RefusesMoreThanItsCapacityWithoutOverflow) {
  SendBuffer buffer(Bytes(8192), Bytes(64));
  EXPECT_FALSE(buffer.reserve(Bytes(8193)));
  EXPECT_FALSE(buffer.reserve(Bytes(INT64_MAX)));
  EXPECT_TRUE(buffer.reserve(Bytes(8192)));
}

TEST(SendBuffer, ACapacityThatIsNotAlignedLosesItsTail) {
  EXPECT_EQ(SendBuffer(Bytes(8191)).capacity(), Bytes(4096));
  SendBuffer none(Bytes(100));
  EXPECT_FALSE(none.reserve(Bytes(1)));
}

TEST(SendBuffer, TakesTheSmallestGapThatFits) {
  SendBuffer buffer(Bytes(10 * 64), Bytes(64));
  std::vector<std::uint64_t> units;
  for (int i = 0; i < 10; ++i) units.push_back(*buffer.reserve(Bytes(64)));
  for (const int i : {1, 2, 3, 6}) buffer.release(units[static_cast<std::size_t>(i)]);
  EXPECT_EQ(buffer.reserve(Bytes(64)), units[6]);
  EXPECT_EQ(buffer.reserve(Bytes(64)), units[1]);
}

// Random reservations and releases against the plainest model: one flag per aligned unit.
TEST(SendBuffer, ConservesBytesAndNeverOverlaps) {
  constexpr std::uint64_t kUnits = 300;
  for (std::uint64_t seed = 0; seed < 30; ++seed) {
    Rng rng(seed);
    SendBuffer buffer(Bytes(kUnits * 64), Bytes(64));
    std::vector<bool> taken(kUnits, false);
    std::vector<std::pair<std::uint64_t, std::uint64_t>> held;  // offset, units
    const auto longest_free_run = [&taken] {
      std::uint64_t longest = 0;
      std::uint64_t run = 0;
      for (const bool t : taken) longest = std::max(longest, run = t ? 0 : run + 1);
      return longest;
    };
    for (int step = 0; step < 2000; ++step) {
      if (rng.below(5) < 3) {
        const std::uint64_t bytes = 1 + rng.below(40 * 64);
        const std::uint64_t units = (bytes + 63) / 64;
        const bool fits = longest_free_run() >= units;
        const auto offset = buffer.reserve(Bytes(static_cast<std::int64_t>(bytes)));
        ASSERT_EQ(offset.has_value(), fits);
        if (!offset) continue;
        ASSERT_EQ(*offset % 64, 0U);
        for (std::uint64_t u = *offset / 64; u < *offset / 64 + units; ++u) {
          ASSERT_LT(u, kUnits);
          ASSERT_FALSE(taken[u]);
          taken[u] = true;
        }
        held.emplace_back(*offset, units);
      } else if (!held.empty()) {
        const std::size_t i = rng.below(held.size());
        buffer.release(held[i].first);
        for (std::uint64_t u = 0; u < held[i].second; ++u) taken[held[i].first / 64 + u] = false;
        held.erase(held.begin() + static_cast<std::ptrdiff_t>(i));
      }
      ASSERT_EQ(buffer.used().value(), 64 * std::count(taken.begin(), taken.end(), true));
      ASSERT_EQ(buffer.largest_gap().value(), static_cast<std::int64_t>(64 * longest_free_run()));
      ASSERT_EQ(buffer.ranges(), held.size());
    }
    for (const auto& [offset, units] : held) buffer.release(offset);
    ASSERT_EQ(buffer.largest_gap(), buffer.capacity());
  }
}

TEST(SendBufferDeathTest, ReleasingWhatIsNotHeldIsABug) {
  SendBuffer buffer(Bytes(8192));
  const auto offset = buffer.reserve(Bytes(1));
  buffer.release(*offset);
  EXPECT_DEATH(buffer.release(*offset), "held");
}

}  // namespace
}  // namespace pd::transfer
