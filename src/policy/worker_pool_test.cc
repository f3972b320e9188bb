#include "policy/worker_pool.h"

#include <gtest/gtest.h>

#include <map>

#include "base/rng.h"

namespace pd::policy {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Time kNow{seconds(1000)};

WorkerPool pool_of(int workers, int places, WorkerPoolOptions options = {}) {
  WorkerPool pool(options);
  for (int i = 1; i <= workers; ++i) pool.upsert(WorkerId(static_cast<std::uint64_t>(i)), places);
  return pool;
}

TEST(WorkerPool, FewestOpenLegsFirst) {
  WorkerPool pool = pool_of(3, 4);
  std::map<WorkerId, int> sent;
  for (std::uint64_t key = 0; key < 12; ++key) {
    const auto worker = pool.choose(kNow, {.key = key});
    ASSERT_TRUE(worker);
    pool.on_sent(*worker);
    ++sent[*worker];
  }
  for (const auto& [worker, count] : sent) EXPECT_EQ(count, 4);
  EXPECT_FALSE(pool.choose(kNow, {})) << "all are full";
  EXPECT_FALSE(pool.any_free(kNow));
  pool.on_leg_ended(WorkerId(2), true);
  EXPECT_EQ(pool.choose(kNow, {}), WorkerId(2));
}

TEST(WorkerPool, TheKindThatIsAskedForOrNone) {
  WorkerPool pool({});
  pool.upsert(WorkerId(1), 1, false);
  EXPECT_FALSE(pool.mixed());
  pool.upsert(WorkerId(2), 1, true);
  EXPECT_TRUE(pool.mixed());
  EXPECT_EQ(pool.choose(kNow, {.whole = true}), WorkerId(2));
  EXPECT_EQ(pool.choose(kNow, {.cached = WorkerId(2), .whole = false}), WorkerId(1));
  pool.on_sent(WorkerId(2));
  EXPECT_EQ(pool.choose(kNow, {.whole = true}), std::nullopt);
  pool.remove(WorkerId(1));
  EXPECT_FALSE(pool.mixed());
}

TEST(WorkerPool, FillingTakesTheOneThatAcceptedUntilItIsFull) {
  WorkerPool pool = pool_of(3, 3, {.forwarding = Forwarding::kFill});
  const auto first = pool.choose(kNow, {.key = 1});
  for (std::uint64_t key = 1; key <= 3; ++key) {
    const auto worker = pool.choose(kNow, {.key = key});
    EXPECT_EQ(worker, first);
    pool.on_sent(*worker);
    pool.on_accepted(*worker);
  }
  EXPECT_NE(pool.choose(kNow, {.key = 1}), first);
}

TEST(WorkerPool, FillingGoesOnBeforeTheFirstAnswerAndEndsWithARejection) {
  WorkerPool pool = pool_of(3, 3, {.forwarding = Forwarding::kFill});
  const auto first = pool.choose(kNow, {.key = 1});
  pool.on_sent(*first);
  EXPECT_EQ(pool.choose(kNow, {.key = 2}), first);
  pool.on_leg_ended(*first, false);
  pool.on_rejected(*first, std::chrono::milliseconds(10), kNow);
  EXPECT_NE(pool.choose(kNow, {.key = 2}), first);
}

TEST(WorkerPool, GatewaysThatShareNothingDoNotChooseAlike) {
  std::map<WorkerId, int> first_choice;
  for (std::uint64_t gateway = 0; gateway < 320; ++gateway) {
    const WorkerPool pool = pool_of(32, 4);
    ++first_choice[*pool.choose(kNow, {.key = counter_random(gateway, 0)})];
  }
  for (const auto& [worker, count] : first_choice) EXPECT_LE(count, 25) << worker.value();
  EXPECT_GE(first_choice.size(), 28u);
}

TEST(WorkerPool, ThePrefixsInstanceIsTakenWithinTheBoundedLoad) {
  WorkerPool pool = pool_of(4, 100);
  std::map<WorkerId, int> sent;
  for (std::uint64_t i = 0; i < 80; ++i) {
    const auto worker = pool.choose(kNow, {.cached = WorkerId(3), .key = i});
    pool.on_sent(*worker);
    ++sent[*worker];
  }
  EXPECT_NEAR(sent[WorkerId(3)], 25, 1) << "1.25 times its share of 80";
  for (const std::uint64_t other : {1, 2, 4}) EXPECT_NEAR(sent[WorkerId(other)], 18, 2);
}

TEST(WorkerPool, AnInstanceThatCannotBeAskedIsNoPreference) {
  WorkerPool pool = pool_of(2, 1);
  pool.on_rejected(WorkerId(1), milliseconds(10), kNow);
  EXPECT_EQ(pool.choose(kNow, {.cached = WorkerId(1)}), WorkerId(2));
  EXPECT_EQ(pool.choose(kNow, {.cached = WorkerId(77)}), WorkerId(2)) << "it has gone";
  pool.on_silent(WorkerId(2));
  EXPECT_FALSE(pool.choose(kNow, {}));
  EXPECT_EQ(pool.next_unblock(kNow), kNow + milliseconds(10));
  EXPECT_EQ(pool.choose(kNow + milliseconds(10), {}), WorkerId(1));
}

TEST(WorkerPool, HintsAreBelievedWithinBounds) {
  WorkerPool pool = pool_of(1, 1);
  const WorkerPoolOptions options;
  pool.on_rejected(WorkerId(1), Duration(0), kNow);
  EXPECT_EQ(pool.next_unblock(kNow), kNow + options.reject_pause);
  pool.on_rejected(WorkerId(1), milliseconds(250), kNow);
  EXPECT_EQ(pool.next_unblock(kNow), kNow + milliseconds(250)) << "a short one is waited out";
  pool.on_rejected(WorkerId(1), seconds(3600), kNow);
  EXPECT_EQ(pool.next_unblock(kNow), kNow + options.reject_pause_max / 2) << "a look halfway";
  const Time later = kNow + options.reject_pause_max / 2;
  pool.on_rejected(WorkerId(1), seconds(3600), later);
  EXPECT_EQ(pool.next_unblock(later), later + options.reject_pause_max) << "and no second one";
}

TEST(WorkerPool, AFreedPlaceEndsTheWaitForTheHint) {
  WorkerPool pool = pool_of(1, 2);
  pool.on_sent(WorkerId(1));
  pool.on_accepted(WorkerId(1));
  pool.on_rejected(WorkerId(1), seconds(2), kNow);
  EXPECT_FALSE(pool.any_free(kNow));
  pool.on_leg_ended(WorkerId(1), false);
  EXPECT_FALSE(pool.any_free(kNow)) << "a leg that it had not taken holds no place";
  pool.on_sent(WorkerId(1));
  pool.on_accepted(WorkerId(1));
  EXPECT_FALSE(pool.any_free(kNow));
  pool.on_leg_ended(WorkerId(1), true);
  EXPECT_TRUE(pool.any_free(kNow));
}

TEST(WorkerPool, WhoHasRejectedIsAskedByOneAtATimeUntilItAccepts) {
  WorkerPool pool = pool_of(1, 8);
  pool.on_rejected(WorkerId(1), milliseconds(1), kNow);
  const Time later = kNow + milliseconds(10);
  ASSERT_TRUE(pool.choose(later, {}));
  pool.on_sent(WorkerId(1));
  EXPECT_FALSE(pool.choose(later, {}));
  pool.on_accepted(WorkerId(1));
  for (int i = 0; i < 7; ++i) {
    ASSERT_TRUE(pool.choose(later, {}));
    pool.on_sent(WorkerId(1));
  }
}

TEST(WorkerPool, AmongEqualsTheOneThatRejectedLongestAgo) {
  WorkerPool pool = pool_of(3, 4);
  Time now = kNow;
  for (const std::uint64_t id : {2, 3, 1}) {
    pool.on_rejected(WorkerId(id), milliseconds(1), now);
    now += milliseconds(1);
  }
  now += milliseconds(10);
  for (std::uint64_t key = 0; key < 20; ++key)
    EXPECT_EQ(pool.choose(now, {.key = key}), WorkerId(2));
  const std::vector<WorkerId> tried{WorkerId(2)};
  EXPECT_EQ(pool.choose(now, {.tried = tried}), WorkerId(3));
  std::map<WorkerId, int> first_choice;
  for (std::uint64_t key = 0; key < 20; ++key)
    ++first_choice[*pool.choose(now + seconds(10), {.key = key})];
  EXPECT_EQ(first_choice.size(), 3u) << "an old rejection says nothing";
}

TEST(WorkerPool, FaultsInARowAreAskedEverLessOften) {
  WorkerPool pool = pool_of(1, 1);
  Time now = kNow;
  Duration last{};
  for (int i = 0; i < 5; ++i) {
    pool.on_fault(WorkerId(1), now);
    const Duration pause = *pool.next_unblock(now) - now;
    EXPECT_GT(pause, last);
    last = pause;
    now += pause;
  }
  pool.on_answered(WorkerId(1));
  pool.on_fault(WorkerId(1), now);
  EXPECT_EQ(*pool.next_unblock(now) - now, WorkerPoolOptions{}.fault_pause);
}

}  // namespace
}  // namespace pd::policy
