#include "transfer/staging.h"

#include <gtest/gtest.h>

#include <vector>

namespace pd::transfer {
namespace {

constexpr std::int64_t kMiB = 1 << 20;

TEST(Staging, GivesUpToItsBudgetAndReusesWhatComesBack) {
  Staging staging(Bytes(4 * kMiB));
  auto a = staging.take(Bytes(2 * kMiB));
  auto b = staging.take(Bytes(kMiB + 1));
  ASSERT_TRUE(a && b);
  EXPECT_FALSE(staging.take(Bytes(1)));
  const std::byte* memory = a->memory().data();
  staging.give_back(std::move(*a));
  auto c = staging.take(Bytes(2 * kMiB - 5));
  ASSERT_TRUE(c);
  EXPECT_EQ(c->memory().data(), memory);
  staging.give_back(std::move(*b));
  staging.give_back(std::move(*c));
  EXPECT_EQ(staging.taken(), Bytes(0));
}

TEST(Staging, SparePagesMakeWayForAnotherSize) {
  Staging staging(Bytes(4 * kMiB));
  std::vector<Pages> ones;
  for (int i = 0; i < 4; ++i) ones.push_back(std::move(*staging.take(Bytes(kMiB))));
  for (Pages& one : ones) staging.give_back(std::move(one));
  auto whole = staging.take(staging.budget());
  ASSERT_TRUE(whole);
  EXPECT_FALSE(staging.take(Bytes(1)));
  staging.give_back(std::move(*whole));
  // A spare four times too large is not used: one byte does not take the whole budget away from the
  // others.
  auto small = staging.take(Bytes(1));
  ASSERT_TRUE(small);
  EXPECT_EQ(staging.taken(), Bytes(kMiB));
}

TEST(Staging, ABudgetBelowAStepIsUsableToItsLastByte) {
  Staging staging(Bytes(5000));
  auto all = staging.take(Bytes(5000));
  ASSERT_TRUE(all);
  EXPECT_GE(all->memory().size(), 5000U);
  EXPECT_LE(staging.taken(), staging.budget());
}

}  // namespace
}  // namespace pd::transfer
