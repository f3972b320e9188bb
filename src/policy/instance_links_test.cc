#include "policy/instance_links.h"

#include <gtest/gtest.h>

namespace pd::policy {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr WorkerId kOne{1}, kTwo{2};

class InstanceLinksTest : public testing::Test {
 protected:
  const Renew::Held a_{{0, 1}, 1}, b_{{0, 2}, 1};
  LinkOptions options_;
  InstanceLinks links_{options_};
  Time now_{seconds(1000)};
};

TEST_F(InstanceLinksTest, RenewsWhatIsHeldAndNothingElse) {
  EXPECT_FALSE(links_.next_deadline());
  links_.hold(kOne, a_, now_);
  links_.hold(kOne, b_, now_);
  links_.let_go(kOne, b_);
  links_.hold(kTwo, b_, now_);
  links_.let_go(kTwo, b_);
  EXPECT_TRUE(links_.poll(now_).renewals.empty());
  EXPECT_EQ(links_.next_deadline(), now_ + options_.renew_every);
  now_ += options_.renew_every;
  const auto due = links_.poll(now_);
  ASSERT_EQ(due.renewals.size(), 1u);
  EXPECT_EQ(due.renewals[0].worker, kOne);
  EXPECT_EQ(due.renewals[0].held, std::vector{a_});
  links_.on_heard(kOne, {}, now_);
  links_.let_go(kOne, a_);
  EXPECT_FALSE(links_.next_deadline()) << "nothing held, nobody silent: nothing to do";
}

TEST_F(InstanceLinksTest, WhoDoesNotAnswerIsSilentUntilItDoes) {
  links_.hold(kOne, a_, now_);
  const Time start = now_;
  std::vector<WorkerId> silent;
  while (silent.empty() && now_ < start + seconds(10)) {
    now_ = *links_.next_deadline();
    silent = links_.poll(now_).silent;
  }
  EXPECT_EQ(silent, std::vector{kOne});
  EXPECT_EQ(now_ - start, options_.renew_every + options_.silent_after);
  EXPECT_EQ(links_.silent(), 1);
  links_.let_go(kOne, a_);
  now_ = *links_.next_deadline();
  const auto due = links_.poll(now_);
  EXPECT_EQ(due.renewals.size(), 1u) << "it is still asked whether it is back";
  EXPECT_TRUE(due.silent.empty()) << "said once";
  links_.on_heard(kOne, {}, now_);
  EXPECT_EQ(links_.silent(), 0);
}

TEST_F(InstanceLinksTest, ALegIsLostWhenItWasDeniedTwiceInARow) {
  links_.hold(kOne, a_, now_);
  links_.hold(kOne, b_, now_);
  EXPECT_TRUE(links_.on_heard(kOne, {a_}, now_).empty());
  EXPECT_TRUE(links_.on_heard(kOne, {b_}, now_).empty());
  EXPECT_EQ(links_.on_heard(kOne, {b_}, now_), std::vector{b_});
}

TEST_F(InstanceLinksTest, WhoHasGoneIsForgotten) {
  links_.hold(kOne, a_, now_);
  now_ += seconds(1);
  (void)links_.poll(now_);
  now_ += seconds(10);
  (void)links_.poll(now_);
  EXPECT_EQ(links_.silent(), 1);
  links_.remove(kOne);
  EXPECT_EQ(links_.silent(), 0);
  EXPECT_FALSE(links_.next_deadline());
  EXPECT_TRUE(links_.held(kOne).empty());
}

}  // namespace
}  // namespace pd::policy
