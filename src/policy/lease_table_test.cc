#include "policy/lease_table.h"

#include <gtest/gtest.h>

#include <map>

#include "base/rng.h"

namespace pd::policy {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

Holder holder(std::uint64_t n, std::uint32_t attempt = 1) { return {RequestId{0, n}, attempt}; }

TEST(LeaseTable, EndsUnlessRenewed) {
  LeaseTable leases(seconds(5));
  Time now{};
  leases.grant(holder(1), now);
  leases.grant(holder(2), now + seconds(1));
  EXPECT_EQ(leases.next_deadline(), now + seconds(5));
  EXPECT_TRUE(leases.expire(now + seconds(5) - Duration(1)).empty());
  EXPECT_TRUE(leases.renew(holder(1), now + seconds(4)));
  EXPECT_EQ(leases.next_deadline(), now + seconds(6));
  EXPECT_EQ(leases.expire(now + seconds(6)), std::vector<Holder>{holder(2)});
  EXPECT_FALSE(leases.holds(holder(2)));
  EXPECT_TRUE(leases.holds(holder(1)));
  EXPECT_EQ(leases.expire(now + seconds(9)), std::vector<Holder>{holder(1)});
  EXPECT_EQ(leases.next_deadline(), std::nullopt);
}

TEST(LeaseTable, AnEndedLeaseCannotBeRenewedEvenBeforeExpireIsAsked) {
  LeaseTable leases(seconds(5));
  leases.grant(holder(1), Time{});
  EXPECT_FALSE(leases.renew(holder(1), Time{} + seconds(5)));
  EXPECT_FALSE(leases.renew(holder(9), Time{}));
  EXPECT_EQ(leases.expire(Time{} + seconds(5)).size(), 1U);
}

TEST(LeaseTable, AttemptsOfOneRequestAreDifferentHolders) {
  LeaseTable leases(seconds(5));
  leases.grant(holder(1, 1), Time{});
  leases.grant(holder(1, 2), Time{} + seconds(1));
  leases.drop(holder(1, 2));
  leases.drop(holder(1, 3));
  EXPECT_EQ(leases.expire(Time{} + seconds(20)), std::vector<Holder>{holder(1, 1)});
}

TEST(LeaseTable, AgreesWithAMapOfEnds) {
  Rng rng(3);
  LeaseTable leases(milliseconds(100));
  std::map<Holder, Time> model;
  Time now{};
  for (int step = 0; step < 20000; ++step) {
    now += milliseconds(static_cast<std::int64_t>(rng.below(20)));
    const Holder who = holder(rng.below(12));
    switch (rng.below(4)) {
      case 0:
        leases.grant(who, now);
        model[who] = now + milliseconds(100);
        break;
      case 1: {
        const bool held = model.contains(who) && model[who] > now;
        ASSERT_EQ(leases.renew(who, now), held);
        if (held) model[who] = now + milliseconds(100);
        break;
      }
      case 2:
        leases.drop(who);
        model.erase(who);
        break;
      default: {
        const std::vector<Holder> ended = leases.expire(now);
        for (const Holder& h : ended) {
          ASSERT_LE(model.at(h), now);
          model.erase(h);
        }
        for (const auto& [h, end] : model) ASSERT_GT(end, now);
      }
    }
    ASSERT_EQ(leases.size(), model.size());
  }
}

}  // namespace
}  // namespace pd::policy
