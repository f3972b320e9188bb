#include "policy/whole_service.h"

#include <gtest/gtest.h>

#include "base/rng.h"

namespace pd::policy {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

class WholeServiceTest : public testing::Test {
 protected:
  WholeServiceTest() {
    for (int i = 0; i < 200; ++i) {
      const std::int64_t tokens = 16 + 8 * (i % 60);
      service_.on_prefilled(Tokens(tokens), microseconds(100) * tokens);
      service_.on_joined(false, Tokens(tokens), milliseconds(4) + microseconds(10) * tokens);
      service_.on_joined(true, Tokens(tokens), milliseconds(1));
    }
  }
  // Nobody waits anywhere; `decoding` requests on the aggregated one.
  bool whole(std::int64_t prompt, std::int64_t cached_there = 0, int decoding = 0) {
    return service_.prefers_whole(Tokens(prompt), {Tokens(0), Tokens(prompt), 0},
                                  {Tokens(0), Tokens(prompt - cached_there), decoding});
  }
  WholeService service_{{}};
};

TEST_F(WholeServiceTest, WithNobodyToDisturbTheHandoffIsSaved) {
  EXPECT_TRUE(whole(16));
  EXPECT_TRUE(whole(4000));
}

TEST_F(WholeServiceTest, LongPromptsGoApartWhenOthersWouldWaitForThem) {
  EXPECT_TRUE(whole(16, 0, 1)) << "1.6 ms of one other against 3 ms of handoff";
  EXPECT_FALSE(whole(200, 0, 1));
  EXPECT_FALSE(whole(16, 0, 8));
}

TEST_F(WholeServiceTest, WhatIsCachedThereCountsAsShort) {
  EXPECT_FALSE(whole(400, 0, 4));
  EXPECT_TRUE(whole(400, 384, 4));
}

TEST_F(WholeServiceTest, AQueueCounts) {
  EXPECT_FALSE(
      service_.prefers_whole(Tokens(16), {Tokens(0), Tokens(16), 0}, {Tokens(500), Tokens(16), 0}));
  EXPECT_TRUE(service_.prefers_whole(Tokens(200), {Tokens(2000), Tokens(200), 0},
                                     {Tokens(0), Tokens(200), 2}));
}

TEST(WholeService, ABadFirstMeasureDoesNotStay) {
  WholeService service({});
  const WholeSide side{Tokens(0), Tokens(200), 0};
  for (int i = 0; i < 5; ++i) {
    service.on_joined(true, Tokens(200), milliseconds(9));  // cold
    service.on_joined(false, Tokens(200), milliseconds(3));
    service.on_prefilled(Tokens(200), milliseconds(4));
  }
  int whole = 0;
  for (int i = 0; i < 1000; ++i) {
    const bool chosen = service.prefers_whole(Tokens(200), side, side);
    whole += static_cast<int>(i >= 900 && chosen);
    service.on_joined(chosen, Tokens(200), chosen ? milliseconds(2) : milliseconds(3));
  }
  EXPECT_GE(whole, 90);
  EXPECT_LT(whole, 100) << "and the other is tried, too";
}

TEST(WholeService, ModesThatDoNotMeasure) {
  WholeService off({.mode = WholeMode::kOff});
  EXPECT_FALSE(off.prefers_whole(Tokens(1), {Tokens(9999), Tokens(1), 0}, {}));
  EXPECT_TRUE(off.strict());
  WholeService threshold({.mode = WholeMode::kThreshold, .threshold = Tokens(100)});
  EXPECT_TRUE(threshold.prefers_whole(Tokens(500), {}, {Tokens(0), Tokens(100), 50}));
  EXPECT_FALSE(threshold.prefers_whole(Tokens(500), {}, {Tokens(0), Tokens(101), 0}));
}

}  // namespace
}  // namespace pd::policy
