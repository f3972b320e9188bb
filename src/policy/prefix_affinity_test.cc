#include "policy/prefix_affinity.h"

#include <gtest/gtest.h>

#include <map>
#include <numeric>

namespace pd::policy {
namespace {

std::vector<TokenId> prompt(TokenId first, std::size_t length) {
  std::vector<TokenId> out(length);
  std::iota(out.begin(), out.end(), first);
  return out;
}

TEST(PrefixHashes, AreEqualAsFarAsThePromptsAre) {
  auto a = prompt(0, 64 * 4 + 63), b = a;
  b[64 * 2 + 5] = -1;
  const auto of_a = prefix_hashes(a, 7), of_b = prefix_hashes(b, 7);
  ASSERT_EQ(of_a.size(), 4u);
  ASSERT_EQ(of_b.size(), 4u);
  EXPECT_EQ(of_a[0], of_b[0]);
  EXPECT_EQ(of_a[1], of_b[1]);
  EXPECT_NE(of_a[2], of_b[2]);
  EXPECT_NE(of_a[3], of_b[3]) << "a hash covers everything before it";
  EXPECT_NE(prefix_hashes(a, 8)[0], of_a[0]) << "tenants share nothing";
  EXPECT_TRUE(prefix_hashes(prompt(0, 63), 7).empty());
  EXPECT_EQ(prefix_hashes(prompt(0, 6400), 7, Tokens(64), 10).size(), 10u);
}

TEST(PrefixAffinity, FindsTheLongestPrefixItHasSent) {
  PrefixAffinity known(1000);
  const auto turn1 = prompt(0, 64 * 3);
  const auto turn2 = prompt(0, 64 * 6);
  EXPECT_FALSE(known.find(prefix_hashes(turn1, 1)));
  known.record(prefix_hashes(turn1, 1), WorkerId(5));
  const auto match = known.find(prefix_hashes(turn2, 1));
  ASSERT_TRUE(match);
  EXPECT_EQ(match->worker, WorkerId(5));
  EXPECT_EQ(match->blocks, 3u);
  EXPECT_FALSE(known.find(prefix_hashes(turn2, 2))) << "of another tenant";
  known.record(prefix_hashes(turn2, 1), WorkerId(6));
  EXPECT_EQ(known.find(prefix_hashes(turn2, 1))->worker, WorkerId(6));
  EXPECT_EQ(known.find(prefix_hashes(turn1, 1))->worker, WorkerId(5)) << "it is there, too";
}

TEST(PrefixAffinity, ForgetsTheLeastRecentlyUsedAndTheEndsOfPrefixesFirst) {
  PrefixAffinity known(10);
  const auto old = prefix_hashes(prompt(0, 64 * 6), 1);
  known.record(old, WorkerId(1));
  for (TokenId i = 1; i <= 2; ++i)
    known.record(prefix_hashes(prompt(i * 10000, 64 * 4), 1), WorkerId(2));
  EXPECT_EQ(known.size(), 10u);
  const auto match = known.find(old);
  ASSERT_TRUE(match);
  EXPECT_EQ(match->blocks, 2u);
}

TEST(PrefixAffinity, ForgetsAWorkerThatHasGone) {
  PrefixAffinity known(1000);
  const auto a = prefix_hashes(prompt(0, 640), 1), b = prefix_hashes(prompt(9000, 640), 1);
  known.record(a, WorkerId(1));
  known.record(b, WorkerId(2));
  known.forget(WorkerId(1));
  EXPECT_FALSE(known.find(a));
  EXPECT_TRUE(known.find(b));
  EXPECT_EQ(known.size(), 10u);
}

// When one of ten goes, its keys move and no others; each of the rest gets its share of them.
TEST(Rendezvous, MovesOnlyTheKeysOfWhoWentAway) {
  const auto first = [](std::uint64_t key, std::uint64_t without) {
    std::uint64_t best = 0, score = 0;
    for (std::uint64_t worker = 1; worker <= 10; ++worker) {
      if (worker == without) continue;
      const std::uint64_t s = rendezvous_score(key, WorkerId(worker));
      if (best == 0 || s > score) best = worker, score = s;
    }
    return best;
  };
  std::map<std::uint64_t, int> share, moved_to;
  for (std::uint64_t key = 0; key < 10000; ++key) {
    const std::uint64_t before = first(key, 0), after = first(key, 3);
    ++share[before];
    if (before == 3)
      ++moved_to[after];
    else
      EXPECT_EQ(before, after);
  }
  for (const auto& [worker, count] : share) EXPECT_NEAR(count, 1000, 150) << worker;
  for (const auto& [worker, count] : moved_to) EXPECT_NEAR(count, 1000 / 9, 50) << worker;
}

}  // namespace
}  // namespace pd::policy
