#include "policy/group.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/rng.h"

namespace pd::policy {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// Drives a group whose instances do everything right unless told otherwise.
class GroupTest : public testing::Test {
 protected:
  explicit GroupTest(GroupOptions options = {.prefill = 2, .decode = 2})
      : group_(options, WorkerId(1)) {}

  void poll() {
    for (const auto& action : group_.poll(now_)) {
      if (const auto* start = std::get_if<StartInstance>(&action)) started_.push_back(start->id);
      if (const auto* assign = std::get_if<AssignRole>(&action)) assigned_.push_back(*assign);
      if (const auto* warm = std::get_if<WarmUp>(&action)) warm_.push_back(*warm);
      if (const auto* stop = std::get_if<StopInstance>(&action)) stopped_.push_back(stop->id);
      if (std::holds_alternative<PublishMembers>(action)) published_.push_back(group_.members());
    }
  }
  BootId boot(WorkerId id) { return BootId(id.value() * 100); }
  void report(WorkerId id, bool loaded) {
    group_.on_report(id, {boot(id), loaded, loaded, "", false}, now_);
  }
  void register_started() {
    for (const WorkerId id : std::exchange(started_, {})) group_.on_registered(id, boot(id), now_);
  }
  void finish_warm_ups(WarmUpResult result = WarmUpResult::kOk) {
    for (const WarmUp& warm : std::exchange(warm_, {}))
      group_.on_warm(warm.prefill, warm.decode, result, "no", now_);
  }
  void load_all() {
    poll();
    register_started();
    poll();
    for (const auto& assign : std::exchange(assigned_, {})) report(assign.id, true);
    poll();
  }
  void set_up() {
    load_all();
    finish_warm_ups();
    poll();
  }

  Time now_{seconds(1000)};
  Group group_;
  std::vector<WorkerId> started_, stopped_;
  std::vector<AssignRole> assigned_;
  std::vector<WarmUp> warm_;
  std::vector<std::vector<WorkerId>> published_;
};

TEST_F(GroupTest, SetsUpInTheSafeOrder) {
  poll();
  ASSERT_EQ(started_.size(), 4u);
  group_.on_registered(started_[0], boot(started_[0]), now_);
  poll();
  EXPECT_TRUE(assigned_.empty()) << "no role before all have reported";
  register_started();
  poll();
  ASSERT_EQ(assigned_.size(), 4u);
  for (const auto& assign : assigned_) EXPECT_EQ(assign.peers.size(), 2u);
  EXPECT_TRUE(group_.members().empty());
  for (const auto& assign : assigned_) report(assign.id, true);
  poll();
  EXPECT_EQ(warm_.size(), 2u) << "each P with a D";
  EXPECT_TRUE(group_.members().empty()) << "nobody is announced before its warm-up";
  finish_warm_ups();
  poll();
  EXPECT_TRUE(group_.complete());
}

TEST_F(GroupTest, OneDeathOneSubstitute) {
  set_up();
  ASSERT_TRUE(group_.complete());
  published_.clear();
  const WorkerId dead = group_.members()[3];
  group_.on_exited(dead, "killed by signal 9", now_);
  poll();
  ASSERT_FALSE(published_.empty());
  EXPECT_EQ(std::ranges::count(published_[0], dead), 0);
  ASSERT_EQ(started_.size(), 1u);
  EXPECT_TRUE(stopped_.empty());
  EXPECT_EQ(group_.substitutes(), 1);
  register_started();
  poll();
  ASSERT_EQ(assigned_.size(), 1u);
  report(assigned_[0].id, true);
  poll();
  ASSERT_EQ(warm_.size(), 1u);
  finish_warm_ups();
  poll();
  EXPECT_TRUE(group_.complete());
  EXPECT_TRUE(started_.empty());
}

TEST_F(GroupTest, SilenceIsDeathAfterItsLimitAndMembershipGoesFirst) {
  set_up();
  const WorkerId silent = group_.members()[0];
  const Time until = now_ + seconds(7);
  while (now_ < until && stopped_.empty()) {
    now_ += seconds(1);
    for (const WorkerId id : group_.members()) {
      if (id != silent) report(id, true);
    }
    poll();
  }
  ASSERT_EQ(stopped_, std::vector<WorkerId>{silent});
  EXPECT_EQ(std::ranges::count(group_.members(), silent), 0);
  EXPECT_EQ(started_.size(), 1u);
  group_.on_exited(silent, "killed by signal 9", now_);
  poll();
  EXPECT_EQ(started_.size(), 1u) << "its exit is the same death";
}

TEST_F(GroupTest, AnInstanceThatDiesBeforeItServesIsTriedAgainEverMoreSlowly) {
  poll();
  register_started();
  poll();
  assigned_.clear();
  std::vector<Duration> gaps;
  WorkerId victim(1);
  for (int i = 0; i < 5; ++i) {
    group_.on_exited(victim, "exit status 1", now_);
    const Time died = now_;
    started_.clear();
    poll();
    while (started_.empty()) {
      now_ = std::max(now_ + milliseconds(1), *group_.next_deadline());
      for (const auto& [id, instance] : group_.instances()) report(id, false);
      poll();
    }
    gaps.push_back(now_ - died);
    victim = started_[0];
    EXPECT_EQ(started_.size(), 1u);
  }
  EXPECT_TRUE(std::ranges::is_sorted(gaps));
  EXPECT_GE(gaps.back(), 8 * gaps.front());
}

TEST_F(GroupTest, AFailedWarmUpAnnouncesNobodyAndIsTriedAgainEverMoreSlowly) {
  load_all();
  std::vector<Duration> gaps;
  for (int i = 0; i < 8; ++i) {
    ASSERT_EQ(warm_.size(), 2u);
    finish_warm_ups(WarmUpResult::kFailed);
    EXPECT_TRUE(group_.members().empty());
    const Time failed = now_;
    poll();
    EXPECT_TRUE(warm_.empty()) << "not at once";
    while (warm_.empty()) {
      const Time next = *group_.next_deadline();
      ASSERT_GT(next, now_) << "a deadline that has passed already would be polling";
      now_ = next;
      for (const auto& [id, instance] : group_.instances()) report(id, true);
      poll();
    }
    gaps.push_back(now_ - failed);
  }
  EXPECT_TRUE(std::ranges::is_sorted(gaps));
  EXPECT_GE(gaps.back(), 8 * gaps.front());
  finish_warm_ups();
  poll();
  EXPECT_TRUE(group_.complete());
  EXPECT_TRUE(stopped_.empty());
}

TEST_F(GroupTest, WarmUpsThatKeepFailingCostTheInstance) {
  load_all();
  for (int i = 0; i < 100 && stopped_.empty(); ++i) {
    finish_warm_ups(WarmUpResult::kFailed);
    now_ += seconds(1);
    for (const auto& [id, instance] : group_.instances()) report(id, true);
    poll();
  }
  EXPECT_EQ(stopped_.size(), 4u);
}

// P's places may all wait for the very D that is being warmed up.
TEST_F(GroupTest, ABusyPartnerIsAskedAgainForAsLongAsItTakes) {
  load_all();
  for (int i = 0; i < 1000; ++i) {
    finish_warm_ups(WarmUpResult::kBusy);
    now_ += seconds(1);
    for (const auto& [id, instance] : group_.instances()) report(id, true);
    poll();
  }
  EXPECT_TRUE(stopped_.empty());
  finish_warm_ups();
  poll();
  EXPECT_TRUE(group_.complete());
}

TEST_F(GroupTest, AnotherProcessOnTheAddressIsNotTheInstance) {
  set_up();
  const WorkerId id = group_.members()[0];
  group_.on_report(id, {BootId(1), true, true, "", false}, now_);
  poll();
  EXPECT_EQ(stopped_, std::vector<WorkerId>{id});
}

// Random deaths, silences and failures: the membership holds only warmed instances, and never more
// instances live than desired; when the trouble ends, the group becomes complete.
TEST(Group, AggregatedOnesBesidePrefillOnesAreTheirPeersAndServeFirst) {
  Group group({.prefill = 1, .decode = 0, .both = 1}, WorkerId(1));
  Time now{seconds(1000)};
  const auto polled = [&] { return group.poll(now); };
  EXPECT_EQ(polled().size(), 2u);
  for (std::uint64_t id = 1; id <= 2; ++id) group.on_registered(WorkerId(id), BootId(id), now);
  for (const auto& action : polled()) {
    const auto* assign = std::get_if<AssignRole>(&action);
    ASSERT_NE(assign, nullptr);
    EXPECT_EQ(assign->peers, std::vector{WorkerId(3 - assign->id.value())});
  }
  for (std::uint64_t id = 1; id <= 2; ++id)
    group.on_report(WorkerId(id), {BootId(id), true, true, "", false}, now);
  auto actions = polled();
  ASSERT_EQ(actions.size(), 1u);
  const WarmUp own = std::get<WarmUp>(actions[0]);
  EXPECT_EQ(own.prefill, own.decode) << "the aggregated one, by itself";
  group.on_warm(own.prefill, own.decode, WarmUpResult::kOk, "", now);
  const WorkerId prefill(3 - own.prefill.value());
  std::vector<WarmUp> warm;
  for (const auto& action : polled()) {
    if (const auto* one = std::get_if<WarmUp>(&action)) warm.push_back(*one);
  }
  ASSERT_EQ(warm.size(), 1u);
  EXPECT_EQ(warm[0].prefill, prefill);
  EXPECT_EQ(warm[0].decode, own.decode);
  group.on_warm(prefill, own.decode, WarmUpResult::kOk, "", now);
  EXPECT_TRUE(group.complete());
}

TEST(GroupProperty, ConvergesAfterAnyTrouble) {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    Rng rng(seed);
    Time now{seconds(1000)};
    Group group({.prefill = 2, .decode = 3}, WorkerId(1));
    std::set<WorkerId> warmed;
    std::map<WorkerId, bool> loading;
    const auto step = [&](bool trouble) {
      for (const auto& action : group.poll(now)) {
        if (const auto* start = std::get_if<StartInstance>(&action)) {
          if (trouble && rng.below(5) == 0)
            group.on_exited(start->id, "failed", now);
          else
            group.on_registered(start->id, BootId(start->id.value()), now);
        } else if (const auto* assign = std::get_if<AssignRole>(&action)) {
          loading[assign->id] = true;
        } else if (const auto* warm = std::get_if<WarmUp>(&action)) {
          const bool ok = !trouble || rng.below(3) != 0;
          if (ok) warmed.insert({warm->prefill, warm->decode});
          group.on_warm(warm->prefill, warm->decode, ok ? WarmUpResult::kOk : WarmUpResult::kFailed,
                        "failed", now);
        } else if (const auto* stop = std::get_if<StopInstance>(&action)) {
          group.on_exited(stop->id, "stopped", now);
        }
      }
      for (const WorkerId id : group.members()) ASSERT_TRUE(warmed.contains(id)) << "seed " << seed;
      int live = 0;
      for (const auto& [id, instance] : group.instances())
        live += instance.state != InstanceState::kStopping;
      ASSERT_LE(live, 5) << "seed " << seed;
    };
    for (int round = 0; round < 600; ++round) {
      const bool trouble = round < 200;
      now += milliseconds(200);
      std::vector<WorkerId> all;
      for (const auto& [id, instance] : group.instances()) all.push_back(id);
      for (const WorkerId id : all) {
        if (trouble && rng.below(40) == 0)
          group.on_exited(id, "killed", now);
        else if (!trouble || rng.below(10) != 0)
          group.on_report(id, {BootId(id.value()), loading[id], true, "", false}, now);
      }
      step(trouble);
    }
    EXPECT_TRUE(group.complete()) << "seed " << seed;
  }
}

}  // namespace
}  // namespace pd::policy
