#include "policy/waiting_line.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/rng.h"

namespace pd::policy {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr TenantId kA{1}, kB{2};

class WaitingLineTest : public testing::Test {
 protected:
  Waiter add(TenantId tenant, std::int64_t tokens, Time deadline) {
    const Waiter waiter{.request = {tenant.value(), order_},
                        .tenant = tenant,
                        .work = Tokens(tokens),
                        .first_token = deadline,
                        .order = order_++};
    line_.add(waiter);
    waiting_[waiter.request] = waiter;
    return waiter;
  }
  // As the dispatcher does: placed and paid for.
  Waiter take() {
    const auto id = line_.next();
    const Waiter waiter = waiting_.at(*id);
    line_.charge_prompt(waiter.tenant, waiter.work);
    line_.remove(waiter);
    waiting_.erase(*id);
    return waiter;
  }
  WaitingLineOptions options_;
  WaitingLine line_{options_};
  std::map<RequestId, Waiter> waiting_;
  std::uint64_t order_ = 0;
  Time now_{seconds(1000)};
};

TEST_F(WaitingLineTest, OneTenantsRequestsGoByDeadline) {
  const Waiter late = add(kA, 10, now_ + seconds(9));
  const Waiter early = add(kA, 10, now_ + seconds(5));
  EXPECT_EQ(line_.first_overdue()->second, early.request);
  EXPECT_EQ(take().request, early.request);
  EXPECT_EQ(take().request, late.request);
  EXPECT_TRUE(line_.empty());
  EXPECT_FALSE(line_.next());
  EXPECT_FALSE(line_.first_overdue());
}

TEST_F(WaitingLineTest, PriorityIsWorthAHeadStartAndNoMore) {
  const auto first = [&](int priority, Duration later) {
    WaitingLine line(options_);
    line.add({.request = {0, 1}, .tenant = kA, .work = Tokens(1), .first_token = now_, .order = 1});
    line.add({.request = {0, 2},
              .tenant = kA,
              .work = Tokens(1),
              .priority = priority,
              .first_token = now_ + later,
              .order = 2});
    return line.next()->low;
  };
  EXPECT_EQ(first(1, milliseconds(400)), 2u);
  EXPECT_EQ(first(1, milliseconds(600)), 1u);
  EXPECT_EQ(first(-1, milliseconds(0)), 1u);
}

TEST_F(WaitingLineTest, ShortPromptsPassALongOneButNotForever) {
  const Waiter long_one = add(kA, 32'000, now_ + seconds(30));
  Time later = now_;
  int passed = 0;
  for (;; ++passed) {
    later += milliseconds(20);
    add(kA, 500, later + seconds(30));
    if (take().request == long_one.request) break;
  }
  EXPECT_GT(passed, 10);
  EXPECT_LE(later - now_, options_.aging_max + milliseconds(20));
}

TEST_F(WaitingLineTest, WhatIsLongIsLearnedFromPrefillTimes) {
  const auto passed_by = [&](Duration per_token) {
    WaitingLine line(options_);
    for (int i = 0; i < 200; ++i) line.on_prefilled(Tokens(1000), per_token * 1000);
    line.add(
        {.request = {0, 1}, .tenant = kA, .work = Tokens(1000), .first_token = now_, .order = 1});
    line.add({.request = {0, 2},
              .tenant = kA,
              .work = Tokens(1),
              .first_token = now_ + milliseconds(100),
              .order = 2});
    return *line.next() == RequestId{0, 2};
  };
  EXPECT_FALSE(passed_by(std::chrono::microseconds(1)));
  EXPECT_TRUE(passed_by(milliseconds(1)));
}

TEST_F(WaitingLineTest, TenantsShareByTokensOfWorkNotByRequests) {
  std::map<TenantId, std::int64_t> served;
  for (int i = 0; i < 400; ++i) {
    add(kA, 100, now_ + seconds(1));
    if (i % 4 == 0) add(kB, 400, now_ + seconds(1));
  }
  for (int i = 0; i < 250; ++i) {
    const Waiter waiter = take();
    served[waiter.tenant] += waiter.work.value();
  }
  EXPECT_NEAR(static_cast<double>(served[kA]), static_cast<double>(served[kB]), 500);
}

TEST_F(WaitingLineTest, WeightsDivideTheShares) {
  line_.set_weight(kB, 3);
  std::map<TenantId, int> served;
  for (int i = 0; i < 400; ++i) {
    add(kA, 100, now_ + seconds(1));
    add(kB, 100, now_ + seconds(1));
  }
  for (int i = 0; i < 400; ++i) ++served[take().tenant];
  EXPECT_NEAR(served[kB], 300, 2);
}

TEST_F(WaitingLineTest, AQuietTenantWaitsForOneRequestOfALoudOne) {
  for (int i = 0; i < 1000; ++i) add(kA, 1000, now_ + seconds(1));
  for (int i = 0; i < 100; ++i) take();
  const Waiter quiet = add(kB, 100, now_ + seconds(60));
  const bool first = take().request == quiet.request;
  EXPECT_TRUE(first || take().request == quiet.request);
}

TEST_F(WaitingLineTest, WhoWasAwayHasNothingSavedUp) {
  for (int i = 0; i < 300; ++i) add(kA, 100, now_ + seconds(1));
  for (int i = 0; i < 100; ++i) take();
  for (int i = 0; i < 300; ++i) add(kB, 100, now_ + seconds(1));
  std::map<TenantId, int> served;
  for (int i = 0; i < 100; ++i) ++served[take().tenant];
  EXPECT_NEAR(served[kA], 50, 2) << "the newcomer did not shut out who was there";
}

TEST_F(WaitingLineTest, OutputsCountToo) {
  for (int i = 0; i < 100; ++i) {
    add(kA, 100, now_ + seconds(1));
    add(kB, 100, now_ + seconds(1));
  }
  line_.charge_output(kA, Tokens(1000));  // worth 2000 of prompt
  std::map<TenantId, int> served;
  for (int i = 0; i < 40; ++i) ++served[take().tenant];
  EXPECT_NEAR(served[kB] - served[kA], 20, 1);
}

TEST_F(WaitingLineTest, WhatIsPlacedAgainStandsApart) {
  add(kA, 100, now_ + seconds(1));
  const Waiter broken{.request = {9, 9},
                      .tenant = kB,
                      .work = Tokens(100),
                      .first_token = now_ - seconds(5),
                      .order = 99,
                      .again = true,
                      .in_time = true};
  line_.add(broken);
  EXPECT_EQ(line_.size(), 2u);
  EXPECT_EQ(*line_.next_again(), broken.request);
  EXPECT_GT(line_.first_overdue()->first, now_) << "its first token is out: nothing is overdue";
  line_.remove(broken);
  line_.remove(broken);
  EXPECT_FALSE(line_.next_again());
  EXPECT_EQ(line_.size(), 1u);
}

// Any order of adding, taking and charging: nothing is lost, and no tenant that waits is ever
// behind another by more than the largest request in hand.
TEST(WaitingLineProperty, NoTenantFallsBehind) {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    Rng rng(seed);
    WaitingLine line{WaitingLineOptions{}};
    std::map<RequestId, Waiter> waiting;
    std::map<TenantId, int> of_tenant;
    std::uint64_t order = 0;
    for (int step = 0; step < 2000; ++step) {
      if (rng.below(2) == 0 || waiting.empty()) {
        const TenantId tenant(static_cast<std::uint32_t>(rng.below(5)));
        const Waiter waiter{.request = {seed, order},
                            .tenant = tenant,
                            .work = Tokens(1 + static_cast<std::int64_t>(rng.below(100))),
                            .first_token = Time(milliseconds(rng.below(10000))),
                            .order = order++};
        line.add(waiter);
        waiting[waiter.request] = waiter;
        ++of_tenant[tenant];
      } else {
        const Waiter waiter = waiting.at(*line.next());
        double least = line.served(waiter.tenant);
        for (const auto& [tenant, count] : of_tenant) {
          if (count > 0) least = std::min(least, line.served(tenant));
        }
        ASSERT_EQ(line.served(waiter.tenant), least) << "seed " << seed << " step " << step;
        line.charge_prompt(waiter.tenant, waiter.work);
        line.remove(waiter);
        waiting.erase(waiter.request);
        --of_tenant[waiter.tenant];
      }
      ASSERT_EQ(line.size(), waiting.size());
    }
  }
}

}  // namespace
}  // namespace pd::policy
