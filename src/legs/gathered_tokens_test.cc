#include "legs/gathered_tokens.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace pd::legs {
namespace {

using protocol::FinishReason;
using protocol::TokensFrame;

TokensFrame token(std::uint32_t index, FinishReason finish = FinishReason::kNone) {
  TokensFrame out;
  out.index = index;
  out.ids = {static_cast<TokenId>(100 + index)};
  out.text = std::to_string(index) + " ";
  out.finish = finish;
  out.logprobs = {{{static_cast<TokenId>(100 + index), -0.5F}, {}}};
  return out;
}

TEST(GatheredTokens, AllOfAShortAnswerAreOneFrame) {
  GatheredTokens gathered;
  const Time now{};
  EXPECT_FALSE(gathered.add(token(1), now));
  EXPECT_FALSE(gathered.add(token(2), now));
  const auto frame = gathered.add(token(3, FinishReason::kLength), now);
  ASSERT_TRUE(frame);
  EXPECT_EQ(frame->index, 1U);
  EXPECT_EQ(frame->ids, (std::vector<TokenId>{101, 102, 103}));
  EXPECT_EQ(frame->text, "1 2 3 ");
  EXPECT_EQ(frame->finish, FinishReason::kLength);
  ASSERT_EQ(frame->logprobs.size(), 3U);
  EXPECT_EQ(frame->logprobs[2].chosen.id, 103);
  EXPECT_FALSE(gathered.take());
}

// However slow the steps are, a token waits for the time or for the next step, no more.
TEST(GatheredTokens, NoneWaitsLongerThanTheTime) {
  for (const Duration step : {kGatherTime / 10, kGatherTime, 3 * kGatherTime}) {
    GatheredTokens gathered;
    Time now{};
    std::uint32_t sent = 0;
    std::vector<Time> added;
    for (std::uint32_t i = 0; i < 100; ++i, now += step) {
      added.push_back(now);
      if (const auto frame = gathered.add(token(i), now)) {
        EXPECT_EQ(frame->index, sent);
        sent += static_cast<std::uint32_t>(frame->ids.size());
        EXPECT_EQ(sent, i + 1);
      }
      if (sent <= i) {
        EXPECT_LT(now - added[sent], kGatherTime);
      }
    }
    EXPECT_GE(sent, 99U) << "of steps that are longer every second one is sent";
  }
}

TEST(GatheredTokens, GivesBackWhatItHoldsOnce) {
  GatheredTokens gathered;
  EXPECT_FALSE(gathered.take());
  gathered.add(token(7), Time{});
  const auto frame = gathered.take();
  ASSERT_TRUE(frame);
  EXPECT_EQ(*frame, token(7));
  EXPECT_FALSE(gathered.take());
}

}  // namespace
}  // namespace pd::legs
