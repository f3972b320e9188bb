#include "policy/tenant_limits.h"

#include <gtest/gtest.h>

#include <vector>

namespace pd::policy {
namespace {

using std::chrono::seconds;

constexpr TenantId kA{1}, kB{2};

class TenantLimitsTest : public testing::Test {
 protected:
  TenantLimits limits_;
  Time now_{seconds(1000)};
};

TEST_F(TenantLimitsTest, WithoutAQuotaEverythingComesIn) {
  for (int i = 0; i < 10000; ++i) ASSERT_FALSE(limits_.admit(kA, now_));
  EXPECT_FALSE(limits_.admit_tokens(kA, Tokens(1'000'000'000), now_));
}

TEST_F(TenantLimitsTest, RequestsAMinuteAreABurstThenAnAverage) {
  limits_.set_quota(kA, {.requests_per_minute = 60}, now_);
  int admitted = 0;
  while (!limits_.admit(kA, now_)) ++admitted;
  EXPECT_EQ(admitted, 60);
  const auto refusal = limits_.admit(kA, now_);
  EXPECT_EQ(refusal->what, TenantLimits::Exceeded::kRequests);
  EXPECT_NEAR(to_seconds(refusal->retry_after), 1, 1e-6);
  EXPECT_FALSE(limits_.admit(kB, now_)) << "another tenant's is its own";
  for (int second = 0; second < 100; ++second) {
    now_ += seconds(1);
    while (!limits_.admit(kA, now_)) ++admitted;
  }
  EXPECT_NEAR(admitted, 160, 1);
  now_ += seconds(3600);
  admitted = 0;
  while (!limits_.admit(kA, now_)) ++admitted;
  EXPECT_EQ(admitted, 60) << "a long pause saves up a minute";
}

TEST_F(TenantLimitsTest, AClockThatLagsOnAnotherThreadBuysNothing) {
  limits_.set_quota(kA, {.requests_per_minute = 60}, now_);
  while (!limits_.admit(kA, now_)) {
  }
  for (int i = 0; i < 1000; ++i) {
    EXPECT_TRUE(limits_.admit(kA, now_ - std::chrono::milliseconds(5)));
    EXPECT_TRUE(limits_.admit(kA, now_));
    limits_.count_output(kA, Tokens(0), now_ - std::chrono::milliseconds(5));
  }
  now_ += seconds(1);
  EXPECT_FALSE(limits_.admit(kA, now_ - std::chrono::milliseconds(0)));
  EXPECT_TRUE(limits_.admit(kA, now_ - std::chrono::milliseconds(500)));
  EXPECT_TRUE(limits_.admit(kA, now_));
}

TEST_F(TenantLimitsTest, RequestsAtOnceComeBackWhenTheyEnd) {
  limits_.set_quota(kA, {.concurrency = 2}, now_);
  EXPECT_FALSE(limits_.admit(kA, now_));
  EXPECT_FALSE(limits_.admit(kA, now_));
  EXPECT_EQ(limits_.admit(kA, now_)->what, TenantLimits::Exceeded::kConcurrency);
  limits_.release(kA);
  EXPECT_FALSE(limits_.admit(kA, now_));
}

TEST_F(TenantLimitsTest, TokensCountPromptsAtOnceAndOutputsWhenTheyHaveEnded) {
  limits_.set_quota(kA, {.tokens_per_minute = 600}, now_);
  EXPECT_FALSE(limits_.admit(kA, now_));
  EXPECT_FALSE(limits_.admit_tokens(kA, Tokens(500), now_));
  const auto refusal = limits_.admit_tokens(kA, Tokens(200), now_);
  ASSERT_TRUE(refusal);
  EXPECT_EQ(refusal->what, TenantLimits::Exceeded::kTokens);
  EXPECT_NEAR(to_seconds(refusal->retry_after), 10, 1e-6);
  limits_.count_output(kA, Tokens(400), now_);  // 300 overdrawn
  const auto overdrawn = limits_.admit(kA, now_);
  ASSERT_TRUE(overdrawn);
  EXPECT_NEAR(to_seconds(overdrawn->retry_after), 30.1, 0.01);
  now_ += seconds(31);
  EXPECT_FALSE(limits_.admit(kA, now_));
}

TEST_F(TenantLimitsTest, APromptLargerThanAMinutesWorthNeedsAFullBucket) {
  limits_.set_quota(kA, {.tokens_per_minute = 600}, now_);
  EXPECT_FALSE(limits_.admit_tokens(kA, Tokens(6000), now_));
  EXPECT_TRUE(limits_.admit_tokens(kA, Tokens(6000), now_));
  now_ += seconds(599);
  EXPECT_TRUE(limits_.admit_tokens(kA, Tokens(6000), now_));
  now_ += seconds(2);
  EXPECT_FALSE(limits_.admit_tokens(kA, Tokens(6000), now_));
}

TEST_F(TenantLimitsTest, ANewQuotaDoesNotForgiveWhatWasUsed) {
  limits_.set_quota(kA, {.requests_per_minute = 10}, now_);
  for (int i = 0; i < 8; ++i) EXPECT_FALSE(limits_.admit(kA, now_));
  limits_.set_quota(kA, {.requests_per_minute = 20}, now_);
  EXPECT_NEAR(limits_.standing(kA).requests.left(now_), 12, 1e-9);
  limits_.set_quota(kA, {.requests_per_minute = 20, .concurrency = 3}, now_);
  EXPECT_NEAR(limits_.standing(kA).requests.left(now_), 12, 1e-9);
  EXPECT_EQ(limits_.standing(kA).running, 8);
}

TEST_F(TenantLimitsTest, NeverMoreThanTheQuotaInAnyMinuteBeyondTheBurst) {
  limits_.set_quota(kA, {.requests_per_minute = 120}, now_);
  std::vector<Time> admitted;
  for (int i = 0; i < 20000; ++i) {
    now_ += std::chrono::milliseconds(17);
    if (!limits_.admit(kA, now_)) admitted.push_back(now_);
  }
  for (std::size_t i = 240; i < admitted.size(); ++i)
    ASSERT_GT(admitted[i] - admitted[i - 240], seconds(59));
}

}  // namespace
}  // namespace pd::policy
