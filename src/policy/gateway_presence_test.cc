#include "policy/gateway_presence.h"

#include <gtest/gtest.h>

namespace pd::policy {
namespace {

using std::chrono::seconds;

class GatewayPresenceTest : public testing::Test {
 protected:
  bool pass(int s) { return presence_.poll(now_ += seconds(s)); }
  Time now_{seconds(1000)};
  GatewayPresence presence_{{.grace = seconds(3), .gateways_max = 4}, now_};
};

TEST_F(GatewayPresenceTest, SaysNothingBeforeAllHadTimeToCome) {
  presence_.on_ask(1, now_);
  presence_.on_ask(2, now_);
  EXPECT_FALSE(pass(1));
  EXPECT_EQ(presence_.count(), 0);
  EXPECT_EQ(presence_.next_deadline(), now_ + seconds(2));
  EXPECT_TRUE(pass(2));
  EXPECT_EQ(presence_.count(), 2);
  EXPECT_FALSE(presence_.next_deadline()) << "who waits for an answer is there";
}

TEST_F(GatewayPresenceTest, WhoDoesNotComeBackIsGoneAfterTheGrace) {
  pass(3);
  presence_.on_ask(1, now_);
  presence_.on_ask(2, now_);
  presence_.on_ask(2, now_);  // two loops of one gateway are one
  EXPECT_TRUE(pass(0));
  EXPECT_EQ(presence_.count(), 2);
  presence_.on_end(2, now_);
  EXPECT_FALSE(pass(100)) << "its other loop still waits";
  presence_.on_end(2, now_);
  EXPECT_FALSE(pass(2));
  EXPECT_EQ(presence_.next_deadline(), now_ + seconds(1));
  EXPECT_TRUE(pass(1));
  EXPECT_EQ(presence_.count(), 1);
  presence_.on_end(1, now_);
  presence_.on_ask(1, now_ + seconds(2));
  EXPECT_FALSE(pass(100)) << "it asked again in time";
}

TEST_F(GatewayPresenceTest, RemembersNoMoreThanItMay) {
  pass(3);
  for (std::uint64_t id = 1; id <= 9; ++id) presence_.on_ask(id, now_);
  pass(0);
  EXPECT_EQ(presence_.count(), 4);
  presence_.on_end(9, now_);
  EXPECT_EQ(presence_.count(), 4);
}

}  // namespace
}  // namespace pd::policy
