#include "policy/tenant_limits.h"

#include <gtest/gtest.h>

#include <vector>

namespace pd::policy {
namespace {

using std::chrono::seconds;

constexpr TenantId kA{1}, kB{2};
constexpr Bytes kBody(100);

class TenantLimitsTest : public testing::Test {
 protected:
  TenantLimits limits_;
  Time now_{seconds(1000)};
};

TEST_F(TenantLimitsTest, WithoutAQuotaEverythingComesIn) {
  for (int i = 0; i < 10000; ++i) ASSERT_FALSE(limits_.admit(kA, kBody, now_));
  EXPECT_FALSE(limits_.admit_tokens(kA, Tokens(1'000'000'000), kBody, now_));
}

TEST_F(TenantLimitsTest, RequestsAMinuteAreABurstThenAnAverage) {
  limits_.set_quota(kA, {.requests_per_minute = 60}, now_);
  int admitted = 0;
  while (!limits_.admit(kA, kBody, now_)) ++admitted;
  EXPECT_EQ(admitted, 60);
  const auto refusal = limits_.admit(kA, kBody, now_);
  EXPECT_EQ(refusal->what, TenantLimits::Exceeded::kRequests);
  EXPECT_NEAR(to_seconds(refusal->retry_after), 1, 1e-6);
  EXPECT_FALSE(limits_.admit(kB, kBody, now_)) << "another tenant's is its own";
  for (int second = 0; second < 100; ++second) {
    now_ += seconds(1);
    while (!limits_.admit(kA, kBody, now_)) ++admitted;
  }
  EXPECT_NEAR(admitted, 160, 1);
  now_ += seconds(3600);
  admitted = 0;
  while (!limits_.admit(kA, kBody, now_)) ++admitted;
  EXPECT_EQ(admitted, 60) << "a long pause saves up a minute";
}

TEST_F(TenantLimitsTest, AClockThatLagsOnAnotherThreadBuysNothing) {
  limits_.set_quota(kA, {.requests_per_minute = 60}, now_);
  while (!limits_.admit(kA, kBody, now_)) {
  }
  for (int i = 0; i < 1000; ++i) {
    EXPECT_TRUE(limits_.admit(kA, kBody, now_ - std::chrono::milliseconds(5)));
    EXPECT_TRUE(limits_.admit(kA, kBody, now_));
    limits_.count_output(kA, Tokens(0), now_ - std::chrono::milliseconds(5));
  }
  now_ += seconds(1);
  EXPECT_FALSE(limits_.admit(kA, kBody, now_ - std::chrono::milliseconds(0)));
  EXPECT_TRUE(limits_.admit(kA, kBody, now_ - std::chrono::milliseconds(500)));
  EXPECT_TRUE(limits_.admit(kA, kBody, now_));
}

TEST_F(TenantLimitsTest, RequestsAtOnceComeBackWhenTheyEnd) {
  limits_.set_quota(kA, {.concurrency = 2}, now_);
  EXPECT_FALSE(limits_.admit(kA, kBody, now_));
  EXPECT_FALSE(limits_.admit(kA, kBody, now_));
  EXPECT_EQ(limits_.admit(kA, kBody, now_)->what, TenantLimits::Exceeded::kConcurrency);
  limits_.release(kA, now_, now_);
  EXPECT_FALSE(limits_.admit(kA, kBody, now_));
}

TEST_F(TenantLimitsTest, TokensCountPromptsAtOnceAndOutputsWhenTheyHaveEnded) {
  limits_.set_quota(kA, {.tokens_per_minute = 600}, now_);
  EXPECT_FALSE(limits_.admit(kA, kBody, now_));
  EXPECT_FALSE(limits_.admit_tokens(kA, Tokens(500), kBody, now_));
  const auto refusal = limits_.admit_tokens(kA, Tokens(200), kBody, now_);
  ASSERT_TRUE(refusal);
  EXPECT_EQ(refusal->what, TenantLimits::Exceeded::kTokens);
  EXPECT_NEAR(to_seconds(refusal->retry_after), 10, 1e-6);
  limits_.count_output(kA, Tokens(400), now_);  // 300 overdrawn
  const auto overdrawn = limits_.admit(kA, Bytes(1), now_);
  ASSERT_TRUE(overdrawn);
  EXPECT_GT(to_seconds(overdrawn->retry_after), 30);
  now_ += seconds(31);
  EXPECT_FALSE(limits_.admit(kA, kBody, now_));
}

TEST_F(TenantLimitsTest, WhoComesBackWhenItWasToldComesIn) {
  limits_.set_quota(kA, {.requests_per_minute = 30, .tokens_per_minute = 600}, now_);
  // Prompts of two tokens a byte and more: the next one's length is guessed from those before.
  for (int i = 0; i < 200; ++i) {
    const Bytes body(50 + i % 7);
    const Tokens prompt(2 * body.value() + i % 3);
    const auto come = [&] {
      const auto refused = limits_.admit(kA, body, now_);
      if (refused) return refused;
      const auto tokens = limits_.admit_tokens(kA, prompt, body, now_);
      if (tokens) limits_.refund(kA, Tokens(0), now_);
      limits_.release(kA, now_, now_);
      return tokens;
    };
    const auto refused = come();
    if (!refused) {
      limits_.count_output(kA, Tokens(i % 40), now_);
      continue;
    }
    now_ += std::chrono::ceil<seconds>(refused->retry_after);
    // The first prompts are longer than anybody could have guessed.
    const bool again = come().has_value();
    ASSERT_FALSE(again && i > 10) << i;
  }
}

TEST_F(TenantLimitsTest, AFewShortBodiesSayLittleAboutALongOne) {
  limits_.set_quota(kA, {.tokens_per_minute = 6000}, now_);
  for (int i = 0; i < 15; ++i) {
    ASSERT_FALSE(limits_.admit(kA, Bytes(60), now_));
    ASSERT_FALSE(limits_.admit_tokens(kA, Tokens(6), Bytes(60), now_));
    limits_.count_output(kA, Tokens(400), now_);
    limits_.release(kA, now_, now_);
  }
  const auto refused = limits_.admit(kA, Bytes(345), now_);
  ASSERT_TRUE(refused);
  now_ += refused->retry_after;
  ASSERT_FALSE(limits_.admit(kA, Bytes(345), now_));
  EXPECT_FALSE(limits_.admit_tokens(kA, Tokens(115), Bytes(345), now_));
}

TEST_F(TenantLimitsTest, WhatNoInstanceWorkedForIsNotCounted) {
  limits_.set_quota(kA, {.requests_per_minute = 2, .tokens_per_minute = 600}, now_);
  for (int i = 0; i < 10; ++i) {
    ASSERT_FALSE(limits_.admit(kA, kBody, now_));
    ASSERT_FALSE(limits_.admit_tokens(kA, Tokens(400), kBody, now_));
    limits_.refund(kA, Tokens(400), now_);
    limits_.release(kA, now_, now_);
  }
  EXPECT_EQ(limits_.standing(kA).requests.left(now_), 2) << "and nothing is won";
  EXPECT_EQ(limits_.standing(kA).tokens.left(now_), 600);
}

TEST_F(TenantLimitsTest, ThePlaceOfTheOldestIsFreeFirst) {
  limits_.set_quota(kA, {.concurrency = 2}, now_);
  const auto wait = [&] { return to_seconds(limits_.admit(kA, kBody, now_)->retry_after); };
  EXPECT_FALSE(limits_.admit(kA, kBody, now_));
  EXPECT_FALSE(limits_.admit(kA, kBody, now_));
  EXPECT_EQ(wait(), 1) << "nothing is known of how long they take";
  const Time begin = now_;
  now_ += seconds(10);
  limits_.release(kA, begin, now_);
  EXPECT_FALSE(limits_.admit(kA, kBody, now_));
  limits_.release(kA, begin, now_);
  now_ += seconds(4);
  EXPECT_FALSE(limits_.admit(kA, kBody, now_));
  EXPECT_NEAR(wait(), 6, 1e-6);
  now_ += seconds(60);
  EXPECT_EQ(wait(), 1) << "longer than expected: any moment";
}

TEST_F(TenantLimitsTest, SeveralGatewaysHaveTheQuotaTogether) {
  std::vector<TenantLimits> gateways(4);
  for (TenantLimits& one : gateways) {
    one.set_gateways(4, now_);
    one.set_quota(kA, {.requests_per_minute = 20, .concurrency = 50}, now_);
  }
  int admitted = 0;
  for (TenantLimits& one : gateways) {
    while (!one.admit(kA, kBody, now_)) {
      one.release(kA, now_, now_);
      ++admitted;
    }
  }
  EXPECT_EQ(admitted, 20);
  now_ += seconds(12);
  for (TenantLimits& one : gateways) {
    EXPECT_FALSE(one.admit(kA, kBody, now_));
    EXPECT_TRUE(one.admit(kA, kBody, now_));
  }
  TenantLimits busy;
  busy.set_gateways(4, now_);
  busy.set_quota(kA, {.concurrency = 50}, now_);
  int at_once = 0;
  while (!busy.admit(kA, kBody, now_)) ++at_once;
  EXPECT_EQ(at_once, 12);
  busy.set_quota(kB, {.requests_per_minute = 1, .concurrency = 1}, now_);
  EXPECT_FALSE(busy.admit(kB, kBody, now_)) << "the smallest share is one";
}

TEST_F(TenantLimitsTest, AnotherNumberOfGatewaysNeitherForgivesNorForgets) {
  limits_.set_quota(kA, {.requests_per_minute = 40}, now_);
  for (int i = 0; i < 20; ++i) EXPECT_FALSE(limits_.admit(kA, kBody, now_));
  const auto left = [&] { return limits_.standing(kA).requests.left(now_); };
  limits_.set_gateways(4, now_);
  EXPECT_NEAR(left(), 5, 1e-9);
  limits_.set_gateways(1, now_);
  EXPECT_NEAR(left(), 20, 1e-9);
  limits_.set_gateways(0, now_);
  EXPECT_NEAR(left(), 20, 1e-9);
}

TEST_F(TenantLimitsTest, APromptLargerThanAMinutesWorthNeedsAFullBucket) {
  limits_.set_quota(kA, {.tokens_per_minute = 600}, now_);
  EXPECT_FALSE(limits_.admit_tokens(kA, Tokens(6000), kBody, now_));
  EXPECT_TRUE(limits_.admit_tokens(kA, Tokens(6000), kBody, now_));
  now_ += seconds(599);
  EXPECT_TRUE(limits_.admit_tokens(kA, Tokens(6000), kBody, now_));
  now_ += seconds(2);
  EXPECT_FALSE(limits_.admit_tokens(kA, Tokens(6000), kBody, now_));
}

TEST_F(TenantLimitsTest, ANewQuotaDoesNotForgiveWhatWasUsed) {
  limits_.set_quota(kA, {.requests_per_minute = 10}, now_);
  for (int i = 0; i < 8; ++i) EXPECT_FALSE(limits_.admit(kA, kBody, now_));
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
    if (!limits_.admit(kA, kBody, now_)) admitted.push_back(now_);
  }
  for (std::size_t i = 240; i < admitted.size(); ++i)
    ASSERT_GT(admitted[i] - admitted[i - 240], seconds(59));
}

}  // namespace
}  // namespace pd::policy
