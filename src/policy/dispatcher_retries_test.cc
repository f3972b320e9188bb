// What the retry budget is for and what it is not, with the defaults that are shipped.
#include "policy/dispatcher_fixture.h"

namespace pd::policy {
namespace {

using std::chrono::seconds;

constexpr WorkerId kP{1}, kD0{11}, kD1{12};

class RetriesTest : public DispatcherFixture {
 protected:
  RetriesTest() { use({}, {{kP, Role::kPrefill, 5000, 0, true}, d0_, d1_}); }
  std::vector<SendDecode> streams(int count) {
    for (int i = 0; i < count; ++i) submit(static_cast<std::uint64_t>(i), seconds(10), 100);
    return run_placed();
  }
  Member d0_{kD0, Role::kDecode, 0, 5000, true}, d1_{kD1, Role::kDecode, 0, 5000, true};
};

// G5: what an instance leaves behind when it dies goes on as fast as there is room for it.
TEST_F(RetriesTest, AThousandStreamsOfADeadDAreAllPlacedAtOnce) {
  const auto decoding = streams(2000);
  ASSERT_EQ(decoding.size(), 2000u);
  std::size_t lost = 0;
  for (const SendDecode& leg : decoding) lost += leg.worker == kD0;
  EXPECT_EQ(lost, 1000u);
  dispatcher_.on_topology({{kP, Role::kPrefill, 5000, 0, true}, d1_}, now_);
  EXPECT_EQ(polled<SendPrefill>().size(), lost);
}

// A network that has forgotten a connection: D has given up its streams, and P hears of none of
// them. Nothing of that is a retry that could multiply a load.
TEST_F(RetriesTest, AThousandStreamsThatADHasForgottenAreAllPlacedAtOnce) {
  const auto decoding = streams(2000);
  const auto denied = [&](WorkerId worker, const auto& legs) {
    std::vector<Renew::Held> unknown;
    for (const auto& leg : legs) {
      if (leg.worker == worker) unknown.push_back({leg.request, leg.leg});
    }
    for (int i = 0; i < 2; ++i) dispatcher_.on_heard(worker, unknown, now_);
    return unknown.size();
  };
  const std::size_t lost = denied(kD0, decoding);
  EXPECT_EQ(lost, 1000u);
  const auto unheard = polled<SendPrefill>();
  EXPECT_EQ(unheard.size(), lost);
  EXPECT_EQ(denied(kP, unheard), lost);
  EXPECT_TRUE(polled<SendPrefill>().empty()) << "it is left alone for a moment";
  now_ += DispatcherOptions{}.pool.fault_pause;
  EXPECT_EQ(polled<SendPrefill>().size(), lost);
  EXPECT_EQ(dispatcher_.restarts(), lost);
}

TEST_F(RetriesTest, FirstEvictionsAreFreeAndFurtherOnesAreATenthOfTheTraffic) {
  constexpr int kRequests = 200;
  auto decoding = streams(kRequests);
  for (const auto& leg : decoding) dispatcher_.on_evicted(leg.request, leg.leg, now_);
  decoding = run_placed();
  EXPECT_EQ(decoding.size(), static_cast<std::size_t>(kRequests));
  for (const auto& leg : decoding) dispatcher_.on_evicted(leg.request, leg.leg, now_);
  decoding = run_placed();
  EXPECT_EQ(static_cast<double>(decoding.size()), RetryBudgetOptions{}.burst);
  // One whose instance dies is not behind those.
  dispatcher_.on_fault(decoding[0].request, decoding[0].leg, {ErrorCode::kUnavailable, "gone"},
                       Blame::kBroke, now_);
  EXPECT_EQ(polled<SendPrefill>().size(), 1u);
  // New requests are not, either, and each tenth brings one of them back.
  const auto before = dispatcher_.waiting();
  for (int i = 0; i < 100; ++i) submit(1000 + static_cast<std::uint64_t>(i));
  EXPECT_NEAR(static_cast<double>(polled<SendPrefill>().size()), 110, 1);
  EXPECT_NEAR(static_cast<double>(before - dispatcher_.waiting()), 10, 1);
}

// It delays and never ends anything.
TEST_F(RetriesTest, WhatTheBudgetDelaysGoesOnThoughNothingComesIn) {
  for (const auto& leg : streams(30)) dispatcher_.on_evicted(leg.request, leg.leg, now_);
  for (const auto& leg : run_placed()) dispatcher_.on_evicted(leg.request, leg.leg, now_);
  std::size_t placed = run_placed().size();
  const Time start = now_;
  while (placed < 30 && now_ < start + seconds(900)) {
    now_ = *dispatcher_.next_deadline();
    for (const auto& action : dispatcher_.poll(now_)) {
      if (const auto* renew = std::get_if<Renew>(&action))
        dispatcher_.on_heard(renew->worker, {}, now_);
      placed += std::holds_alternative<SendPrefill>(action);
    }
  }
  EXPECT_EQ(placed, 30u);
  // One in ten seconds, once that is more than what the 30 have brought themselves.
  EXPECT_LT(to_seconds(now_ - start), 10.5 * (30 + 3 - RetryBudgetOptions{}.burst));
}

}  // namespace
}  // namespace pd::policy
