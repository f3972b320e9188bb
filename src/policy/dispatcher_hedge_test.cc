// A slow prefill gets a second one.
#include "policy/dispatcher_fixture.h"

namespace pd::policy {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr WorkerId kP0{1}, kP1{2}, kD0{11};

class HedgeTest : public DispatcherFixture {
 protected:
  HedgeTest() { use({}); }
  void use(const RetryBudgetOptions& retries) {
    DispatcherFixture::use({.retries = retries, .hedge_after = milliseconds(500)},
                           {{kP0, Role::kPrefill, 1, 0, true},
                            {kP1, Role::kPrefill, 1, 0, true},
                            {kD0, Role::kDecode, 0, 4, true}});
  }
};

TEST_F(HedgeTest, ASlowPrefillGetsASecondOneElsewhereAndTheFirstOfThemCounts) {
  submit(1);
  const auto slow = polled<SendPrefill>();
  ASSERT_EQ(slow.size(), 1u);
  dispatcher_.on_accepted(slow[0].request, slow[0].leg, now_);
  EXPECT_EQ(dispatcher_.next_deadline(), now_ + milliseconds(500));
  now_ += milliseconds(499);
  EXPECT_TRUE(polled<SendPrefill>().empty());
  now_ += milliseconds(1);
  const auto second = polled<SendPrefill>();
  ASSERT_EQ(second.size(), 1u);
  EXPECT_NE(second[0].worker, slow[0].worker);
  now_ += seconds(1);
  EXPECT_TRUE(polled<SendPrefill>().empty()) << "two are enough";
  dispatcher_.on_accepted(second[0].request, second[0].leg, now_);
  EXPECT_TRUE(dispatcher_.on_tokens(second[0].request, second[0].leg, 0, 1, false, now_));
  dispatcher_.on_prefilled(second[0].request, second[0].leg, now_);
  bool cancelled = false, decoding = false;
  for (const auto& action : dispatcher_.poll(now_)) {
    if (const auto* cancel = std::get_if<Cancel>(&action)) cancelled = cancel->leg == slow[0].leg;
    decoding |= std::holds_alternative<SendDecode>(action);
  }
  EXPECT_TRUE(cancelled && decoding);
  // Its place is free again, as far as this gateway sees.
  submit(2);
  const auto next = polled<SendPrefill>();
  ASSERT_EQ(next.size(), 1u);
  EXPECT_EQ(next[0].worker, slow[0].worker);
  EXPECT_EQ(dispatcher_.record({0, 1}, now_)->hedges, 1);
}

TEST_F(HedgeTest, WhoHasNoPComesFirst) {
  submit(1);
  polled<SendPrefill>();
  submit(2);
  polled<SendPrefill>();
  now_ += milliseconds(500);
  submit(3);
  EXPECT_TRUE(polled<SendPrefill>().empty()) << "both are taken";
  now_ += milliseconds(100);
  EXPECT_TRUE(polled<SendPrefill>().empty());
  EXPECT_GT(*dispatcher_.next_deadline(), now_) << "it is looked for later, not polled for";
}

// Whoever is slow with it is no help to it, although it has another slot.
TEST_F(HedgeTest, TheSlowOneItselfIsNotAskedAgain) {
  DispatcherFixture::use({.hedge_after = milliseconds(500)},
                         {{kP0, Role::kPrefill, 4, 0, true}, {kD0, Role::kDecode, 0, 4, true}});
  submit(1);
  ASSERT_EQ(polled<SendPrefill>().size(), 1u);
  now_ += milliseconds(600);
  EXPECT_TRUE(polled<SendPrefill>().empty());
  dispatcher_.on_topology({{kP0, Role::kPrefill, 4, 0, true},
                           {kP1, Role::kPrefill, 4, 0, true},
                           {kD0, Role::kDecode, 0, 4, true}},
                          now_);
  now_ += milliseconds(600);
  const auto second = polled<SendPrefill>();
  ASSERT_EQ(second.size(), 1u);
  EXPECT_EQ(second[0].worker, kP1);
}

TEST_F(HedgeTest, TheRetryBudgetBoundsThem) {
  use({.share = 0, .per_second = 0.001, .burst = 0});
  submit(1);
  polled<SendPrefill>();
  now_ += seconds(1);
  EXPECT_TRUE(polled<SendPrefill>().empty());
}

TEST_F(HedgeTest, WhatIsInTimeIsNotHedged) {
  submit(1);
  for (const auto& leg : polled<SendPrefill>()) prefill(leg);
  now_ += seconds(2);
  EXPECT_TRUE(polled<SendPrefill>().empty());
}

}  // namespace
}  // namespace pd::policy
