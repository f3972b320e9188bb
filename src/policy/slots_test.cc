#include "policy/slots.h"

#include <gtest/gtest.h>

#include "base/rng.h"

namespace pd::policy {
namespace {

using std::chrono::milliseconds;
using Kind = SlotAnswer::Kind;

Holder holder(std::uint64_t n) { return {RequestId{0, n}, 1}; }
SlotsOptions two() {
  SlotsOptions options;
  options.slots = 2;
  return options;
}

TEST(Slots, AcceptsUpToItsNumberAndThenAtOnceRejects) {
  Slots slots(two());
  const Time now{};
  EXPECT_EQ(slots.ask(holder(1), Tokens(10), now).kind, Kind::kAccepted);
  EXPECT_EQ(slots.ask(holder(2), Tokens(10), now).kind, Kind::kAccepted);
  EXPECT_EQ(slots.ask(holder(1), Tokens(10), now).kind, Kind::kDuplicate);
  const SlotAnswer busy = slots.ask(holder(3), Tokens(10), now);
  EXPECT_EQ(busy.kind, Kind::kBusy);
  EXPECT_EQ(busy.hint, milliseconds(50));  // nothing measured yet: the first guess
  slots.release(holder(2), true, now);
  slots.release(holder(2), true, now);
  EXPECT_EQ(slots.used(), 1);
  EXPECT_EQ(slots.ask(holder(3), Tokens(10), now).kind, Kind::kAccepted);
}

TEST(Slots, HintFollowsMeasuredServiceTimes) {
  Slots slots(two());
  Time now{};
  // 1 ms per token, then 20 ms until the KV has left.
  slots.ask(holder(1), Tokens(100), now);
  slots.on_prefilled(holder(1), now + milliseconds(100));
  slots.release(holder(1), true, now + milliseconds(120));
  now += milliseconds(200);
  slots.ask(holder(2), Tokens(300), now);
  slots.ask(holder(3), Tokens(80), now);
  EXPECT_EQ(slots.ask(holder(4), Tokens(1), now).hint, milliseconds(100));
  EXPECT_EQ(slots.hint(now + milliseconds(30)), milliseconds(70));
  slots.on_prefilled(holder(2), now + milliseconds(40));
  EXPECT_EQ(slots.hint(now + milliseconds(40)), milliseconds(20));
}

TEST(Slots, AnOverdueSlotDoesNotInvitePolling) {
  Slots slots(two());
  const Time now{};
  slots.ask(holder(1), Tokens(1), now);
  slots.ask(holder(2), Tokens(1), now);
  EXPECT_EQ(slots.hint(now + milliseconds(800)), milliseconds(100));
  EXPECT_EQ(slots.hint(now + milliseconds(50)), Duration(milliseconds(50)) / 8);
  EXPECT_EQ(slots.hint(now + std::chrono::hours(1)), std::chrono::seconds(2));
}

TEST(Slots, CancelledRequestsTeachNothing) {
  Slots slots(two());
  const Time now{};
  slots.ask(holder(1), Tokens(1), now);
  slots.release(holder(1), false, now + std::chrono::hours(1));
  slots.ask(holder(1), Tokens(1), now);
  EXPECT_EQ(slots.hint(now), milliseconds(50));
}

TEST(Slots, NeverHoldsMoreThanItHas) {
  Rng rng(5);
  Slots slots(two());
  Time now{};
  for (int step = 0; step < 20000; ++step) {
    now += Duration(static_cast<std::int64_t>(rng.below(50'000'000)));
    const Holder who = holder(rng.below(6));
    switch (rng.below(3)) {
      case 0: {
        const bool held = slots.holds(who);
        const int used = slots.used();
        const SlotAnswer answer = slots.ask(who, Tokens(static_cast<int>(rng.below(5000))), now);
        ASSERT_EQ(answer.kind, held ? Kind::kDuplicate : used < 2 ? Kind::kAccepted : Kind::kBusy);
        if (answer.kind == Kind::kBusy) {
          ASSERT_GE(answer.hint, milliseconds(1));
          ASSERT_LE(answer.hint, std::chrono::seconds(2));
        }
        break;
      }
      case 1:
        slots.on_prefilled(who, now);
        break;
      default:
        slots.release(who, rng.below(2) == 0, now);
        ASSERT_FALSE(slots.holds(who));
    }
    ASSERT_LE(slots.used(), slots.total());
  }
}

}  // namespace
}  // namespace pd::policy
